"""ONNX Runtime on the fused float graph: slower than OpenVINO's int8, and it runs everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from darkseg_ros.errors import EngineError, one_line
from darkseg_ros.model.backends.protocol import EngineOutput, check_confidence
from darkseg_ros.model.backends.trial import Trial, try_once
from darkseg_ros.model.bundle import BundleFile, ModelBundle

_OUTPUTS = ("class_map", "confidence")


def try_graph(graph: BundleFile, *, outputs: tuple[str, ...], network_hw: tuple[int, int]) -> None:
    """Let a process of its own run a graph on one frame first, as `OnnxRuntimeGraph` does; see `trial.try_once`.

    Raises:
        EngineError: if ONNX Runtime is not installed or refuses the graph, or the graph takes too much memory or time.
    """
    try_once(
        Trial(
            library="onnxruntime",
            library_version=_import_onnxruntime().__version__,
            graph=str(graph.path),
            graph_sha256=graph.sha256,
            outputs=outputs,
            network_hw=network_hw,
        )
    )


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
        onnxruntime = _import_onnxruntime()
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


def _import_onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise EngineError(f"ONNX Runtime does not import ({error}); run `pip install onnxruntime`") from error
    return onnxruntime


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
        try_graph(bundle.fused_onnx, outputs=_OUTPUTS, network_hw=bundle.network_hw)
        graph = OnnxRuntimeGraph(bundle.fused_onnx.path, outputs=_OUTPUTS, threads=threads)
        self._graph: Any = graph
        self._class_count = len(bundle.classes)
        self.name = f"{graph.library} float CPU"

    def __call__(self, frames: np.ndarray) -> EngineOutput:
        answers = [self._graph(frames[index : index + 1]) for index in range(len(frames))]
        class_maps, confidences = zip(*answers, strict=True)
        output = EngineOutput(np.concatenate(class_maps), np.concatenate(confidences))
        check_confidence(output.confidence, self._class_count)
        return output

    def close(self) -> None:
        self._graph = None
