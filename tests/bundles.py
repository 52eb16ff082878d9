"""A bundle of a few kilobytes with real graphs, for tests that need one without training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import openvino
import yaml
from onnx import TensorProto, helper, numpy_helper

from darkseg_ros.classes import CITYSCAPES, ClassTable
from darkseg_ros.model.bundle import Golden, GoldenMatch
from darkseg_ros.model.exposure import Exposure
from engines.bundle_writer import BundleContent, TranslatorContent, write_bundle, write_translator_bundle

CAMVID = ClassTable.from_json(
    yaml.safe_load(
        (Path(__file__).resolve().parent.parent / "training/configs/segmenter_camvid.yaml").read_text(encoding="utf-8")
    )["data"]["classes"]
)
"""SegNet's 11 classes of CamVid, as a training run names them."""

_OPSET = [helper.make_opsetid("", 20)]


def write_tiny_bundle(
    directory: Path,
    network_hw: tuple[int, int] = (64, 128),
    *,
    classes: ClassTable = CITYSCAPES,
    exposure: Exposure | None = None,
) -> Path:
    """Write ``directory/tiny``: 4×4 average pooling and a 1×1 convolution.

    Dark makes class 0, blue 10, green 8, red 13 (Cityscapes' road, sky, vegetation, car), modulo the number of classes.
    """
    height, width = network_hw
    directory.mkdir(parents=True, exist_ok=True)
    logits_onnx, fused_onnx = directory / "logits.onnx", directory / "fused.onnx"
    onnx.save(
        _model(
            _logits_nodes(),
            _logits_weights(len(classes)),
            {"logits": ([1, len(classes), height // 4, width // 4], TensorProto.FLOAT)},
            network_hw,
        ),
        logits_onnx,
    )
    maps = {name: ([1, height, width], TensorProto.UINT8) for name in ("class_map", "confidence")}
    onnx.save(
        _model(
            [*_logits_nodes(), *_finish_nodes()],
            [*_logits_weights(len(classes)), *_finish_weights()],
            maps,
            network_hw,
        ),
        fused_onnx,
    )
    int8_onnx = directory / "int8.onnx"
    onnx.save(
        _model(
            [*_int8_logits_nodes(), *_finish_nodes()],
            [*_int8_logits_weights(len(classes)), *_finish_weights()],
            maps,
            network_hw,
        ),
        int8_onnx,
    )
    graph = openvino.convert_model(str(logits_onnx))
    openvino.save_model(graph, str(directory / "cpu.xml"), compress_to_fp16=False)
    rng = np.random.default_rng(0)
    frames = np.kron(rng.integers(0, 255, (height // 8, width // 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)[None]
    return write_bundle(
        directory,
        BundleContent(
            name="tiny",
            network_hw=network_hw,
            temperature=1.0,
            fused_onnx=fused_onnx,
            cpu_graph=directory / "cpu.xml",
            golden=golden_answer(fused_onnx, frames),
            fused_match=GoldenMatch(0.999, 1.0),
            cpu_match=GoldenMatch(0.99, 4.0),
            model_card="# tiny\n\nMade by the tests.\n",
            int8_onnx=int8_onnx,
            int8_match=GoldenMatch(0.95, 16.0),
            classes=classes,
            exposure=exposure,
        ),
    )


def golden_answer(fused_onnx: Path, frames: np.ndarray) -> Golden:
    """What ONNX Runtime answers."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(fused_onnx), providers=["CPUExecutionProvider"])
    class_map, confidence = session.run(["class_map", "confidence"], {"frame": frames})
    return Golden(frames=frames, class_map=class_map, confidence=confidence)


def _model(nodes: list, weights: list, outputs: dict, network_hw: tuple[int, int]) -> onnx.ModelProto:
    height, width = network_hw
    frame = helper.make_tensor_value_info("frame", TensorProto.UINT8, [1, height, width, 3])
    infos = [helper.make_tensor_value_info(name, kind, shape) for name, (shape, kind) in outputs.items()]
    return helper.make_model(
        helper.make_graph(nodes, "tiny", [frame], infos, weights), opset_imports=_OPSET, ir_version=10
    )


def _logits_nodes() -> list:
    return [
        helper.make_node("Cast", ["frame"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["bgr"], perm=[0, 3, 1, 2]),
        helper.make_node("AveragePool", ["bgr"], ["pooled"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Conv", ["pooled", "weight", "bias"], ["logits"], kernel_shape=[1, 1]),
    ]


def _logits_weights(count: int) -> list:
    weight = np.zeros((count, 3, 1, 1), np.float32)
    for channel, train_id in enumerate((10, 8, 13)):
        weight[train_id % count, channel] = 0.05
    bias = np.full(count, -4.0, np.float32)
    bias[0] = 3.0
    return [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(bias, "bias")]


def _int8_logits_nodes() -> list:
    cast, transpose, pool, convolution = _logits_nodes()
    convolution.input[:2] = ["pooled_dequantised", "weight_dequantised"]
    pooled = ["pooled_scale", "zero"]
    return [
        cast,
        transpose,
        pool,
        helper.make_node("QuantizeLinear", ["pooled", *pooled], ["pooled_quantised"], name="quantise"),
        helper.make_node("DequantizeLinear", ["pooled_quantised", *pooled], ["pooled_dequantised"]),
        helper.make_node(
            "DequantizeLinear", ["weight_int8", "weight_scale", "weight_zeros"], ["weight_dequantised"], axis=0
        ),
        convolution,
    ]


def _int8_logits_weights(count: int) -> list:
    weight, bias = _logits_weights(count)
    return [
        bias,
        numpy_helper.from_array(np.array(2, np.float32), "pooled_scale"),  # ±254
        numpy_helper.from_array(np.array(0, np.int8), "zero"),
        numpy_helper.from_array((numpy_helper.to_array(weight) * 2500).astype(np.int8), "weight_int8"),  # 0.05 → 125
        numpy_helper.from_array(np.full(count, 1 / 2500, np.float32), "weight_scale"),
        numpy_helper.from_array(np.zeros(count, np.int8), "weight_zeros"),
    ]


def _finish_nodes() -> list:
    resize = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    return [
        helper.make_node("Resize", ["logits", "", "scales"], ["full"], **resize),
        helper.make_node("ArgMax", ["full"], ["index"], axis=1, keepdims=0),
        helper.make_node("Cast", ["index"], ["class_map"], to=TensorProto.UINT8),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        helper.make_node("ReduceMax", ["probabilities", "class_axis"], ["quarter"], keepdims=1),
        helper.make_node("Resize", ["quarter", "", "scales"], ["probability"], **resize),
        helper.make_node("Squeeze", ["probability", "class_axis"], ["flat"]),
        helper.make_node("Mul", ["flat", "full_scale"], ["scaled"]),
        helper.make_node("Round", ["scaled"], ["rounded"]),
        helper.make_node("Cast", ["rounded"], ["confidence"], to=TensorProto.UINT8),
    ]


def _finish_weights() -> list:
    return [
        numpy_helper.from_array(np.array([1, 1, 4, 4], np.float32), "scales"),
        numpy_helper.from_array(np.array([1], np.int64), "class_axis"),
        numpy_helper.from_array(np.array(255, np.float32), "full_scale"),
    ]


def write_tiny_translator(directory: Path, network_hw: tuple[int, int] = (16, 32)) -> Path:
    """Write ``directory/negative``, a translator's bundle whose night is 255 minus the day."""
    shape = [1, *network_hw, 3]
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("BitwiseNot", ["frame"], ["night"])],
            "negative",
            [helper.make_tensor_value_info("frame", TensorProto.UINT8, shape)],
            [helper.make_tensor_value_info("night", TensorProto.UINT8, shape)],
        ),
        opset_imports=_OPSET,
        ir_version=10,
    )
    directory.mkdir(parents=True, exist_ok=True)
    onnx.save(model, directory / "negative.onnx")
    frames = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)
    return write_translator_bundle(
        directory,
        TranslatorContent(
            name="negative",
            network_hw=network_hw,
            onnx=directory / "negative.onnx",
            golden_frames=frames,
            golden_night=255 - frames,
            golden_difference_max=0.0,
            model_card="# negative\n\nMade by the tests.\n",
        ),
    )
