"""Which backend runs a bundle, and the proof that it runs it rightly."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np

from darkseg_ros.errors import BundleError, DeviceLostError, EngineError
from darkseg_ros.model.backends.fake import FakeEngine
from darkseg_ros.model.backends.onnxruntime import OnnxRuntimeEngine
from darkseg_ros.model.backends.onnxruntime_cuda import find_gpu, has_driver
from darkseg_ros.model.backends.openvino import OpenVinoEngine
from darkseg_ros.model.backends.protocol import Engine
from darkseg_ros.model.backends.tensorrt.engine import Gpu, open_tensorrt
from darkseg_ros.model.backends.tensorrt.library import LIBRARIES
from darkseg_ros.model.backends.tensorrt.plan_cache import PlanCache
from darkseg_ros.model.bundle import EXACT_MATCH, GoldenMatch, ModelBundle, load_golden

BACKENDS = ("auto", "tensorrt", "openvino", "onnxruntime")
"""Values of the `backend` parameter. `FakeEngine.name` opens too, but is for tests and not told to users."""

DEVICES = ("auto", "cpu", "cuda")
"""Values of the `device` parameter."""

_LOG = logging.getLogger(__name__)


def open_engine(
    bundle: ModelBundle, *, backend: str = "auto", device: str = "auto", threads: int = 0, streams: int = 1
) -> Engine:
    """Open a bundle's graph and check its answer to the golden frame.

    `auto` takes the first of these that is installed and can run the bundle: TensorRT, ONNX Runtime with CUDA, OpenVINO
    (int8), ONNX Runtime on the CPU (float); README.md says why. The choice shows in the engine's name and never changes
    later. A GPU's library that is there and cannot run the bundle is left out with a warning and the reason. TensorRT
    runs the bundle's plan from the cache; where there is none it is built first, which may take minutes.

    Args:
        bundle: a checked bundle.
        backend: one of `BACKENDS`, or `FakeEngine.name`.
        device: one of `DEVICES`; auto takes the first visible GPU if the backend can use one, else the CPU.
        threads: of the inference on the CPU; with 0, OpenVINO runs with the fastest number, measured once
            (`darkseg_ros.model.backends.cpu_settings`), ONNX Runtime with its own choice.
        streams: calls side by side; only OpenVINO has more than one.

    Raises:
        EngineError: if backend or device are unknown, do not go together, are not there, or cannot load the graph.
        BundleError: if the graph's answer to the golden frame is not the recorded one.
    """
    if backend == FakeEngine.name:
        return FakeEngine(bundle.classes)
    _check_choice(backend, device)
    if backend in _ON_GPU and device != "cpu":
        engine = _open_on_gpu(bundle, _ON_GPU[backend], required=device == "cuda" or backend == "tensorrt")
        if engine is not None:
            return engine
    if backend == "auto":
        backend = _best_on_cpu()
    if backend == "openvino":
        return _checked(OpenVinoEngine(bundle, threads=threads, streams=streams), bundle, bundle.cpu_match)
    return _checked(OnnxRuntimeEngine(bundle, threads=threads), bundle, bundle.fused_match)


def _check_choice(backend: str, device: str) -> None:
    for what, choice, choices in (("backend", backend, BACKENDS), ("device", device, DEVICES)):
        if choice not in choices:
            raise EngineError(f"there is no {what} {choice!r}; choose one of {', '.join(choices)}")
    if (backend, device) == ("openvino", "cuda"):
        raise EngineError("openvino runs on the CPU only; choose backend tensorrt or onnxruntime, or device cpu")
    if (backend, device) == ("tensorrt", "cpu"):
        raise EngineError("tensorrt runs on a GPU only; choose backend openvino or onnxruntime, or device cuda")


def check_golden(engine: Engine, bundle: ModelBundle, least: GoldenMatch) -> GoldenMatch:
    """How well an engine's answer to the golden frame matches the recorded one.

    Every size of batch that the engine computes at once is tried, each as it will run on frames.

    Returns:
        The worst agreement and the worst confidence, over all sizes and frames.

    Raises:
        BundleError: if one of them does not reach `least`.
    """
    golden = load_golden(bundle)
    worst = EXACT_MATCH
    for count in range(1, engine.batch_max + 1):
        answer = engine(np.repeat(golden.frames, count, axis=0))
        found = GoldenMatch(
            agreement=float((answer.class_map == golden.class_map).mean((1, 2)).min()),
            confidence_difference=float(
                np.abs(answer.confidence.astype(np.int16) - golden.confidence).mean((1, 2)).max()
            ),
        )
        if not found.reaches(least):
            raise BundleError(
                f"{bundle.directory}: {engine.name}, asked for {count} frames, agrees with the golden answer on "
                f"{found.agreement:.1%} of the pixels, expected at least {least.agreement:.1%}, and its confidence is "
                f"{found.confidence_difference:.1f} of 255 off, expected at most {least.confidence_difference:.1f}; "
                "the graph or the library is not the one that was exported: copy the bundle again, choose another "
                "backend, or export the model again"
            )
        worst = worst.or_worse(found)
    return worst


def _checked(engine: Engine, bundle: ModelBundle, least: GoldenMatch) -> Engine:
    try:
        check_golden(engine, bundle, least)
    except BaseException:
        engine.close()
        raise
    return engine


@dataclass(frozen=True)
class _GpuLibrary:
    """A library that can run bundles on a GPU.

    Attributes:
        name: for log lines.
        is_likely: whether it is worth asking, found out in no time.
        find: looks for all that it needs; raises EngineError.
        open: a checked engine from what was found.
    """

    name: str
    is_likely: Callable[[], bool]
    find: Callable[[], Any]
    open: Callable[[ModelBundle, Any], Engine]


def _open_on_gpu(bundle: ModelBundle, libraries: Sequence[_GpuLibrary], *, required: bool) -> Engine | None:
    """An engine of the first library that can run the bundle; None if none can, an error where it is required."""
    reasons: list[EngineError] = []
    for library in libraries:
        if not required and not library.is_likely():
            continue
        level = logging.INFO
        try:
            found = library.find()
            level = logging.WARNING  # it is there, and its user waits for it
            return library.open(bundle, found)
        except DeviceLostError:
            raise
        except EngineError as error:
            if not required:
                _LOG.log(level, "auto does not take %s: %s", library.name, error)
            reasons.append(error)
    if len(reasons) > 1 and required:
        raise EngineError(f"no library can use a GPU: {'; '.join(map(str, reasons))}")
    if required:
        raise reasons[0]
    return None


def _open_tensorrt(bundle: ModelBundle, gpu: Gpu) -> Engine:
    cache = PlanCache()
    engine = open_tensorrt(bundle, gpu, cache, progress=_LOG.info)
    try:
        return _checked(engine, bundle, engine.golden_match)
    except BundleError:
        with suppress(EngineError):  # a cache that cannot be written must not hide what is wrong
            cache.discard(engine.plan_key)  # it would fail at every start
        raise


def _best_on_cpu() -> str:
    for library in ("openvino", "onnxruntime"):
        if find_spec(library):
            return library
    raise EngineError("no inference library is installed; run `pip install openvino` or `pip install onnxruntime`")


def _open_onnxruntime_cuda(bundle: ModelBundle, gpu: str) -> Engine:
    return _checked(OnnxRuntimeEngine(bundle, gpu=gpu), bundle, bundle.fused_match)


_TENSORRT = _GpuLibrary("TensorRT", lambda: any(map(find_spec, LIBRARIES)), Gpu.find, _open_tensorrt)
_ONNXRUNTIME_CUDA = _GpuLibrary("ONNX Runtime with CUDA", has_driver, find_gpu, _open_onnxruntime_cuda)
_ON_GPU = {
    "auto": (_TENSORRT, _ONNXRUNTIME_CUDA),
    "tensorrt": (_TENSORRT,),
    "onnxruntime": (_ONNXRUNTIME_CUDA,),
}
"""Of each backend that can use a GPU, its libraries in the order in which they are tried."""
