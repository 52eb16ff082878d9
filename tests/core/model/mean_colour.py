"""A feature extractor small enough for tests."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto, helper


def write_mean_colour_onnx(path: Path) -> Path:
    """(N, 3, S, S) → (N, 3): mean red, green, blue."""
    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["images"], ["means"]),
            helper.make_node("Flatten", ["means"], ["features"]),
        ],
        "mean_colour",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, "h", "w"])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", 3])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path
