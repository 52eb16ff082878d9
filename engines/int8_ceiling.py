"""The most that this machine's CPU gives in int8: large convolutions and nothing else, timed beside the networks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from darkseg_ros.benchmark.contestants import Run
from darkseg_ros.benchmark.figures import ContestantFigures, Int8Ceiling

CHANNELS, SIDE, LAYERS = 256, 48, 6
"""Of the convolutions, 3×3 each: wide enough to keep the multipliers busy, small enough for the second-level cache."""

CEILING_GOP = 2e-9 * LAYERS * 9 * CHANNELS**2 * SIDE**2
"""10⁹ multiplications and additions of one call."""

CEILING = "int8 convolutions"
"""Name of the contestant."""

_LEVELS = 256
_WEIGHT_SCALE = 1 / 512


def ceiling_graph() -> Any:
    """The convolutions, (1, CHANNELS, SIDE, SIDE) uint8 in, as quantised layers that OpenVINO runs in int8."""
    import openvino
    from openvino import opset13 as ops

    rng = np.random.default_rng(0)
    pixels = ops.parameter([1, CHANNELS, SIDE, SIDE], np.uint8)
    features = ops.convert(pixels, np.float32)
    low, high = np.float32(0), np.float32(255)
    for _ in range(LAYERS):
        features = ops.fake_quantize(features, low, high, low, high, _LEVELS)
        weights = ops.constant(rng.integers(-127, 128, (CHANNELS, CHANNELS, 3, 3), np.int8))
        scaled = ops.multiply(ops.convert(weights, np.float32), np.float32(_WEIGHT_SCALE))
        features = ops.relu(ops.convolution(features, scaled, [1, 1], [1, 1], [1, 1], [1, 1]))
    return openvino.Model([features], [pixels])


def open_ceiling() -> Run:
    """The convolutions on OpenVINO, as many threads as it takes for one frame."""
    import openvino

    from darkseg_ros.model.backends.openvino import openvino_core

    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino_core().compile_model(ceiling_graph(), "CPU", settings)
    request = compiled.create_infer_request()
    pixels = np.random.default_rng(1).integers(0, 256, (1, CHANNELS, SIDE, SIDE), np.uint8)

    def call(_: np.ndarray) -> np.ndarray:
        request.infer({0: pixels}, share_inputs=True)
        plane: np.ndarray = pixels[0, 0]  # in the place of a class map
        return plane

    return Run(
        call=call,
        description=f"openvino {openvino.__version__} int8 CPU, {compiled.get_property('INFERENCE_NUM_THREADS')} "
        f"threads, {LAYERS} convolutions 3×3 of {CHANNELS} channels at {SIDE}×{SIDE}",
    )


def gop_of(graph: Path) -> float:
    """10⁹ multiplications and additions of a graph's convolutions, for one frame.

    Args:
        graph: OpenVINO .xml with its .bin beside it.
    """
    from darkseg_ros.model.backends.openvino import openvino_core

    total = 0
    for node in openvino_core().read_model(str(graph)).get_ordered_ops():
        if node.get_type_name() in ("Convolution", "GroupConvolution"):
            pixels = int(np.prod(list(node.output(0).shape)[2:]))
            total += pixels * int(np.prod(list(node.input_value(1).shape)))
    return 2e-9 * total


def ceiling_of(figures: Sequence[ContestantFigures], graph: Path) -> Int8Ceiling:
    """The machine's ceiling and the shipped engine's share of it.

    Args:
        figures: of the contestants, the shipped engine the first of its kind.
        graph: the shipped one, as `gop_of` takes it.
    """
    engine = next(row for row in figures if row.kind == "engine")
    ceiling = next(row for row in figures if row.kind == "ceiling")
    return Int8Ceiling(
        gop_per_s=CEILING_GOP / (ceiling.latency_ms.p50 / 1000),
        network_gop=gop_of(graph),
        engine_ms=engine.latency_ms.p50,
    )
