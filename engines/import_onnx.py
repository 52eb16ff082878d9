"""Make a bundle from a segmentation graph that was trained elsewhere.

    python -m engines.import_onnx --onnx FILE --name my_model --classes CLASSES --input-hw 512 1024 --images FOLDER
    python -m engines.import_onnx --checkpoint FILE --model smp.Unet:resnet34 …

The graph may take NCHW or NHWC, float or uint8, and answer with logits at any stride or with class ids. It is put
between this package's camera bytes and class maps, and the result is held against the graph itself, run as its authors
would, on your images; nothing is written unless both agree. ``--images`` also calibrates int8 for the CPU.

CLASSES is ``cityscapes``, a JSON file with a list of {"name", "category", "rgb"}, or names with commas between them.
"""

from __future__ import annotations

import colorsys
import json
import tempfile
from argparse import ArgumentParser
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import onnxruntime
import openvino
import torch
from onnx import TensorProto, compose, helper, numpy_helper, version_converter
from torch.nn import functional

from darkseg_ros.classes import CITYSCAPES, ClassTable, SegmentationClass
from darkseg_ros.errors import InputError, one_line
from darkseg_ros.frames.source import read_image
from darkseg_ros.model.backends import open_engine
from darkseg_ros.model.bundle import ANY_MATCH, LOGITS_STRIDE, load_bundle
from darkseg_ros.model.segmenter import preprocess
from engines.bundle_writer import BundleContent, write_bundle
from engines.export import (
    FUSED_MATCH,
    export_onnx,
    golden_answer,
    golden_frames,
    least_match_of,
    match_on_golden,
)
from engines.half_precision import measured_fp16_match
from engines.parity import LIMITS
from engines.quantisation import quantise
from training.data.imagenet import IMAGENET_MEAN_RGB, IMAGENET_STD_RGB
from training.data.pairs import find_images
from training.runs.results import one_line_errors

_OPSET = 20
_IMAGES_MAX = 96
_ID_LOGIT = 20.0  # a class id as a logit, the others being 0: a confidence of 1
_PREFIX = "foreign/"


@dataclass(frozen=True)
class Convention:
    """How a graph wants its images, and how its user enlarges its logits.

    Attributes:
        rgb: the order of the colours; otherwise BGR.
        scale: what the largest pixel value is for the graph, before mean and std: 1 or 255.
        mean: of each channel in the graph's order, in units of `scale`.
        std: likewise.
        align_corners: logits are enlarged with aligned corners; otherwise with half-pixel centres.
    """

    rgb: bool = True
    scale: float = 1.0
    mean: tuple[float, ...] = IMAGENET_MEAN_RGB
    std: tuple[float, ...] = IMAGENET_STD_RGB
    align_corners: bool = False


@dataclass(frozen=True)
class ForeignGraph:
    """A graph whose ports are understood.

    Attributes:
        model: of static shapes, one input and one output, names as they came.
        input_name: of its input.
        output_name: of its output.
        channels_last: the input is NHWC.
        bytes_in: the input is uint8, and gets pixels as they are.
        answer: what the output holds: logits as NCHW or NHWC, or class ids.
        answer_hw: its height and width.
    """

    model: onnx.ModelProto
    input_name: str
    output_name: str
    channels_last: bool
    bytes_in: bool
    answer: Literal["NCHW", "NHWC", "ids"]
    answer_hw: tuple[int, int]


def main(arguments: list[str] | None = None) -> None:
    """Run the import from the command line."""
    parser = ArgumentParser(description=__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--onnx", type=Path, metavar="FILE", help="the graph")
    source.add_argument("--checkpoint", type=Path, metavar="FILE", help="state dict of --model")
    parser.add_argument("--model", help="smp.CLASS:ENCODER or torchvision.FUNCTION, such as smp.Unet:resnet34")
    parser.add_argument("--name", required=True, help="of the bundle and its folder")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder of bundles (default: engines/)")
    parser.add_argument("--classes", required=True, help="cityscapes, a JSON file, or names with commas between them")
    parser.add_argument("--input-hw", type=int, nargs=2, required=True, metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--images", type=Path, required=True, help="folder of camera images, by day and by night")
    parser.add_argument("--output", help="name of the output that holds the answer, where the graph has several")
    colours = parser.add_mutually_exclusive_group()
    colours.add_argument("--rgb", action="store_true", help="the graph takes RGB (the default)")
    colours.add_argument("--bgr", action="store_true", help="the graph takes BGR")
    parser.add_argument(
        "--scale", type=float, default=1.0, help="largest pixel value before mean and std: 1 or 255 (1)"
    )
    parser.add_argument("--mean", type=float, nargs=3, default=IMAGENET_MEAN_RGB, help="by channel (ImageNet's)")
    parser.add_argument("--std", type=float, nargs=3, default=IMAGENET_STD_RGB, help="by channel (ImageNet's)")
    parser.add_argument("--align-corners", action="store_true", help="its user enlarges logits with aligned corners")
    parsed = parser.parse_args(arguments)
    with one_line_errors("import_onnx"):
        classes = read_classes(parsed.classes)
        convention = Convention(
            rgb=not parsed.bgr,
            scale=parsed.scale,
            mean=tuple(parsed.mean),
            std=tuple(parsed.std),
            align_corners=parsed.align_corners,
        )
        input_hw = (parsed.input_hw[0], parsed.input_hw[1])
        with tempfile.TemporaryDirectory() as temporary:
            graph = parsed.onnx
            if graph is None:
                graph = Path(temporary) / "checkpoint.onnx"
                export_checkpoint(parsed.checkpoint, parsed.model, classes=classes, input_hw=input_hw, path=graph)
            bundle = import_graph(
                graph,
                name=parsed.name,
                out=parsed.out,
                classes=classes,
                input_hw=input_hw,
                images=parsed.images,
                convention=convention,
                output=parsed.output,
            )
    print(f"wrote {bundle}")


def import_graph(
    path: Path,
    *,
    name: str,
    out: Path,
    classes: ClassTable,
    input_hw: tuple[int, int],
    images: Path,
    convention: Convention,
    output: str | None = None,
) -> Path:
    """Write the bundle ``out/name`` and return its path.

    Args:
        path: the foreign graph.
        name: of the bundle.
        out: folder of bundles.
        classes: what its class ids mean, in their order.
        input_hw: the size that frames are stretched to, multiples of 4.
        images: folder of camera images to compare and calibrate on.
        convention: how the graph wants its images.
        output: name of the output that counts; None where there is one alone.

    Raises:
        InputError: if the graph cannot be represented, naming what and where, or the bundle answers otherwise than it.
    """
    if min(input_hw) < LOGITS_STRIDE or any(side % LOGITS_STRIDE for side in input_hw):
        raise InputError(
            f"--input-hw is {input_hw[0]} {input_hw[1]}; expected multiples of {LOGITS_STRIDE}, such as 512 1024"
        )
    foreign = read_foreign(path, classes=classes, input_hw=input_hw, output=output)
    paths = find_images(images)
    frames = [preprocess(read_image(each), input_hw) for each in paths[:: -(-len(paths) // _IMAGES_MAX)]]
    expected = [original_class_map(foreign, frame, convention, classes=classes) for frame in frames]

    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        fused_onnx, logits_onnx = work / "fused.onnx", work / "logits.onnx"
        onnx.save(wrapped(foreign, convention, classes=classes, input_hw=input_hw, fused=True), str(fused_onnx))
        onnx.save(wrapped(foreign, convention, classes=classes, input_hw=input_hw, fused=False), str(logits_onnx))
        float_graph = work / "cpu_float.xml"
        try:
            openvino.save_model(openvino.convert_model(str(logits_onnx)), str(float_graph), compress_to_fp16=False)
        except Exception as error:  # OpenVINO's exceptions share no base class
            raise InputError(f"OpenVINO cannot read {path}: {one_line(error)}") from error
        golden = golden_answer(fused_onnx, golden_frames(input_hw))
        content = BundleContent(
            name=name,
            network_hw=input_hw,
            temperature=1.0,
            fused_onnx=fused_onnx,
            cpu_graph=float_graph,
            golden=golden,
            fused_match=FUSED_MATCH,
            fp16_match=measured_fp16_match(fused_onnx, golden),
            cpu_match=ANY_MATCH,
            model_card="",
            classes=classes,
        )
        fused = _agreement(content, work, "onnxruntime", frames, expected)
        if fused < LIMITS["fp32"].agreement_min:
            raise InputError(
                f"the bundle gives {fused:.2%} of the pixels the class that {path} gives them, expected "
                f"{LIMITS['fp32'].agreement_min:.1%}; nothing was written: report this graph"
            )
        in_float = _agreement(content, work, "openvino", frames, expected)
        int8_content = replace(content, cpu_graph=quantise(logits_onnx, frames, work / "cpu_int8.xml"))
        in_int8 = _agreement(int8_content, work, "openvino", frames, expected)
        int8_match = match_on_golden(load_bundle(work / "draft" / name), "openvino")
        limit = LIMITS["int8"].agreement_min
        int8_fits = in_int8 >= limit and int8_match.confidence_difference <= 255 * LIMITS["int8"].confidence_error_max
        cpu, cpu_agreement = ("int8", in_int8) if int8_fits else ("float", in_float)
        if cpu_agreement < limit:
            raise InputError(
                f"the CPU graph, whose logits have a quarter of the size, gives {cpu_agreement:.1%} of the pixels the "
                f"class that {path} gives them, expected {limit:.0%}; nothing was written: take a larger --input-hw"
            )
        report = (
            f"On {len(frames)} images the fused graph gives {fused:.2%} of the pixels the original's class, the CPU "
            f"graph {in_float:.2%} in float and {in_int8:.2%} in int8; the bundle's CPU graph is {cpu}."
        )
        print(report)
        final, match = int8_content, int8_match
        if cpu == "float":
            final = content
            match = match_on_golden(load_bundle(write_bundle(work / "draft", final)), "openvino")
        card = _card(name, path, convention, foreign, classes, report)
        return write_bundle(out, replace(final, cpu_match=least_match_of(match), model_card=card))


def read_classes(text: str) -> ClassTable:
    """The class table that ``--classes`` names.

    Raises:
        InputError: if it is no table.
    """
    if text == "cityscapes":
        return CITYSCAPES
    try:
        if Path(text).suffix == ".json":
            return ClassTable.from_json(json.loads(Path(text).read_text(encoding="utf-8")))
        names = [name.strip() for name in text.split(",")]
        hues = [(0.618 * index) % 1 for index in range(len(names))]  # neighbours far apart
        colours = [colorsys.hsv_to_rgb(hue, 0.8, 0.9) for hue in hues]
        return ClassTable(
            tuple(
                SegmentationClass(name, name, (round(255 * red), round(255 * green), round(255 * blue)))
                for name, (red, green, blue) in zip(names, colours, strict=True)
            )
        )
    except (OSError, ValueError) as error:
        raise InputError(f"--classes {text}: {error}") from error


def export_checkpoint(
    checkpoint: Path, model: str | None, *, classes: ClassTable, input_hw: tuple[int, int], path: Path
) -> None:
    """Write the ONNX graph of a state dict, from ImageNet-normalised RGB images to logits.

    Args:
        checkpoint: state dict, as `torch.save` writes it.
        model: smp.CLASS:ENCODER or torchvision.FUNCTION.
        classes: of the model.
        input_hw: of the graph.
        path: ONNX file to write.

    Raises:
        InputError: if there is no such model, or the state dict is of another.
    """
    network = _foreign_network(model or "", len(classes))
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        network.load_state_dict(state.get("state_dict", state))
    except Exception as error:  # torch raises a handful of unrelated types
        raise InputError(
            f"{checkpoint} is no state dict of {model} with {len(classes)} classes ({one_line(error)})"
        ) from error
    export_onnx(_Logits(network), np.zeros((1, 3, *input_hw), np.float32), path, ["logits"])


def _foreign_network(model: str, num_classes: int) -> torch.nn.Module:
    library, _, name = model.partition(".")
    name, _, encoder = name.partition(":")
    try:
        if library == "smp" and encoder:
            import segmentation_models_pytorch as smp

            network: torch.nn.Module = getattr(smp, name)(encoder, encoder_weights=None, classes=num_classes)
            return network
        if library == "torchvision" and name:
            import torchvision

            builder = getattr(torchvision.models.segmentation, name)
            found: torch.nn.Module = builder(weights=None, weights_backbone=None, num_classes=num_classes)
            return found
    except (AttributeError, KeyError, ValueError, TypeError) as error:
        raise InputError(f"--model {model} cannot be built: {one_line(error)}") from error
    raise InputError(
        f"--model is {model!r}; expected smp.CLASS:ENCODER or torchvision.FUNCTION, such as smp.Unet:resnet34"
    )


class _Logits(torch.nn.Module):
    """A network without the dictionary that torchvision's put around their answers."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        answer = self.network(images)
        logits: torch.Tensor = answer["out"] if isinstance(answer, dict) else answer
        return logits


def read_foreign(path: Path, *, classes: ClassTable, input_hw: tuple[int, int], output: str | None) -> ForeignGraph:
    """Read a graph, fix its shapes, and find out what its ports are.

    Raises:
        InputError: naming the port or node, if it is not understood.
    """
    try:
        model = onnx.load(str(path))
        _refuse_unknown_operators(model, path)
        version = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
        if version != _OPSET:
            model = version_converter.convert_version(model, _OPSET)
    except InputError:
        raise
    except Exception as error:  # protobuf and onnx raise unrelated types
        raise InputError(f"{path} cannot be read as ONNX of opset {_OPSET}: {one_line(error)}") from error
    weights = {weight.name for weight in model.graph.initializer}
    inputs = [port for port in model.graph.input if port.name not in weights]
    if len(inputs) != 1:
        raise InputError(f"{path} has the inputs {_named(inputs)}; expected one, the image")
    channels_last = _fix_input(inputs[0], path, input_hw)
    answer = _chosen_output(model, path, output)
    del model.graph.output[:]
    model.graph.output.append(answer)
    element = inputs[0].type.tensor_type.elem_type
    if element not in (TensorProto.FLOAT, TensorProto.UINT8):
        raise InputError(f"{path}: input {inputs[0].name} is {_type_name(element)}; expected float or uint8")
    shape, dtype = _answer_of(model, path, inputs[0], answer)
    kind, answer_hw = _kind_of(path, model, answer.name, shape, dtype, classes)
    return ForeignGraph(
        model=model,
        input_name=inputs[0].name,
        output_name=answer.name,
        channels_last=channels_last,
        bytes_in=element == TensorProto.UINT8,
        answer=kind,
        answer_hw=answer_hw,
    )


def _refuse_unknown_operators(model: onnx.ModelProto, path: Path) -> None:
    for node in model.graph.node:
        known = node.domain in ("", "ai.onnx") and onnx.defs.has(node.op_type)
        own = any((node.domain, node.op_type) == (function.domain, function.name) for function in model.functions)
        if not known and not own:
            raise InputError(
                f"{path}: node {node.name or node.output[0]} is the operator {node.op_type} of "
                f"{node.domain or 'ONNX'}, which is none of ONNX; export the model with standard operators alone"
            )


def _fix_input(port: onnx.ValueInfoProto, path: Path, input_hw: tuple[int, int]) -> bool:
    """Give the input a static shape; tells whether its channels come last."""
    dimensions = port.type.tensor_type.shape.dim
    if not port.type.tensor_type.HasField("shape") or len(dimensions) != 4:
        raise InputError(
            f"{path}: input {port.name} has {len(dimensions) or 'no fixed number of'} dimensions; expected 4, "
            "N, 3, H, W or N, H, W, 3"
        )
    channels_last = dimensions[3].dim_value == 3 and dimensions[1].dim_value != 3
    if not channels_last and dimensions[1].dim_value != 3:
        found = ", ".join(str(each.dim_value or each.dim_param or "?") for each in dimensions)
        raise InputError(f"{path}: input {port.name} is ({found}); expected 3 channels in the second or last place")
    shape = (1, *input_hw, 3) if channels_last else (1, 3, *input_hw)
    for dimension, wanted in zip(dimensions, shape, strict=True):
        if dimension.dim_value not in (0, wanted):
            sides = [dimensions[index].dim_value for index in ((1, 2) if channels_last else (2, 3))]
            raise InputError(
                f"{path}: input {port.name} is of a batch of {dimensions[0].dim_value or 1} at {sides[0]}×{sides[1]}, "
                f"not 1 at {input_hw[0]}×{input_hw[1]}; set --input-hw to its size, or export it with a batch of 1"
            )
        dimension.dim_value = wanted
    return channels_last


def _chosen_output(model: onnx.ModelProto, path: Path, output: str | None) -> onnx.ValueInfoProto:
    outputs = list(model.graph.output)
    if output is not None:
        outputs = [port for port in outputs if port.name == output]
        if not outputs:
            raise InputError(f"{path} has no output {output}; it has {_named(model.graph.output)}")
    if len(outputs) != 1:
        raise InputError(f"{path} has the outputs {_named(outputs)}; name the one with the classes by --output")
    return outputs[0]


def _answer_of(
    model: onnx.ModelProto, path: Path, image: onnx.ValueInfoProto, answer: onnx.ValueInfoProto
) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type of the answer, by running the graph: exporters often leave them open."""
    shape = [dimension.dim_value for dimension in image.type.tensor_type.shape.dim]
    session = _session(model, path)
    try:
        answers = [
            session.run([answer.name], {image.name: np.full(shape, fill, _dtype_of(image))})[0] for fill in (0, 1)
        ]
    except Exception as error:  # ONNX Runtime's exceptions share no base class; they name the node
        raise InputError(f"{path} does not run at this --input-hw: {one_line(error)}") from error
    if answers[0].shape != answers[1].shape or answers[0].ndim not in (3, 4):
        node = next((node for node in model.graph.node if answer.name in node.output), None)
        raise InputError(
            f"{path}: output {answer.name}, of node {node.name if node else '?'} ({node.op_type if node else '?'}), "
            f"has {answers[0].ndim} dimensions; expected 4 of logits, or 3 or 4 of class ids"
        )
    return answers[0].shape, answers[0].dtype


def _kind_of(
    path: Path, model: onnx.ModelProto, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], classes: ClassTable
) -> tuple[Literal["NCHW", "NHWC", "ids"], tuple[int, int]]:
    node = next((node for node in model.graph.node if name in node.output), None)
    where = f"{path}: output {name}, of node {node.name} ({node.op_type})" if node else f"{path}: output {name}"
    if np.issubdtype(dtype, np.integer):
        if len(shape) == 4 and 1 in (shape[1], shape[3]):
            shape = shape[:3] if shape[3] == 1 else (shape[0], *shape[2:])
        if len(shape) != 3:
            raise InputError(f"{where} is {dtype} {shape}; expected class ids as (1, H, W)")
        return "ids", (shape[1], shape[2])
    if len(shape) == 4 and shape[1] == len(classes):
        return "NCHW", (shape[2], shape[3])
    if len(shape) == 4 and shape[3] == len(classes):
        return "NHWC", (shape[1], shape[2])
    raise InputError(
        f"{where} is {dtype} {shape}; expected logits of the {len(classes)} classes of --classes, in the second "
        "or last place, or whole numbers as class ids"
    )


def original_class_map(
    foreign: ForeignGraph, frame: np.ndarray, convention: Convention, *, classes: ClassTable
) -> np.ndarray:
    """What the graph itself answers, prepared and finished in numpy and torch as its authors would.

    Args:
        foreign: the graph.
        frame: (1, H, W, 3) uint8 BGR.
        convention: how it wants its images.
        classes: of the model.

    Returns:
        (H, W) uint8 train ids.

    Raises:
        InputError: if a class id is none of the classes.
    """
    pixels = frame[..., ::-1] if convention.rgb else frame
    if not foreign.bytes_in:
        mean, std = (np.asarray(values, np.float32) for values in (convention.mean, convention.std))
        pixels = (pixels.astype(np.float32) * (convention.scale / 255) - mean) / std
        pixels = pixels.astype(np.float32)
    image = np.ascontiguousarray(pixels if foreign.channels_last else pixels.transpose(0, 3, 1, 2))
    session = _session(foreign.model, Path(foreign.model.graph.name))
    (answer,) = session.run([foreign.output_name], {foreign.input_name: image})
    if foreign.answer == "ids":
        ids = answer.reshape(1, 1, *foreign.answer_hw)
        if ids.min() < 0 or ids.max() >= len(classes):
            raise InputError(
                f"output {foreign.output_name} gives the class id {ids.max() if ids.min() >= 0 else ids.min()}; "
                f"--classes names {len(classes)}: expected ids of 0…{len(classes) - 1}"
            )
        enlarged = functional.interpolate(torch.from_numpy(ids).double(), frame.shape[1:3], mode="nearest-exact")
        return enlarged[0, 0].numpy().astype(np.uint8)
    logits = torch.from_numpy(
        answer if foreign.answer == "NCHW" else np.ascontiguousarray(answer.transpose(0, 3, 1, 2))
    )
    full = functional.interpolate(logits, frame.shape[1:3], mode="bilinear", align_corners=convention.align_corners)
    return full.argmax(1)[0].numpy().astype(np.uint8)


def wrapped(
    foreign: ForeignGraph, convention: Convention, *, classes: ClassTable, input_hw: tuple[int, int], fused: bool
) -> onnx.ModelProto:
    """The graph between ``frame``, uint8 (1, H, W, 3) BGR, and a bundle's outputs.

    Args:
        foreign: the graph.
        convention: how it wants its images.
        classes: of the model.
        input_hw: of the frame.
        fused: ``class_map`` and ``confidence`` come out, as of `engines.fused_graph.FusedGraph`; else ``logits`` at
            a quarter of the size.
    """
    model = compose.add_prefix(foreign.model, _PREFIX)
    graph = model.graph
    build = _Nodes()
    image = build.add("Cast", "frame", to=TensorProto.FLOAT)
    if convention.rgb:
        image = build.add("Gather", image, build.constant(np.array([2, 1, 0])), axis=3)
    if foreign.bytes_in:
        image = build.add("Cast", image, to=TensorProto.UINT8)
    else:
        factor = convention.scale / 255 / np.asarray(convention.std)
        shift = -np.asarray(convention.mean) / np.asarray(convention.std)
        image = build.add("Mul", image, build.constant(factor.astype(np.float32)))
        image = build.add("Add", image, build.constant(shift.astype(np.float32)))
    if not foreign.channels_last:
        image = build.add("Transpose", image, perm=[0, 3, 1, 2])
    build.rename(image, _PREFIX + foreign.input_name)
    before, build.nodes = build.nodes, []

    height, width = input_hw
    quarter_hw = (height // LOGITS_STRIDE, width // LOGITS_STRIDE)
    answer = _PREFIX + foreign.output_name
    if foreign.answer == "ids":
        ids = build.add("Reshape", answer, build.constant(np.array([1, *foreign.answer_hw])))
        ids = build.add("Cast", ids, to=TensorProto.INT64)
        off_on = build.constant(np.array([0.0, _ID_LOGIT], np.float32))
        logits = build.add("OneHot", ids, build.constant(np.array(len(classes))), off_on, axis=1)
        resized = {"mode": "nearest", "coordinate_transformation_mode": "half_pixel"}
        resized["nearest_mode"] = "round_prefer_ceil"
    else:
        logits = answer if foreign.answer == "NCHW" else build.add("Transpose", answer, perm=[0, 3, 1, 2])
        resized = {
            "mode": "linear",
            "coordinate_transformation_mode": "align_corners" if convention.align_corners else "half_pixel",
        }
    quarter = build.resize(logits, foreign.answer_hw, quarter_hw, len(classes), **resized)
    if fused:
        full = build.resize(logits, foreign.answer_hw, input_hw, len(classes), **resized)
        class_map = build.add("ArgMax", full, axis=1, keepdims=0)
        class_map = build.add("Cast", build.add("Cast", class_map, to=TensorProto.FLOAT), to=TensorProto.UINT8)
        build.rename(class_map, "class_map")
        probability = build.add("Softmax", quarter, axis=1)
        probability = build.add("ReduceMax", probability, build.constant(np.array([1])), keepdims=1)
        half_pixel = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
        confidence = build.resize(probability, quarter_hw, input_hw, 1, **half_pixel)
        confidence = build.add("Mul", confidence, build.constant(np.array(255.0, np.float32)))
        confidence = build.add("Squeeze", build.add("Round", confidence), build.constant(np.array([1])))
        build.rename(build.add("Cast", confidence, to=TensorProto.UINT8), "confidence")
        outputs = [
            helper.make_tensor_value_info(port, TensorProto.UINT8, (1, *input_hw))
            for port in ("class_map", "confidence")
        ]
    else:
        build.rename(build.add("Identity", quarter), "logits")
        outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, (1, len(classes), *quarter_hw))]
    foreign_nodes = list(graph.node)
    del graph.node[:], graph.input[:], graph.output[:], graph.value_info[:]
    graph.node.extend([*before, *foreign_nodes, *build.nodes])
    graph.initializer.extend(build.constants)
    graph.input.append(helper.make_tensor_value_info("frame", TensorProto.UINT8, (1, *input_hw, 3)))
    graph.output.extend(outputs)
    onnx.checker.check_model(model)
    return model


class _Nodes:
    """Nodes of a graph in the making; each `add` gives its output's name."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._count = 0

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        self._count += 1
        name = f"{operator}_{self._count}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], name=name, **attributes))
        return name

    def constant(self, values: np.ndarray) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(values, name))
        return name

    def resize(
        self, features: str, from_hw: tuple[int, int], to_hw: tuple[int, int], channels: int, **attributes: str
    ) -> str:
        if from_hw == to_hw:
            return features
        return self.add("Resize", features, "", "", self.constant(np.array([1, channels, *to_hw])), **attributes)

    def rename(self, output: str, name: str) -> None:
        """Give the output of the last node another name."""
        assert self.nodes[-1].output[0] == output
        self.nodes[-1].output[0] = name


def _agreement(
    content: BundleContent, work: Path, backend: str, frames: Sequence[np.ndarray], expected: Sequence[np.ndarray]
) -> float:
    """Share of the frames' pixels to which a draft of the bundle gives the expected class."""
    bundle = load_bundle(write_bundle(work / "draft", content))
    with closing(open_engine(bundle, backend=backend)) as engine:
        shares = [
            float((engine(frame).class_map[0] == class_map).mean())
            for frame, class_map in zip(frames, expected, strict=True)
        ]
    return float(np.mean(shares))


def _session(model: onnx.ModelProto, path: Path) -> Any:
    try:
        return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions share no base class; they name the node
        raise InputError(f"ONNX Runtime cannot load {path}: {one_line(error)}") from error


def _dtype_of(port: onnx.ValueInfoProto) -> Any:
    return helper.tensor_dtype_to_np_dtype(port.type.tensor_type.elem_type)


def _type_name(element: int) -> str:
    return TensorProto.DataType.Name(element).lower()


def _named(ports: Sequence[onnx.ValueInfoProto]) -> str:
    return ", ".join(port.name for port in ports) or "none"


def _card(
    name: str, path: Path, convention: Convention, foreign: ForeignGraph, classes: ClassTable, report: str
) -> str:
    """Markdown."""
    answer = "class ids" if foreign.answer == "ids" else f"logits ({foreign.answer})"
    pixels = (
        "uint8 pixels"
        if foreign.bytes_in
        else f"pixels of 0…{convention.scale:g}, mean {convention.mean}, std {convention.std}"
    )
    height, width = foreign.answer_hw
    corners = "aligned corners" if convention.align_corners else "half-pixel centres"
    return f"""# {name}

Imported from `{path.name}` by `engines.import_onnx`. Who trained it, on what data and under which terms, is not
known here: write it down before you pass the bundle on.

- Input: {"RGB" if convention.rgb else "BGR"}, {pixels}, {"NHWC" if foreign.channels_last else "NCHW"}.
- Answer: {answer} at {height}×{width}, enlarged with {"nearest neighbours" if foreign.answer == "ids" else corners}.
- Classes: {", ".join(classes.names)}.
- Confidence: {"1, since the graph gives none" if foreign.answer == "ids" else "not calibrated (temperature 1)"}.

{report}
"""


if __name__ == "__main__":
    main()
