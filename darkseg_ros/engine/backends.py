"""Which backend runs a bundle, and the proof that it runs it rightly."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np

from darkseg_ros.bundle import ModelBundle, load_golden
from darkseg_ros.engine.fake import FakeEngine
from darkseg_ros.engine.onnxruntime import OnnxRuntimeEngine
from darkseg_ros.engine.openvino import OpenVinoEngine
from darkseg_ros.engine.protocol import Engine
from darkseg_ros.errors import BundleError, EngineError

BACKENDS = ("auto", "openvino", "onnxruntime", "fake")
"""Values of the `backend` parameter; `fake` answers from the frame's own pixels and is there for tests."""


def open_engine(bundle: ModelBundle, *, backend: str = "auto", threads: int = 0) -> Engine:
    """Open a bundle's graph and check its answer to the golden frame.

    `auto` takes OpenVINO (int8) where it is installed, else ONNX Runtime (float); the choice shows in the engine's
    name and never changes later.

    Args:
        bundle: a checked bundle.
        backend: one of `BACKENDS`.
        threads: of the inference; 0 leaves the choice to the library.

    Raises:
        EngineError: if the backend is unknown, not installed, or cannot load the graph.
        BundleError: if the graph's answer to the golden frame is not the recorded one.
    """
    if backend == "auto":
        backend = _best_installed()
    if backend == "openvino":
        return _checked(OpenVinoEngine(bundle, threads=threads), bundle, bundle.cpu_agreement_min)
    if backend == "onnxruntime":
        return _checked(OnnxRuntimeEngine(bundle, threads=threads), bundle, bundle.fused_agreement_min)
    if backend == "fake":
        return FakeEngine()
    raise EngineError(f"there is no backend {backend!r}; choose one of {', '.join(BACKENDS)}")


def _best_installed() -> str:
    for library in ("openvino", "onnxruntime"):
        if find_spec(library):
            return library
    raise EngineError("no inference library is installed; run `pip install openvino` or `pip install onnxruntime`")


def _checked(engine: Engine, bundle: ModelBundle, agreement_min: float) -> Engine:
    golden = load_golden(bundle)
    answer = engine(golden.frames)
    agreement = float(np.mean(answer.class_map == golden.class_map))
    if agreement < agreement_min:
        engine.close()
        raise BundleError(
            f"{bundle.directory}: {engine.name} agrees with the golden answer on {agreement:.1%} of the pixels, "
            f"expected at least {agreement_min:.1%}; the graph or the library is not the one that was exported: "
            "copy the bundle again, choose another backend, or export the model again"
        )
    return engine
