"""ONNX Runtime on the fused float graph: slower than OpenVINO's int8, and it runs everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from darkseg_ros.errors import EngineError, one_line
from darkseg_ros.model.backends.protocol import EngineOutput
from darkseg_ros.model.bundle import ModelBundle


class OnnxRuntimeGraph:
    """A graph with one input, ``frame``, on the CPU. Not thread-safe.

    Args:
        path: the ONNX file.
        outputs: the names that its outputs must have, in this order.
        threads: of the inference; 0 leaves the choice to the library.

    Attributes:
        library: its name and version.

    Raises:
        EngineError: if ONNX Runtime is not installed or cannot load the graph, or the graph has other ports.
    """

    def __init__(self, path: Path, *, outputs: Sequence[str], threads: int = 0) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise EngineError(f"ONNX Runtime does not import ({error}); run `pip install onnxruntime`") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        try:
            self._session: Any = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the library's exceptions share no base class
            raise EngineError(
                f"ONNX Runtime cannot load {path}: {one_line(error)}; copy the bundle again or export the model again"
            ) from error
        found = [[port.name for port in ports] for ports in (self._session.get_inputs(), self._session.get_outputs())]
        if found != [["frame"], list(outputs)]:
            raise EngineError(
                f"{path} has inputs {found[0]} and outputs {found[1]}; expected frame → {', '.join(outputs)}: "
                "export the model again"
            )
        self.library = f"onnxruntime {onnxruntime.__version__}"

    def __call__(self, frame: np.ndarray) -> list[np.ndarray]:
        """Run on one frame, (1, H, W, 3) uint8 BGR; gives the outputs.

        Raises:
            EngineError: if the library fails; the graph stays usable.
        """
        try:
            answers: list[np.ndarray] = self._session.run(None, {"frame": frame})
        except Exception as error:  # as above
            raise EngineError(f"ONNX Runtime failed on a frame of {frame.shape}: {error}") from error
        return answers


class OnnxRuntimeEngine:
    """See `darkseg_ros.model.backends.protocol.Engine`.

    Args:
        bundle: a checked bundle.
        threads: of the inference; 0 leaves the choice to the library.

    Raises:
        EngineError: if ONNX Runtime is not installed or cannot load the graph, or the graph has other ports.
    """

    batch_max = 1

    def __init__(self, bundle: ModelBundle, *, threads: int = 0) -> None:
        graph = OnnxRuntimeGraph(bundle.fused_onnx.path, outputs=("class_map", "confidence"), threads=threads)
        self._graph: Any = graph
        self.name = f"{graph.library} float CPU"

    def __call__(self, frames: np.ndarray) -> EngineOutput:
        answers = [self._graph(frames[index : index + 1]) for index in range(len(frames))]
        class_maps, confidences = zip(*answers, strict=True)
        return EngineOutput(np.concatenate(class_maps), np.concatenate(confidences))

    def close(self) -> None:
        self._graph = None
