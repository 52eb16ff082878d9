"""What ONNX Runtime, TensorRT and Torch-TensorRT make of the bundle on a GPU, each where it is installed."""

from __future__ import annotations

import importlib
import json
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from darkseg_ros.errors import EngineError
from darkseg_ros.model.backends.onnxruntime import OnnxRuntimeEngine
from darkseg_ros.model.backends.onnxruntime_cuda import PROVIDER, find_gpu
from darkseg_ros.model.backends.onnxruntime_graph import import_onnxruntime
from darkseg_ros.model.backends.open import check_golden
from darkseg_ros.model.backends.protocol import Engine
from darkseg_ros.model.backends.tensorrt.cuda import CudaDevice, load_driver
from darkseg_ros.model.backends.tensorrt.engine import Gpu, open_plan, plan_key, stored_plan
from darkseg_ros.model.backends.tensorrt.library import LIBRARIES, check_supported, import_library
from darkseg_ros.model.backends.tensorrt.plan_cache import PlanCache
from darkseg_ros.model.bundle import ANY_MATCH, BundleFile, ModelBundle, load_golden
from darkseg_ros.whole_files import sha256_of
from engines.gpu.errors import NotHereError
from engines.gpu.times import finish_forms, median_ms
from engines.gpu.torch_graph import TorchGraph
from engines.gpu.whole_engine import night_frames

_TIMED = 100


def run_onnxruntime(bundle: ModelBundle) -> dict[str, Any]:
    """Both forms of the finish by ONNX Runtime with CUDA, and how many nodes it left to the CPU.

    Raises:
        NotHereError: if it has no CUDA provider, or cannot start it.
    """
    try:
        gpu = find_gpu()
    except EngineError as error:
        raise NotHereError(str(error)) from error
    figures: dict[str, Any] = {}
    with _bundles_of_forms(bundle) as forms:
        for name, form in forms.items():
            with closing(OnnxRuntimeEngine(form, gpu=gpu)) as engine:
                found = check_golden(engine, bundle, ANY_MATCH)
                figures |= {
                    "engine": engine.name,
                    f"{name}_golden_agreement": found.agreement,
                    f"{name}_ms": _engine_ms(engine, night_frames(bundle, 1)),
                }
    return figures | {"nodes_on": _nodes_on(bundle)}


def _nodes_on(bundle: ModelBundle) -> dict[str, int]:
    """How many nodes each provider runs."""
    onnxruntime = import_onnxruntime()
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(str(bundle.fused_onnx.path), options, providers=[PROVIDER])
        session.run(None, {"frame": load_golden(bundle).frames})
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return dict(Counter(event["args"]["provider"] for event in events if event.get("args", {}).get("provider")))


def run_tensorrt(bundle: ModelBundle) -> dict[str, Any]:
    """Real plans by each TensorRT that is installed: each precision, a batch, both forms of the finish.

    Raises:
        NotHereError: if none is installed that supports the GPU.
    """
    figures: dict[str, Any] = {}
    reasons = []
    for name in LIBRARIES:
        if not find_spec(name):
            reasons.append(f"{name} is not installed")
            continue
        try:
            library, device = import_library(name), CudaDevice(load_driver())
            check_supported(name, library, device.capability)
        except EngineError as error:
            reasons.append(str(error))
            continue
        with tempfile.TemporaryDirectory() as folder, _bundles_of_forms(bundle) as forms:
            wanted = [("fp16", 1, "arg_max"), ("fp16", 1, "reduce_max"), ("fp16", 3, "arg_max"), ("fp32", 1, "arg_max")]
            if bundle.int8_onnx is not None:
                wanted.append(("int8", 1, "arg_max"))
            for precision, batch, form in wanted:
                try:
                    row = _real_plan(forms[form], Gpu(library, device), PlanCache(Path(folder)), precision, batch)
                except EngineError as error:
                    row = {"error": str(error)}
                figures[f"{name} {precision} batch {batch} {form}"] = row
    if not figures:
        raise NotHereError("; ".join(reasons))
    return figures


def _real_plan(bundle: ModelBundle, gpu: Gpu, cache: PlanCache, precision: str, batch: int) -> dict[str, Any]:
    capability = gpu.device.capability
    key = plan_key(
        bundle, gpu.library, gpu=gpu.device.name, capabilities=(capability,), precision=precision, batch=batch
    )
    started = time.monotonic()
    plan = stored_plan(bundle, key, cache, progress=lambda _: None)
    built_s = time.monotonic() - started
    with closing(open_plan(bundle, plan, gpu, cache, progress=lambda _: None)) as engine:
        found = check_golden(engine, bundle, ANY_MATCH)
        return {
            "built_s": round(built_s, 1),
            "plan_mb": round(len(plan.content) / 1e6, 1),
            "golden_agreement": found.agreement,
            "reaches_the_bundle_s_figure": found.reaches(engine.golden_match),
            "recorded_batches": list(engine.recorded),
            "ms": _engine_ms(engine, night_frames(bundle, batch)),
        }


def run_torch_tensorrt(bundle: ModelBundle) -> dict[str, Any]:
    """The fused graph through Torch-TensorRT.

    Raises:
        NotHereError: if it does not import.
    """
    try:
        torch_tensorrt: Any = importlib.import_module("torch_tensorrt")
    except (ImportError, OSError) as error:
        raise NotHereError(f"torch_tensorrt does not import: {error}") from error
    frames = torch.from_numpy(load_golden(bundle).frames).cuda()
    network = TorchGraph(onnx.load(str(bundle.fused_onnx.path))).eval().cuda()
    with torch.inference_mode():
        expected = network(frames)[0]
        compiled = torch_tensorrt.compile(network, ir="dynamo", inputs=[frames])
        agreement = float((compiled(frames)[0] == expected).float().mean())
    return {
        "version": torch_tensorrt.__version__,
        "agreement_with_torch": agreement,
        "ms": median_ms(lambda: compiled(frames), "cuda"),
    }


@contextmanager
def _bundles_of_forms(bundle: ModelBundle) -> Iterator[dict[str, ModelBundle]]:
    """The bundle with each form of its fused graph."""
    with tempfile.TemporaryDirectory() as folder:
        bundles = {}
        for name, model in finish_forms(bundle.fused_onnx.path, len(bundle.classes)).items():
            path = Path(folder) / f"{name}.onnx"
            path.write_bytes(model.SerializeToString())
            bundles[name] = replace(bundle, fused_onnx=BundleFile(path, sha256_of(path), path.stat().st_size))
        yield bundles


def _engine_ms(engine: Engine, frames: np.ndarray) -> float:
    times = []
    for _ in range(_TIMED):
        started = time.perf_counter()
        engine(frames)
        times.append(time.perf_counter() - started)
    return round(float(np.median(times)) * 1000, 3)
