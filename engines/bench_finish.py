"""Compare the ways from quarter-resolution logits to class map and confidence, on one thread.

    python -m engines.bench_finish

Runs take turns, so that a busy machine slows every way alike; the CPU time of the calling thread stands beside the
wall time. Every way computes the same two maps.
"""

from __future__ import annotations

import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import onnxruntime
import torch
from torch import nn

from darkseg_ros.model.backends.finish.logits_finish import finish_logits
from darkseg_ros.model.backends.finish.numpy_finish import finish_logits_numpy
from darkseg_ros.model.backends.finish.opencv_finish import finish_logits_opencv
from engines.export import export_onnx
from engines.fused_graph import FusedGraph, LogitsGraph

KERNEL, FALLBACK, DEFINITION = "kernel", "OpenCV, without kernel", "numpy"
TORCH, ONNX_RUNTIME = "torch", "onnxruntime in-graph"

_TEMPERATURE = 1.3
_WARM_UP_ROUNDS = 2


@dataclass(frozen=True)
class FinishTime:
    """Medians over the rounds.

    Attributes:
        wall_ms: of one frame.
        cpu_ms: of the calling thread, on which every way runs.
        ratio: median over the rounds of this way's CPU time divided by the kernel's in the same round.
        agreement: share of pixels whose class is the kernel's.
    """

    wall_ms: float
    cpu_ms: float
    ratio: float
    agreement: float


def main(arguments: list[str] | None = None) -> None:
    """Print one line per way."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--shape", type=int, nargs=3, default=(19, 128, 256), metavar=("K", "H", "W"))
    parser.add_argument("--rounds", type=int, default=30)
    parsed = parser.parse_args(arguments)
    times = compare_finishes(tuple(parsed.shape), rounds=parsed.rounds)
    print(f"{'x'.join(map(str, parsed.shape))} logits, one thread, medians of {parsed.rounds} rounds")
    print(f"{'':24}{'wall ms':>9}{'CPU ms':>9}{'x kernel':>10}{'same class':>12}")
    for name, row in times.items():
        print(f"{name:24}{row.wall_ms:9.2f}{row.cpu_ms:9.2f}{row.ratio:10.1f}{row.agreement:12.5%}")


def compare_finishes(shape: tuple[int, ...], *, rounds: int) -> dict[str, FinishTime]:
    """Time every way on the same smooth logits of this shape, (K, h, w)."""
    logits = smooth_logits(shape)
    # the fused graph's end alone: its network hands on the logits it is given
    module = FusedGraph(cast(LogitsGraph, nn.Identity()), temperature=_TEMPERATURE).eval()
    previous_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
            path = Path(folder) / "finish.onnx"
            export_onnx(module, logits[None], path, ["class_map", "confidence"])
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            batch = torch.from_numpy(logits)[None]
            ways: dict[str, Callable[[], np.ndarray]] = {
                KERNEL: lambda: finish_logits(logits, temperature=_TEMPERATURE)[0],
                FALLBACK: lambda: finish_logits_opencv(logits, temperature=_TEMPERATURE, align_corners=False)[0],
                DEFINITION: lambda: finish_logits_numpy(logits, temperature=_TEMPERATURE, align_corners=False)[0],
                TORCH: lambda: module(batch)[0][0].numpy(),
                ONNX_RUNTIME: lambda: session.run(None, {"frame": logits[None]})[0][0],
            }
            return _time_in_turn(ways, rounds=rounds)
    finally:
        torch.set_num_threads(previous_threads)


def smooth_logits(shape: tuple[int, ...]) -> np.ndarray:
    """Random logits with regions, as a network's have; float32."""
    classes, height, width = shape
    coarse = torch.randn((1, classes, -(-height // 8), -(-width // 8)), generator=torch.Generator().manual_seed(0))
    smooth = nn.functional.interpolate(4 * coarse, size=(height, width), mode="bilinear", align_corners=False)
    return np.ascontiguousarray(smooth[0].numpy())


def _time_in_turn(ways: dict[str, Callable[[], np.ndarray]], *, rounds: int) -> dict[str, FinishTime]:
    wall_ms, cpu_ms = np.empty((len(ways), rounds)), np.empty((len(ways), rounds))
    class_maps = [way() for way in ways.values() for _ in range(_WARM_UP_ROUNDS)][::_WARM_UP_ROUNDS]
    for index in range(rounds):
        for row, way in enumerate(ways.values()):
            cpu_s, wall_s = time.thread_time(), time.perf_counter()
            way()
            wall_ms[row, index] = 1e3 * (time.perf_counter() - wall_s)
            cpu_ms[row, index] = 1e3 * (time.thread_time() - cpu_s)
    return {
        name: FinishTime(
            wall_ms=float(np.median(wall_ms[row])),
            cpu_ms=float(np.median(cpu_ms[row])),
            ratio=float(np.median(cpu_ms[row] / cpu_ms[0])),
            agreement=float(np.mean(class_maps[row] == class_maps[0])),
        )
        for row, name in enumerate(ways)
    }


if __name__ == "__main__":
    main()
