"""Which backend runs a bundle, and the proof that it runs it rightly."""

from __future__ import annotations

import logging
from contextlib import suppress
from importlib.util import find_spec

import numpy as np

from darkseg_ros.errors import BundleError, DeviceLostError, EngineError
from darkseg_ros.model.backends.fake import FakeEngine
from darkseg_ros.model.backends.onnxruntime import OnnxRuntimeEngine
from darkseg_ros.model.backends.openvino import OpenVinoEngine
from darkseg_ros.model.backends.protocol import Engine
from darkseg_ros.model.backends.tensorrt.engine import Gpu, open_tensorrt
from darkseg_ros.model.backends.tensorrt.library import LIBRARIES
from darkseg_ros.model.backends.tensorrt.plan_cache import PlanCache
from darkseg_ros.model.bundle import EXACT_MATCH, GoldenMatch, ModelBundle, load_golden

BACKENDS = ("auto", "tensorrt", "openvino", "onnxruntime")
"""Values of the `backend` parameter. `FakeEngine.name` opens too, but is for tests and not told to users."""

_LOG = logging.getLogger(__name__)


def open_engine(bundle: ModelBundle, *, backend: str = "auto", threads: int = 0) -> Engine:
    """Open a bundle's graph and check its answer to the golden frame.

    `auto` takes TensorRT where the library and a GPU that it supports are there, else OpenVINO (int8) where it is
    installed, else ONNX Runtime (float); the choice shows in the engine's name and never changes later. TensorRT runs
    the bundle's plan from the cache; where there is none it is built first, which may take minutes. Where it cannot be
    built or run, `auto` takes the CPU and logs a warning with the reason.

    Args:
        bundle: a checked bundle.
        backend: one of `BACKENDS`, or `FakeEngine.name`.
        threads: of the inference on the CPU; with 0, OpenVINO runs with the fastest number, measured once
            (`darkseg_ros.model.backends.cpu_settings`), ONNX Runtime with its own choice.

    Raises:
        EngineError: if the backend is unknown, not installed, or cannot load the graph.
        BundleError: if the graph's answer to the golden frame is not the recorded one.
    """
    if backend in ("auto", "tensorrt"):
        gpu = _find_gpu(required=backend == "tensorrt")
        if gpu is not None:
            try:
                return _open_tensorrt(bundle, gpu)
            except DeviceLostError:
                raise
            except EngineError as error:
                if backend == "tensorrt":
                    raise
                _LOG.warning("auto takes the CPU, since TensorRT cannot run the bundle: %s", error)
        backend = _best_on_cpu()
    if backend == "openvino":
        return _checked(OpenVinoEngine(bundle, threads=threads), bundle, bundle.cpu_match)
    if backend == "onnxruntime":
        return _checked(OnnxRuntimeEngine(bundle, threads=threads), bundle, bundle.fused_match)
    if backend == FakeEngine.name:
        return FakeEngine(bundle.classes)
    raise EngineError(f"there is no backend {backend!r}; choose one of {', '.join(BACKENDS)}")


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
        worst = GoldenMatch(
            agreement=min(worst.agreement, found.agreement),
            confidence_difference=max(worst.confidence_difference, found.confidence_difference),
        )
    return worst


def _checked(engine: Engine, bundle: ModelBundle, least: GoldenMatch) -> Engine:
    try:
        check_golden(engine, bundle, least)
    except BaseException:
        engine.close()
        raise
    return engine


def _find_gpu(*, required: bool) -> Gpu | None:
    if not required and not any(map(find_spec, LIBRARIES)):
        return None
    try:
        return Gpu.find()
    except EngineError as error:
        if required:
            raise
        _LOG.info("auto does not take TensorRT: %s", error)
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
