from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from darkseg_ros.model.backends.tensorrt.plan_graph import convert_to_half
from darkseg_ros.model.bundle import GoldenMatch, load_bundle, load_golden
from engines.half_precision import least_fp16_match_of, main, match_in_half, rounding_to_half
from tests.bundles import write_tiny_bundle


@pytest.fixture
def bundle_folder(tmp_path: Path) -> Path:
    return write_tiny_bundle(tmp_path)


def two_layers() -> onnx.ModelProto:
    """Pixel · 683 in one layer, less 2048 in the next."""
    nodes = [
        helper.make_node("Conv", ["pixel", "factor"], ["product"], kernel_shape=[1, 1]),
        helper.make_node("Conv", ["product", "one", "less"], ["rest"], kernel_shape=[1, 1]),
    ]
    weights = [
        numpy_helper.from_array(np.full((1, 1, 1, 1), value, np.float32), name)
        for name, value in (("factor", 683), ("one", 1))
    ]
    weights.append(numpy_helper.from_array(np.array([-2048], np.float32), "less"))
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, 1, 2]) for name in ("pixel", "rest")]
    graph = helper.make_graph(nodes, "two", ports[:1], ports[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_what_one_layer_hands_to_the_next_is_rounded_to_fp16() -> None:
    rounded = rounding_to_half(convert_to_half(two_layers()))
    session = onnxruntime.InferenceSession(rounded.SerializeToString(), providers=["CPUExecutionProvider"])
    (rest,) = session.run(None, {"pixel": np.array([[[[3, 2]]]], np.float32)})
    # 2049 lies between 2048 and 2050 and goes to the even one; 1366 is a number of fp16
    np.testing.assert_array_equal(rest, [[[[0, 1366 - 2048]]]])


def test_a_graph_that_fp16_does_not_change_matches_wholly(bundle_folder: Path) -> None:
    bundle = load_bundle(bundle_folder)
    golden = load_golden(bundle)
    exact = match_in_half(bundle.fused_onnx.path, golden)
    assert exact.agreement == 1
    assert exact.confidence_difference < 0.2
    half_wrong = replace(golden, class_map=golden.class_map.copy(), confidence=255 - golden.confidence)
    half_wrong.class_map[:, ::2] ^= 1
    found = match_in_half(bundle.fused_onnx.path, half_wrong)
    assert found.agreement == 0.5
    assert found.confidence_difference > 10


def test_the_figures_go_into_the_manifest_and_nothing_else_changes(
    bundle_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = json.loads((bundle_folder / "model.json").read_text())
    main([str(bundle_folder)])
    assert load_bundle(bundle_folder).fp16_match.agreement == 0.995
    after = json.loads((bundle_folder / "model.json").read_text())
    assert after["golden_agreement_min"].pop("fp16") == 0.995
    assert 3 <= after["golden_confidence_difference_max"].pop("fp16") < 3.3
    assert after == before
    assert "100.000%" in capsys.readouterr().out


def test_a_bundle_from_before_confidence_was_judged_gets_the_agreement_alone(bundle_folder: Path) -> None:
    path = bundle_folder / "model.json"
    manifest = json.loads(path.read_text())
    del manifest["golden_confidence_difference_max"]
    path.write_text(json.dumps(manifest))
    main([str(bundle_folder)])
    assert load_bundle(bundle_folder).fp16_match.agreement == 0.995
    assert "golden_confidence_difference_max" not in json.loads(path.read_text())


def test_no_network_lets_a_plan_that_answers_at_random_pass() -> None:
    assert least_fp16_match_of(GoldenMatch(agreement=0.2, confidence_difference=50)).agreement == 0.95


def test_a_folder_that_is_no_bundle_ends_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"half_precision: .* is no model bundle"):
        main([str(tmp_path)])
