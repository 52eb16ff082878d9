from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino
import pytest
from openvino import opset13 as ops

from darkseg_ros.model.backends.openvino import openvino_core
from engines.int8_ceiling import CEILING_GOP, LAYERS, SIDE, ceiling_graph, gop_of, open_ceiling


def test_the_operations_of_a_graph_are_worked_by_hand(tmp_path: Path) -> None:
    pixels = ops.parameter([1, 4, 10, 20], np.float32)
    dense = ops.convolution(pixels, np.zeros((8, 4, 3, 3), np.float32), [2, 2], [1, 1], [1, 1], [1, 1])
    depthwise = ops.group_convolution(dense, np.zeros((8, 1, 1, 3, 3), np.float32), [1, 1], [1, 1], [1, 1], [1, 1])
    openvino.save_model(openvino.Model([depthwise], [pixels]), tmp_path / "graph.xml")
    products = 5 * 10 * (8 * 4 * 9 + 8 * 9)
    assert gop_of(tmp_path / "graph.xml") == pytest.approx(2e-9 * products)


def test_the_ceilings_operations_are_those_of_its_graph(tmp_path: Path) -> None:
    openvino.save_model(ceiling_graph(), tmp_path / "graph.xml")
    assert gop_of(tmp_path / "graph.xml") == pytest.approx(CEILING_GOP)


def test_the_ceiling_is_computed_in_int8() -> None:
    compiled = openvino_core().compile_model(ceiling_graph(), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    precisions = [
        node.get_rt_info()["runtimePrecision"].astype(str)
        for node in compiled.get_runtime_model().get_ordered_ops()
        if node.get_rt_info()["layerType"].astype(str) == "Convolution"
    ]
    assert len(precisions) == LAYERS
    assert set(precisions) <= {"u8", "i8"}
    assert open_ceiling().call(np.zeros((4, 4, 3), np.uint8)).shape == (SIDE, SIDE)
