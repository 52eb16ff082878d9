"""Times of the fused graph and of its finish on a GPU, by torch: leads for what a plan can reach."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from darkseg_ros.model.backends.tensorrt.plan_graph import graph_for_plan
from darkseg_ros.model.bundle import ModelBundle
from engines.gpu.finish_forms import finish_alone, with_reduce_max
from engines.gpu.stand_in import forbid_tf32
from engines.gpu.torch_graph import TorchGraph
from engines.gpu.whole_engine import night_frames

_WARM_UP, _TIMED = 20, 100


def time_graph(bundle: ModelBundle, device: str) -> dict[str, Any]:
    """Milliseconds of the graph in fp32 and fp16, launched by Python and, on a GPU, replayed as a CUDA graph."""
    forbid_tf32()
    frames = torch.from_numpy(night_frames(bundle, 1)).to(device)
    figures: dict[str, Any] = {}
    for precision in ("fp32", "fp16"):
        network = _ready(graph_for_plan(bundle.fused_onnx.path, precision=precision, batch=1), device)
        figures[f"{precision}_launched_ms"] = median_ms(partial(network, frames), device)
        if device == "cuda":
            figures[f"{precision}_replayed_ms"] = median_ms(_replayed(network, frames), device)
    return figures


def time_finishes(bundle: ModelBundle, device: str, *, compiled: bool = False) -> dict[str, Any]:
    """Milliseconds from logits to class map and confidence, with ArgMax and with ReduceMax.

    Args:
        bundle: a checked bundle; its fp16 plan's finish is float32.
        device: cuda or cpu.
        compiled: by torch.compile, which fuses what it can, as TensorRT does.

    Raises:
        AssertionError: if the two forms give different class maps.
    """
    height, width = bundle.network_hw
    count = len(bundle.classes)
    logits = torch.randn((1, count, height // 4, width // 4), generator=torch.Generator().manual_seed(0)).to(device)
    figures: dict[str, Any] = {}
    maps = []
    for name, model in finish_forms(bundle.fused_onnx.path, count).items():
        finish: Any = _ready(finish_alone(model), device)
        if compiled:
            finish = torch.compile(finish, fullgraph=True, dynamic=False)
        with torch.inference_mode():
            maps.append(finish(logits)[0].cpu())
        figures[f"{name}_launched_ms"] = median_ms(partial(finish, logits), device)
        if device == "cuda":
            figures[f"{name}_replayed_ms"] = median_ms(_replayed(finish, logits), device)
    assert torch.equal(*maps), "ArgMax and ReduceMax give different class maps"
    return figures


def finish_forms(fused_onnx: Path, class_count: int) -> dict[str, onnx.ModelProto]:
    """The fused graph as it is, and with ReduceMax in the place of ArgMax."""
    model = onnx.load(str(fused_onnx))
    return {"arg_max": model, "reduce_max": with_reduce_max(model, class_count)}


def median_ms(call: Callable[[], object], device: str) -> float:
    """Median time of a call, milliseconds; on a GPU by its own events."""
    with torch.inference_mode():
        for _ in range(_WARM_UP if device == "cuda" else 1):
            call()
        if device != "cuda":
            started = time.perf_counter()
            call()
            return round((time.perf_counter() - started) * 1000, 4)
        times = []
        for _ in range(_TIMED):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            call()
            end.record()
            end.synchronize()
            times.append(start.elapsed_time(end))
    return round(statistics.median(times), 4)


def _ready(model: onnx.ModelProto, device: str) -> nn.Module:
    network = TorchGraph(model).eval().to(device)
    return network.to(memory_format=torch.channels_last) if device == "cuda" else network


def _replayed(network: Callable[[Tensor], object], frames: Tensor) -> Callable[[], None]:
    """The network recorded once; a call launches the recording."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.inference_mode(), torch.cuda.stream(stream):
        for _ in range(3):
            network(frames)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.inference_mode(), torch.cuda.graph(graph):
        network(frames)
    return graph.replay
