"""Graphs in ONNX Runtime on the CPU, and what those on a GPU share with them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from darkseg_ros.errors import EngineError, one_line
from darkseg_ros.model.backends.trial import Trial, try_once
from darkseg_ros.model.bundle import BundleFile


def try_graph(graph: BundleFile, *, outputs: tuple[str, ...], network_hw: tuple[int, int]) -> None:
    """Let a process of its own run a graph on one frame first, as `OnnxRuntimeGraph` does; see `trial.try_once`.

    Raises:
        EngineError: if ONNX Runtime is not installed or refuses the graph, or the graph takes too much memory or time.
    """
    try_once(
        Trial(
            library="onnxruntime",
            library_version=import_onnxruntime().__version__,
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
        self._session = new_session(path, outputs=outputs, providers=["CPUExecutionProvider"], threads=threads)
        self.library = f"onnxruntime {import_onnxruntime().__version__}"

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


def new_session(path: Path, *, outputs: Sequence[str], providers: Sequence[Any], threads: int = 0) -> Any:
    """A session of a graph with one input, ``frame``.

    Args:
        path: the ONNX file.
        outputs: the names that its outputs must have, in this order.
        providers: where it is to run, as the library takes them.
        threads: of the inference on the CPU; 0 leaves the choice to the library.

    Raises:
        EngineError: if the library cannot load the graph, or the graph has other ports.
    """
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # the library's exceptions share no base class
        raise EngineError(
            f"ONNX Runtime cannot load {path}: {one_line(error)}; copy the bundle again or export the model again"
        ) from error
    found = [[port.name for port in ports] for ports in (session.get_inputs(), session.get_outputs())]
    if found != [["frame"], list(outputs)]:
        raise EngineError(
            f"{path} has inputs {found[0]} and outputs {found[1]}; expected frame → {', '.join(outputs)}: "
            "export the model again"
        )
    return session


def import_onnxruntime() -> Any:
    """The module.

    Raises:
        EngineError: if it is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise EngineError(f"ONNX Runtime does not import ({error}); run `pip install onnxruntime`") from error
    return onnxruntime
