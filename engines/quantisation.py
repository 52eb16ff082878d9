"""The two int8 graphs of a bundle: OpenVINO's for the CPU, and the fused graph with symmetric int8 for TensorRT."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import nncf
import numpy as np
import onnx
import openvino
from nncf import AdvancedAccuracyRestorerParameters
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.quant_utils import add_pre_process_metadata

from darkseg_ros.classes import CITYSCAPES, ClassTable
from darkseg_ros.evaluation.metrics import confusion_matrix, mean_iou, mean_iou_of_present
from darkseg_ros.frames.labelled import LabelledImage, read_labelled
from darkseg_ros.model.backends.finish.logits_finish import finish_logits
from darkseg_ros.model.backends.openvino import openvino_core
from darkseg_ros.model.backends.protocol import EngineOutput
from darkseg_ros.model.exposure import Exposure
from darkseg_ros.model.segmenter import postprocess, preprocess

FLOAT_LAYERS_TRIED: tuple[tuple[int, ...], ...] = ((), (0,), (0, -1))
"""Which dense convolutions of the symmetric graph to keep in float, by position; the first choice that keeps the
accuracy is taken. The stem goes first: its few channels have ranges far apart, and it costs little. Then the head,
whose output is the logits themselves.
"""

_RANKING_IMAGES = 64
_TIMED_ROUNDS = 50
_DROP_SHARE = 0.9  # nncf measures the loss against the float graph in OpenVINO, the export against ONNX Runtime
_SMALLEST_SCALE = np.float16(2**-20)  # with 4 more bits to tell two scales apart


def quantise(logits_onnx: Path, frames: list[np.ndarray], path: Path) -> Path:
    """Post-training int8 of the CPU graph; returns the .xml, the .bin lies beside it.

    Args:
        logits_onnx: the float graph, frame → logits.
        frames: to calibrate with, (1, H, W, 3) uint8 BGR each.
        path: .xml to write.
    """
    graph = openvino.convert_model(str(logits_onnx))
    quantised = nncf.quantize(
        graph,
        nncf.Dataset(frames),
        preset=nncf.QuantizationPreset.PERFORMANCE,
        subset_size=len(frames),
        model_type=_model_type(graph),
    )
    openvino.save_model(quantised, str(path))
    return path


def quantise_within(
    logits_onnx: Path,
    frames: list[np.ndarray],
    path: Path,
    *,
    validation: Sequence[LabelledImage],
    miou_loss_max: float,
    classes: ClassTable = CITYSCAPES,
    exposure: Exposure | None = None,
) -> Path:
    """As `quantise`, but layers go back to float, the most harmful first, until the loss of mIoU holds.

    Every layer is judged by itself and every step on all images, so this takes minutes where `quantise` takes seconds.
    That the loss holds in the end is not promised: where it is in no single layer, all of them may end in float.

    Args:
        logits_onnx: as in `quantise`.
        frames: as in `quantise`.
        path: as in `quantise`.
        validation: labelled images to measure on.
        miou_loss_max: against the float graph, 0…1.
        classes: of the logits and the label maps.
        exposure: that the validation images are brightened to.
    """
    _, height, width, _ = frames[0].shape

    def validate(compiled: openvino.CompiledModel, pairs: Iterable[LabelledImage]) -> tuple[float, list[float]]:
        confusions = np.stack(list(_confusions(compiled, pairs, (height, width), classes, exposure)))
        # an image without ground truth tells nothing
        return float(mean_iou(confusions.sum(0))), np.nan_to_num(mean_iou_of_present(confusions)).tolist()

    graph = openvino.convert_model(str(logits_onnx))
    quantised = nncf.quantize_with_accuracy_control(
        graph,
        nncf.Dataset(frames),
        nncf.Dataset(validation),
        validate,
        max_drop=miou_loss_max * _DROP_SHARE,
        preset=nncf.QuantizationPreset.PERFORMANCE,
        subset_size=len(frames),
        model_type=_model_type(graph),
        advanced_accuracy_restorer_parameters=AdvancedAccuracyRestorerParameters(ranking_subset_size=_RANKING_IMAGES),
    )
    openvino.save_model(quantised, str(path))
    return path


def _model_type(graph: openvino.Model) -> nncf.ModelType | None:
    """NNCF keeps parts of attention in float and evens out its activations where it is told of a transformer.

    Without it, int8 of a small SegFormer lost 1 to 8 points of mIoU on two frames, other ones with each opening.
    """
    attends = any(node.get_type_name() in ("Softmax", "ScaledDotProductAttention") for node in graph.get_ops())
    return nncf.ModelType.TRANSFORMER if attends else None


def _confusions(
    compiled: openvino.CompiledModel,
    pairs: Iterable[LabelledImage],
    network_hw: tuple[int, int],
    classes: ClassTable,
    exposure: Exposure | None,
) -> Iterator[np.ndarray]:
    for pair in pairs:
        bgr, label_map = read_labelled(pair)
        logits = compiled({"frame": preprocess(bgr, network_hw, exposure)})["logits"][0]
        class_map, confidence = finish_logits(logits, temperature=1.0)  # no class depends on the temperature
        answer, _ = postprocess(EngineOutput(class_map[None], confidence[None]), label_map.shape, classes)
        yield confusion_matrix(label_map, answer, classes)


def float_layers(graph: Path) -> list[str]:
    """Names of a CPU graph's convolutions and matrix products whose weights are not int8.

    Args:
        graph: .xml with its .bin beside it.
    """
    model = openvino_core().read_model(str(graph))
    weighted = ("Convolution", "GroupConvolution", "ConvolutionBackpropData", "MatMul")
    return [
        node.get_friendly_name().removesuffix("/WithoutBiases")  # as OpenVINO's reader names it
        for node in model.get_ordered_ops()
        if node.get_type_name() in weighted and not _is_quantised(node.input_value(1).get_node())
    ]


def _is_quantised(weights: openvino.Node) -> bool:
    """Follows the weights of a layer to their constant, past what unpacks it."""
    while weights.get_type_name() != "Constant":
        if weights.get_type_name() == "FakeQuantize":
            return True
        weights = weights.input_value(0).get_node()
    return weights.get_element_type() in (openvino.Type.i8, openvino.Type.u8)


def relative_time(graph: Path, reference: Path, frame: np.ndarray) -> float:
    """How many times as long as another a CPU graph takes: the median over rounds in which they take turns.

    Args:
        graph: .xml with its .bin beside it.
        reference: another of the same input size.
        frame: (1, H, W, 3) uint8.
    """
    core = openvino_core()
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    compiled = [core.compile_model(str(path), "CPU", settings) for path in (graph, reference)]
    ratios = []
    for _ in range(_TIMED_ROUNDS):
        seconds = []
        for each in compiled:
            started = time.perf_counter()
            each({"frame": frame})
            seconds.append(time.perf_counter() - started)
        ratios.append(seconds[0] / seconds[1])
    return float(np.median(ratios))


class _Frames(CalibrationDataReader):
    def __init__(self, frames: list[np.ndarray]) -> None:
        self._frames = iter(frames)

    def get_next(self) -> dict[str, np.ndarray] | None:
        frame = next(self._frames, None)
        return None if frame is None else {"frame": frame}


def quantise_symmetric(
    fused_onnx: Path, frames: list[np.ndarray], path: Path, *, float_layers: tuple[int, ...] = ()
) -> list[str]:
    """Write the fused graph with int8 in the form that TensorRT takes: explicit and symmetric.

    The inputs of the dense convolutions are quantised, weights for each output channel, and nothing else is: TensorRT
    joins a convolution with what follows it up to the next quantiser, an addition too. A skip connection leaves from a
    tensor that the next convolution reads as well, so it is quantised there, once for both, as TensorRT wants it.
    Biases and all else stay float: normalisation, resizing, argmax and softmax.

    Depthwise convolutions stay float as well. Their cost is memory, not arithmetic, they lose most of the accuracy
    (each channel has a range of its own), and TensorRT for RTX 1.7 pads their int8 weights: with MobileNetV2 a plan of
    31 MB in place of 11.

    Activations' ranges are the means of the frames' extremes, which single bright pixels do not stretch. All scales are
    numbers of float16: a plan has float16 between its convolutions and may read them without loss.

    Args:
        fused_onnx: the float graph.
        frames: to calibrate with, (1, H, W, 3) uint8 BGR each.
        path: .onnx to write; weights are stored as int8.
        float_layers: positions among the dense convolutions of those to leave float too.

    Returns:
        The names of the dense convolutions that stayed float.

    Source: NVIDIA, TensorRT documentation, "Explicit Quantization", recommendations for placing Q/DQ layers.
    """
    model = onnx.load(str(fused_onnx))
    float_weights = {weight.name: numpy_helper.to_array(weight) for weight in model.graph.initializer}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    depthwise = {node.name for node in convolutions if _is_depthwise(node, float_weights)}
    dense = [node.name for node in convolutions if node.name not in depthwise]
    kept = list(dict.fromkeys(dense[position] for position in float_layers if position < len(dense)))
    add_pre_process_metadata(model)  # the exporter has folded constants and norms: no need to advise it
    quantize_static(
        model,
        path,
        _Frames(frames),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["Conv"],
        nodes_to_exclude=[*depthwise, *kept],
        per_channel=True,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        extra_options={
            "ActivationSymmetric": True,
            "WeightSymmetric": True,
            "QuantizeBias": False,
            "OpTypesToExcludeOutputQuantization": ["Conv"],
            "CalibMovingAverage": True,
        },
    )
    quantised = onnx.load(str(path))
    _round_scales(quantised, float_weights)
    path.write_bytes(quantised.SerializeToString())
    return kept


def _is_depthwise(convolution: onnx.NodeProto, weights: dict[str, np.ndarray]) -> bool:
    """Each output channel of it sees one input channel of several."""
    groups = next((attribute.i for attribute in convolution.attribute if attribute.name == "group"), 1)
    return groups > 1 and weights[convolution.input[1]].shape[1] == 1


def _round_scales(model: onnx.ModelProto, float_weights: dict[str, np.ndarray]) -> None:
    """Make every scale a number of float16, upwards so that nothing clips, and quantise the weights anew with it."""
    stored = {weight.name: weight for weight in model.graph.initializer}
    rounded: dict[str, np.ndarray] = {}
    for node in model.graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        name, scale_name = node.input[0], node.input[1]
        if scale_name not in rounded:
            rounded[scale_name] = _half_above(numpy_helper.to_array(stored[scale_name]))
            stored[scale_name].CopyFrom(numpy_helper.from_array(rounded[scale_name], scale_name))
        if name in stored:
            values = float_weights[name.removesuffix("_quantized")]
            steps = values / rounded[scale_name].reshape(-1, *[1] * (values.ndim - 1))
            stored[name].CopyFrom(numpy_helper.from_array(np.clip(np.rint(steps), -127, 127).astype(np.int8), name))


def _half_above(scales: np.ndarray) -> np.ndarray:
    """The numbers of float16 next above, as float32."""
    half = np.maximum(scales.astype(np.float16), _SMALLEST_SCALE)
    next_above: Any = np.nextafter(half, np.float16(np.inf))
    return np.where(half < scales, next_above, half).astype(np.float32)
