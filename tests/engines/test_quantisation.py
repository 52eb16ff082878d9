from __future__ import annotations

import contextlib
import io
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
from onnx import TensorProto, helper, numpy_helper

from darkseg_ros.frames.labelled import LabelledImage, pair_files
from engines.quantisation import _half_above, float_layers, quantise, quantise_symmetric, quantise_within, relative_time

PX = 64
CLASSES = {(250, 5, 5): 10, (5, 250, 5): 8, (5, 5, 250): 13, (5, 5, 5): 0}
"""BGR → train id: blue sky, green vegetation, red car, dark road."""


def convolution(name: str, source: str, target: str, weight: np.ndarray, **settings: int) -> tuple:
    node = helper.make_node("Conv", [source, f"{name}_weight", f"{name}_bias"], [target], name=name, **settings)
    bias = np.zeros(len(weight), np.float32)
    if target == "logits":
        bias[0] = 0.3  # dark
    return node, [numpy_helper.from_array(weight, f"{name}_weight"), numpy_helper.from_array(bias, f"{name}_bias")]


def write_network(path: Path, *, outlier: float, depthwise: bool = False) -> Path:
    """Pooling to a quarter, then three 1×1 convolutions: pass on, pick out, classify.

    Between the first two runs a channel of `outlier` times the brightness, which the second ignores: harmless in float,
    but int8 has one scale for all channels, whose steps then are wider than all that the other channels hold.
    """
    spread = np.zeros((4, 3, 1, 1), np.float32)
    spread[[0, 1, 2], [0, 1, 2]] = 1 / 255
    spread[3] = outlier / 255
    pick = np.zeros((3, 4, 1, 1), np.float32)
    pick[[0, 1, 2], [0, 1, 2]] = 1
    classify = np.zeros((19, 3, 1, 1), np.float32)
    classify[[10, 8, 13], [0, 1, 2]] = 1
    nodes = [
        helper.make_node("Cast", ["frame"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["bgr"], perm=[0, 3, 1, 2]),
        helper.make_node("AveragePool", ["bgr"], ["quarter"], kernel_shape=[4, 4], strides=[4, 4]),
    ]
    steps = [convolution("spread", "quarter", "spread", spread)]
    if depthwise:
        steps.append(convolution("depthwise", "spread", "deep", np.ones((4, 1, 1, 1), np.float32), group=4))
    steps += [
        convolution("pick", "deep" if depthwise else "spread", "picked", pick),
        convolution("classify", "picked", "logits", classify),
    ]
    weights = [weight for _, two in steps for weight in two]
    graph = helper.make_graph(
        nodes + [node for node, _ in steps],
        "outlier",
        [helper.make_tensor_value_info("frame", TensorProto.UINT8, [1, PX, PX, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 19, PX // 4, PX // 4])],
        weights,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> list[LabelledImage]:
    folder = tmp_path_factory.mktemp("blocks")
    rng = np.random.default_rng(0)
    colours = np.array(list(CLASSES), np.uint8)
    ids = np.array(list(CLASSES.values()), np.uint8)
    for part in ("image", "label"):
        (folder / part).mkdir()
    for index in range(6):
        blocks = np.kron(rng.integers(0, 4, (PX // 16, PX // 16)), np.ones((16, 16), int))
        cv2.imwrite(str(folder / "image" / f"{index}.png"), colours[blocks])
        cv2.imwrite(str(folder / "label" / f"{index}.png"), ids[blocks])
    return pair_files(folder / "image", folder / "label")


@pytest.fixture(scope="module")
def frames(pairs: list[LabelledImage]) -> list[np.ndarray]:
    return [cv2.imread(str(pair.image))[None] for pair in pairs]


def accuracy(logits_of: object, pairs: list[LabelledImage]) -> float:
    """Share of the blocks' inner pixels that are right: there, neighbours cannot blend in."""
    right = []
    for pair in pairs:
        logits = logits_of(cv2.imread(str(pair.image))[None])  # type: ignore[operator]
        labels = cv2.imread(str(pair.label), cv2.IMREAD_UNCHANGED)[::4, ::4]
        right.append(np.mean(logits[0].argmax(0) == labels))
    return float(np.mean(right))


def openvino_logits(graph: Path) -> object:
    compiled = openvino.Core().compile_model(str(graph), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda frame: compiled({"frame": frame})["logits"]


def onnxruntime_logits(path: Path) -> object:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda frame: session.run(["logits"], {"frame": frame})[0]


def test_a_layer_that_breaks_under_int8_stays_float_and_saves_the_accuracy(
    tmp_path: Path, pairs: list[LabelledImage], frames: list[np.ndarray]
) -> None:
    network = write_network(tmp_path / "a.onnx", outlier=2000)
    assert accuracy(onnxruntime_logits(network), pairs) == 1.0
    plain = quantise(network, frames, tmp_path / "plain.xml")
    assert float_layers(plain) == []
    assert accuracy(openvino_logits(plain), pairs) < 0.9
    within = quantise_within(network, frames, tmp_path / "within.xml", validation=pairs, miou_loss_max=0.005)
    assert accuracy(openvino_logits(within), pairs) == 1.0
    assert float_layers(within) == ["pick"]  # not all of them
    assert b"FakeQuantize" in within.read_bytes()
    assert 0.1 < relative_time(within, plain, frames[0]) < 10


def test_a_network_that_keeps_its_accuracy_stays_int8_as_a_whole(
    tmp_path: Path, pairs: list[LabelledImage], frames: list[np.ndarray]
) -> None:
    network = write_network(tmp_path / "a.onnx", outlier=1)
    within = quantise_within(network, frames, tmp_path / "within.xml", validation=pairs, miou_loss_max=0.005)
    assert float_layers(within) == []
    assert accuracy(openvino_logits(within), pairs) == 1.0


def test_the_symmetric_graph_is_int8_with_scales_of_float16_and_small(
    tmp_path: Path, pairs: list[LabelledImage], frames: list[np.ndarray]
) -> None:
    network, path = write_network(tmp_path / "a.onnx", outlier=1), tmp_path / "int8.onnx"
    assert quantise_symmetric(network, frames, path) == []
    assert accuracy(onnxruntime_logits(path), pairs) == 1.0
    model = onnx.load(path)
    weights = {weight.name: numpy_helper.to_array(weight) for weight in model.graph.initializer}
    made_by = {name: node for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        if node.op_type == "Conv":
            source, weight = (made_by[name] for name in node.input[:2])
            assert source.op_type == weight.op_type == "DequantizeLinear"
            assert weights[weight.input[0]].dtype == np.int8
            assert weights[weight.input[1]].shape == (len(weights[weight.input[0]]),)  # for each output channel
            assert weights[node.input[2]].dtype == np.float32  # the bias
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            scale, zero_point = weights[node.input[1]], weights[node.input[2]]
            np.testing.assert_array_equal(scale, scale.astype(np.float16))
            assert zero_point.dtype == np.int8
            assert not zero_point.any()
    # the logits are no convolution's input, so they stay float
    assert made_by["logits"].op_type == "Conv"


def test_one_bright_frame_does_not_stretch_the_steps_for_all_others(tmp_path: Path) -> None:
    network, path = write_network(tmp_path / "a.onnx", outlier=1), tmp_path / "int8.onnx"
    frames = [np.full((1, PX, PX, 3), level, np.uint8) for level in (50, 50, 50, 250)]
    quantise_symmetric(network, frames, path)
    model = onnx.load(path)
    weights = {weight.name: numpy_helper.to_array(weight) for weight in model.graph.initializer}
    (first,) = (node for node in model.graph.node if node.op_type == "QuantizeLinear" and node.input[0] == "quarter")
    assert weights[first.input[1]] * 127 == pytest.approx(np.mean([50, 50, 50, 250]), rel=0.01)


def test_weights_lose_at_most_half_a_step(tmp_path: Path, frames: list[np.ndarray]) -> None:
    network, path = write_network(tmp_path / "a.onnx", outlier=7.77), tmp_path / "int8.onnx"
    quantise_symmetric(network, frames, path)
    given = {weight.name: numpy_helper.to_array(weight) for weight in onnx.load(network).graph.initializer}
    stored = {weight.name: numpy_helper.to_array(weight) for weight in onnx.load(path).graph.initializer}
    for name in ("spread_weight", "pick_weight", "classify_weight"):
        scale = stored[f"{name}_scale"].reshape(-1, 1, 1, 1)
        assert (np.abs(stored[f"{name}_quantized"] * scale - given[name]) <= 0.5001 * scale).all()


def test_depthwise_convolutions_and_those_named_by_position_stay_float(
    tmp_path: Path, pairs: list[LabelledImage], frames: list[np.ndarray]
) -> None:
    network, path = write_network(tmp_path / "a.onnx", outlier=1, depthwise=True), tmp_path / "int8.onnx"

    def quantised_convolutions() -> set[str]:
        graph = onnx.load(path).graph
        dequantised = {name for node in graph.node if node.op_type == "DequantizeLinear" for name in node.output}
        return {node.name for node in graph.node if node.op_type == "Conv" and node.input[1] in dequantised}

    assert quantise_symmetric(network, frames, path) == []
    assert quantised_convolutions() == {"spread", "pick", "classify"}
    assert quantise_symmetric(network, frames, path, float_layers=(0, -1)) == ["spread", "classify"]
    assert quantised_convolutions() == {"pick"}


def test_quantising_says_nothing(tmp_path: Path, frames: list[np.ndarray], caplog: pytest.LogCaptureFixture) -> None:
    with contextlib.redirect_stderr(io.StringIO()) as said:
        quantise_symmetric(write_network(tmp_path / "a.onnx", outlier=1), frames, tmp_path / "int8.onnx")
    assert caplog.text == said.getvalue() == ""


def test_scales_are_rounded_up_to_float16_so_that_nothing_clips() -> None:
    scales = np.array([0.1, 0.5, 1 / 3, 1e-3], np.float32)
    rounded = _half_above(scales)
    assert (rounded >= scales).all()
    assert (rounded <= scales * (1 + 2**-10)).all()
    np.testing.assert_array_equal(rounded, rounded.astype(np.float16))
