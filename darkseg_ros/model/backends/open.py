"""Which backend runs a bundle, and the proof that it runs it rightly."""

from __future__ import annotations

import logging
from contextlib import suppress
from importlib.util import find_spec

import numpy as np

from darkseg_ros.errors import BundleError, EngineError
from darkseg_ros.model.backends.fake import FakeEngine
from darkseg_ros.model.backends.onnxruntime import OnnxRuntimeEngine
from darkseg_ros.model.backends.openvino import OpenVinoEngine
from darkseg_ros.model.backends.protocol import Engine
from darkseg_ros.model.backends.tensorrt.engine import Gpu, open_tensorrt
from darkseg_ros.model.backends.tensorrt.library import LIBRARIES
from darkseg_ros.model.backends.tensorrt.plan_cache import PlanCache
from darkseg_ros.model.bundle import ModelBundle, load_golden

BACKENDS = ("auto", "tensorrt", "openvino", "onnxruntime")
"""Values of the `backend` parameter. `FakeEngine.name` opens too, but is for tests and not told to users."""

_LOG = logging.getLogger(__name__)


def open_engine(bundle: ModelBundle, *, backend: str = "auto", threads: int = 0) -> Engine:
    """Open a bundle's graph and check its answer to the golden frame.

    `auto` takes TensorRT where the library and a GPU that it supports are there, else OpenVINO (int8) where it is
    installed, else ONNX Runtime (float); the choice shows in the engine's name and never changes later. TensorRT runs
    the bundle's plan from the cache; where there is none it is built first, which may take minutes.

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
            return _open_tensorrt(bundle, gpu)
        backend = _best_on_cpu()
    if backend == "openvino":
        return _checked(OpenVinoEngine(bundle, threads=threads), bundle, bundle.cpu_agreement_min)
    if backend == "onnxruntime":
        return _checked(OnnxRuntimeEngine(bundle, threads=threads), bundle, bundle.fused_agreement_min)
    if backend == FakeEngine.name:
        return FakeEngine(bundle.classes)
    raise EngineError(f"there is no backend {backend!r}; choose one of {', '.join(BACKENDS)}")


def check_golden(engine: Engine, bundle: ModelBundle, agreement_min: float) -> float:
    """The share of the golden frame's pixels on which an engine gives the recorded class.

    Raises:
        BundleError: if it is below `agreement_min`.
    """
    golden = load_golden(bundle)
    answer = engine(golden.frames)
    agreement = float(np.mean(answer.class_map == golden.class_map))
    if agreement < agreement_min:
        raise BundleError(
            f"{bundle.directory}: {engine.name} agrees with the golden answer on {agreement:.1%} of the pixels, "
            f"expected at least {agreement_min:.1%}; the graph or the library is not the one that was exported: "
            "copy the bundle again, choose another backend, or export the model again"
        )
    return agreement


def _checked(engine: Engine, bundle: ModelBundle, agreement_min: float) -> Engine:
    try:
        check_golden(engine, bundle, agreement_min)
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
        return _checked(engine, bundle, engine.golden_agreement_min)
    except BundleError:
        with suppress(EngineError):  # a cache that cannot be written must not hide what is wrong
            cache.discard(engine.plan_key)  # it would fail at every start
        raise


def _best_on_cpu() -> str:
    for library in ("openvino", "onnxruntime"):
        if find_spec(library):
            return library
    raise EngineError("no inference library is installed; run `pip install openvino` or `pip install onnxruntime`")
