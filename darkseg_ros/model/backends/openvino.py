"""OpenVINO on the int8 CPU graph; the logits are finished by `darkseg_ros.model.backends.finish.logits_finish`."""

from __future__ import annotations

import copy
import logging
from functools import lru_cache, partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np

from darkseg_ros.errors import EngineError, one_line
from darkseg_ros.model.backends.cpu_settings import (
    FASTER,
    LIBRARYS_CHOICE,
    SettingsKey,
    keep_threads,
    kept_threads,
    physical_cores,
    rival_threads,
    time_ratio,
    usable_cpus,
)
from darkseg_ros.model.backends.finish.logits_finish import finish_logits, is_slow
from darkseg_ros.model.backends.protocol import EngineOutput
from darkseg_ros.model.backends.trial import Trial, try_once
from darkseg_ros.model.bundle import LOGITS_STRIDE, BundleFile, ModelBundle

_LOG = logging.getLogger(__name__)


def try_graph(
    graph: BundleFile, *, output: str, network_hw: tuple[int, int], weights: BundleFile | None = None
) -> None:
    """Let a process of its own run a graph on one frame first, as `OpenVinoGraph` does; see `trial.try_once`.

    Raises:
        EngineError: if OpenVINO is not installed or refuses the graph, or the graph takes too much memory or time.
    """
    try_once(
        Trial(
            library="openvino",
            library_version=_import_openvino().__version__,
            graph=str(graph.path),
            graph_sha256=graph.sha256,
            outputs=(output,),
            network_hw=network_hw,
            weights=str(weights.path) if weights else None,
            weights_sha256=weights.sha256 if weights else None,
        )
    )


class OpenVinoGraph:
    """A graph with one input, ``frame``, and one output, compiled for the CPU. Not thread-safe.

    Args:
        path: the graph, OpenVINO IR or ONNX.
        output: the name that its output must have.
        threads: of the inference; 0 leaves the choice to the library.
        streams: inferences side by side, this one's and those of `twin`; the threads are shared out among them.
        weights: the IR's; None for ONNX.
        channels_last: give an output (N, C, H, W) as (N, H, W, C). int8 convolutions end in that order, so the library
            then need not move every value once more: 3 to 5 % of a frame's time for the logits of the slim network.

    Attributes:
        library: its name and version.
        threads: how many the inference runs on.
        shapes: of the input and of the output, as the file has them, such as ``[1,64,128,3]``.

    Raises:
        EngineError: if OpenVINO is not installed or cannot load the graph, or the graph has other ports.
    """

    def __init__(
        self,
        path: Path,
        *,
        output: str,
        threads: int = LIBRARYS_CHOICE,
        streams: int = 1,
        weights: Path | None = None,
        channels_last: bool = False,
    ) -> None:
        openvino = _import_openvino()
        # f32: where the hint is left out, OpenVINO picks bf16 on some CPUs, which is slower and less exact
        settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        if threads != LIBRARYS_CHOICE:
            settings["INFERENCE_NUM_THREADS"] = threads
            # else the library would silently stop at one thread per core
            settings["ENABLE_HYPER_THREADING"] = threads > physical_cores(usable_cpus())
        if streams > 1:
            settings["NUM_STREAMS"] = streams
        try:
            core = openvino_core()
            graph = core.read_model(str(path), str(weights) if weights else "")
            _check_ports(graph, path, output)
            self.shapes = [str(port.partial_shape) for port in (graph.inputs[0], graph.outputs[0])]
            self._compiled = core.compile_model(_with_channels_last(graph) if channels_last else graph, "CPU", settings)
            self._request: Any = self._compiled.create_infer_request()
            self.threads = int(self._compiled.get_property("INFERENCE_NUM_THREADS"))
        except RuntimeError as error:
            raise EngineError(
                f"OpenVINO cannot load {path}: {one_line(error)}; copy the bundle again or export the model again"
            ) from error
        self.library = _name_of(openvino)

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """Run on one frame, (1, H, W, 3) uint8 BGR.

        Returns:
            The output; its memory is the graph's own, and the next call overwrites it.

        Raises:
            EngineError: if the library fails; the graph stays usable.
        """
        try:
            # share_inputs passes the memory itself, so it must be contiguous; it lives until infer() returns
            self._request.infer({"frame": np.ascontiguousarray(frame)}, share_inputs=True)
            answer: np.ndarray = self._request.get_output_tensor(0).data
        except RuntimeError as error:
            raise EngineError(f"OpenVINO failed on a frame of {frame.shape}: {error}") from error
        return answer

    def twin(self) -> OpenVinoGraph:
        """The same compiled graph for another thread, with memory of its own for the output."""
        twin = copy.copy(self)
        twin._request = self._compiled.create_infer_request()
        return twin


class OpenVinoEngine:
    """See `darkseg_ros.model.backends.protocol.Engine`.

    The frames of a call run one after the other, the finish of each before the inference of the next. To overlap the
    two gained nothing on two cores, which the inference keeps busy: 0.97 to 1.0 of the time at 384×384 and 512×1024
    (2026-11-22).

    Args:
        bundle: a checked bundle.
        threads: of the inference; 0 takes the fastest number, which the first start with a bundle on a machine measures
            and keeps (`darkseg_ros.model.backends.cpu_settings`). With several streams it is the library's choice.
        streams: calls side by side. A frame then takes longer, and a second of all of them holds more frames.

    Raises:
        EngineError: if OpenVINO is not installed or cannot load the graph, or the graph is not as model.json says.
    """

    batch_max = 1

    def __init__(self, bundle: ModelBundle, *, threads: int = LIBRARYS_CHOICE, streams: int = 1) -> None:
        try_graph(bundle.cpu_graph, output="logits", network_hw=bundle.network_hw, weights=bundle.cpu_weights)
        graph = _open(bundle, threads=threads, streams=streams) if streams > 1 else _open_fastest(bundle, threads)
        self.streams = streams
        self._graphs: Any = SimpleQueue()
        for each in (graph, *(graph.twin() for _ in range(streams - 1))):
            self._graphs.put(each)
        self._temperature = bundle.temperature
        count = "1 thread" if graph.threads == 1 else f"{graph.threads} threads"
        on_streams = f" in {streams} streams" if streams > 1 else ""
        self.name = f"{graph.library} int8 CPU, {count}{on_streams}{', slow finish' if is_slow() else ''}"

    def __call__(self, frames: np.ndarray) -> EngineOutput:
        if len(frames) == 1:  # as in the node: nothing to copy together
            class_map, confidence = self._run_one(frames)
            return EngineOutput(class_map[np.newaxis], confidence[np.newaxis])
        answers = [self._run_one(frames[index : index + 1]) for index in range(len(frames))]
        return EngineOutput(
            class_map=np.stack([class_map for class_map, _ in answers]),
            confidence=np.stack([confidence for _, confidence in answers]),
        )

    def _run_one(self, frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        graph = self._graphs.get()
        try:
            logits = graph(frame)[0].transpose(2, 0, 1)
            return finish_logits(logits, temperature=self._temperature)
        finally:
            self._graphs.put(graph)

    def close(self) -> None:
        self._graphs = None


def _open_fastest(bundle: ModelBundle, threads: int) -> OpenVinoGraph:
    key = _settings_key(bundle)
    kept = threads or kept_threads(key)
    graph = _open(bundle, threads=kept or LIBRARYS_CHOICE)
    return _fastest(graph, bundle, key) if kept is None else graph


def _open(bundle: ModelBundle, *, threads: int, streams: int = 1) -> OpenVinoGraph:
    path = bundle.cpu_graph.path
    graph = OpenVinoGraph(
        path,
        output="logits",
        threads=threads,
        streams=streams,
        weights=bundle.cpu_weights.path,
        channels_last=True,
    )
    height, width = bundle.network_hw
    count = len(bundle.classes)
    expected = [f"[1,{height},{width},3]", f"[1,{count},{height // LOGITS_STRIDE},{width // LOGITS_STRIDE}]"]
    if graph.shapes != expected:
        raise EngineError(
            f"{path} maps {graph.shapes[0]} to {graph.shapes[1]}, model.json says {height}×{width} and {count} "
            f"classes, which maps {expected[0]} to {expected[1]}; export the model again"
        )
    return graph


def _fastest(librarys: OpenVinoGraph, bundle: ModelBundle, key: SettingsKey) -> OpenVinoGraph:
    """The graph as the library runs it by itself, or with the number of threads that proves clearly faster."""
    rivals = rival_threads(librarys.threads, cpus=len(key.cpus), cores=physical_cores(key.cpus))
    if not rivals:
        return librarys
    frame = np.zeros((1, *bundle.network_hw, 3), np.uint8)  # the time does not depend on what it shows
    fastest, threads, lowest = librarys, LIBRARYS_CHOICE, FASTER
    ratios = []
    for count in rivals:
        rival = _open(bundle, threads=count)
        ratio = time_ratio(partial(rival, frame), partial(librarys, frame))
        ratios.append(f"{ratio:.2f} of its time with {count}")
        if ratio <= lowest:
            fastest, threads, lowest = rival, count, ratio
    _LOG.info(
        "OpenVINO takes %d CPU threads by itself; measured, a frame needs %s: %d are used",
        librarys.threads,
        ", ".join(ratios),
        fastest.threads,
    )
    keep_threads(key, threads)
    return fastest


def _settings_key(bundle: ModelBundle) -> SettingsKey:
    openvino = _import_openvino()
    return SettingsKey(
        graph_sha256=bundle.cpu_graph.sha256,
        library_version=openvino.__version__,
        cpu=openvino_core().get_property("CPU", "FULL_DEVICE_NAME"),
        cpus=usable_cpus(),
    )


@lru_cache(maxsize=1)
def openvino_core() -> Any:
    """OpenVINO's core, one for the life of the process.

    Each core gives the thread that makes it another stack for signals, and frees that when it goes. Two that did not go
    in the reverse order of their making left a freed one behind: the next signal ended the process (OpenVINO 2026.4).

    Raises:
        EngineError: if OpenVINO is not installed.
    """
    return _import_openvino().Core()


def _import_openvino() -> Any:
    try:
        import openvino
    except ImportError as error:
        raise EngineError(f"OpenVINO does not import ({error}); run `pip install openvino`") from error
    return openvino


def _name_of(openvino: Any) -> str:
    return f"openvino {openvino.__version__.split('-')[0]}"


def _check_ports(graph: Any, path: Path, output: str) -> None:
    found = [
        [" = ".join(sorted(port.names)) or "(no name)" for port in ports] for ports in (graph.inputs, graph.outputs)
    ]
    if found != [["frame"], [output]]:
        raise EngineError(
            f"{path} has inputs {found[0]} and outputs {found[1]}; expected frame → {output}: export the model again"
        )


def _with_channels_last(graph: Any) -> Any:
    from openvino import Layout
    from openvino.preprocess import PrePostProcessor

    changed = PrePostProcessor(graph)
    changed.output().model().set_layout(Layout("NCHW"))
    changed.output().tensor().set_layout(Layout("NHWC"))
    return changed.build()
