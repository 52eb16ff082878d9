"""From a bundle's one ONNX file, float32 and batch 1, to the graph that a plan is built from.

TensorRT builds networks as they are typed and knows no precision switches any more, so precision and batch must stand
in the graph. fp16 covers everything between the first and the last convolution; the normalisation of the frame, the
upsampling of the logits, argmax and softmax stay float32: they cost little, and half precision moves class borders.

int8 starts from a graph that the export has quantised. What lies between its convolutions and is not int8, such as
additions and resizing, is fp16 as well: float32 would double what these read and write, and next to the steps of int8
its digits are lost anyway.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from darkseg_ros.errors import BundleError, EngineError

_WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_QUANTISERS = frozenset({"QuantizeLinear", "DequantizeLinear"})
_RESIZE_SCALES = frozenset({1, 2})  # roi and scales, float32 whatever the type of the image
_HALF_MAX = 65504.0
_BATCH = "batch"

Shapes = dict[str, tuple[int, ...]]


def graph_for_plan(path: Path, *, precision: str, batch: int) -> onnx.ModelProto:
    """The graph of a plan.

    Args:
        path: the bundle's fused ONNX file; for int8 its quantised form.
        precision: one of `plan_cache.PRECISIONS`.
        batch: with 1 the graph keeps its static shapes; else the first dimension becomes symbolic.

    Raises:
        BundleError: if the file is no ONNX, or its inputs and outputs are others than those of the fused graph.
        EngineError: if the graph cannot be had in that precision, or serves only one frame at a time.
    """
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf's exceptions share no base class
        raise BundleError(
            f"{path} is no ONNX file ({error}); copy the bundle again or export the model again"
        ) from error
    _check_ports(model, path)
    quantised = any(node.op_type in _QUANTISERS for node in model.graph.node)
    if precision == "int8":
        if not quantised:
            raise EngineError(
                f"{path} holds no quantised graph, and TensorRT does not calibrate any more; "
                "build with --precision fp16, or use backend openvino, which runs the bundle's own int8 graph"
            )
        _check_symmetric(model, path)
    elif quantised:
        raise EngineError(f"{path} is a quantised graph; build it with --precision int8, not {precision}")
    if precision != "fp32":
        model = convert_to_half(model)
    return with_dynamic_batch(model) if batch > 1 else model


def _check_ports(model: onnx.ModelProto, path: Path) -> None:
    graph = model.graph
    weights = {weight.name for weight in graph.initializer}
    inputs = [port for port in graph.input if port.name not in weights]
    found = ([port.name for port in inputs], [port.name for port in graph.output])
    kinds = {port.type.tensor_type.elem_type for port in (*inputs, *graph.output)}
    if found != (["frame"], ["class_map", "confidence"]) or kinds != {TensorProto.UINT8}:
        raise BundleError(
            f"{path} has inputs and outputs {found} of types {sorted(map(TensorProto.DataType.Name, kinds))}; "
            "expected frame → class_map, confidence, all UINT8: export the model again"
        )


def _check_symmetric(model: onnx.ModelProto, path: Path) -> None:
    weights = {weight.name: weight for weight in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type in _QUANTISERS and len(node.input) > 2 and node.input[2] in weights:
            zero_point = numpy_helper.to_array(weights[node.input[2]])
            if zero_point.dtype != np.int8 or zero_point.any():
                raise EngineError(
                    f"{path}: {node.op_type} {node.name!r} has zero points of {zero_point.dtype} that are not all 0; "
                    "TensorRT takes symmetric int8 only: quantise with ActivationSymmetric and QInt8"
                )


def convert_to_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """Everything between the first and the last weighted layer in float16; inputs and outputs keep their types.

    Raises:
        EngineError: if a weight is too large for float16, or a scale of int8 is no number of it.
    """
    graph = model.graph
    kinds = _element_types(model)
    weights = {weight.name: weight for weight in graph.initializer}
    half_nodes = _between_weighted(graph)
    half_nodes |= _dequantisers_of(graph, half_nodes)
    made_half = {
        name for index in half_nodes for name in graph.node[index].output if kinds.get(name) == TensorProto.FLOAT
    }
    wanted_float = {port.name for port in graph.output} | {
        name for index, node in enumerate(graph.node) if index not in half_nodes for name in node.input
    }
    nodes: list[onnx.NodeProto] = []
    half_weights: list[onnx.TensorProto] = []
    cast: set[str] = set()
    for index, node in enumerate(graph.node):
        node = copy.deepcopy(node)
        if index not in half_nodes:
            nodes.append(node)
            continue
        for position, name in enumerate(node.input):
            if kinds.get(name) != TensorProto.FLOAT or (node.op_type == "Resize" and position in _RESIZE_SCALES):
                continue
            node.input[position] = f"{name}_half"
            if name in made_half or name in cast:
                continue
            cast.add(name)
            if name in weights and node.op_type in _QUANTISERS:
                half_weights.append(_half_scale(weights[name]))
            elif name in weights:
                half_weights.append(_half_weight(weights[name]))
            else:
                nodes.append(_cast(name, f"{name}_half", TensorProto.FLOAT16))
        outputs = [name for name in node.output if name in made_half]
        for position, name in enumerate(node.output):
            if name in made_half:
                node.output[position] = f"{name}_half"
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.FLOAT16
        nodes.append(node)
        nodes.extend(_cast(f"{name}_half", name, TensorProto.FLOAT) for name in outputs if name in wanted_float)
    return _rebuilt(model, nodes, [*graph.initializer, *half_weights])


def _between_weighted(graph: onnx.GraphProto) -> set[int]:
    """Indices of the nodes on a path from a weighted layer to a weighted layer, both included."""
    behind, before = set[int](), set[int]()
    reached: set[str] = set()
    for index, node in enumerate(graph.node):
        if node.op_type in _WEIGHTED or reached.intersection(node.input):
            behind.add(index)
            reached.update(node.output)
    needed: set[str] = set()
    for index, node in reversed(list(enumerate(graph.node))):
        if node.op_type in _WEIGHTED or needed.intersection(node.output):
            before.add(index)
            needed.update(name for name in node.input if name)
    return behind & before


def _dequantisers_of(graph: onnx.GraphProto, nodes: set[int]) -> set[int]:
    """Indices of the dequantisers of what these nodes read: of their weights, and of the first layer's input.

    Their output must have the layer's type; a cast between the two would part what TensorRT joins.
    """
    read = {name for index in nodes for name in graph.node[index].input}
    return {
        index
        for index, node in enumerate(graph.node)
        if node.op_type == "DequantizeLinear" and read.intersection(node.output)
    }


def _half_scale(scale: onnx.TensorProto) -> onnx.TensorProto:
    values = numpy_helper.to_array(scale)
    half = values.astype(np.float16)
    if not np.allclose(half, values, rtol=2**-10, atol=0):
        raise EngineError(
            f"the int8 scale {scale.name!r} reaches from {values.min():.3g} to {values.max():.3g}, which float16 does "
            "not hold; export the model again"
        )
    return numpy_helper.from_array(half, f"{scale.name}_half")


def _half_weight(weight: onnx.TensorProto) -> onnx.TensorProto:
    values = numpy_helper.to_array(weight)
    # a limit such as Clip's may be as large as float32 allows and means infinity
    if values.size > 1 and np.abs(values).max() > _HALF_MAX:
        raise EngineError(
            f"weight {weight.name!r} reaches {np.abs(values).max():.3g}, float16 ends at {_HALF_MAX:.0f}; "
            "build with --precision fp32"
        )
    return numpy_helper.from_array(np.clip(values, -_HALF_MAX, _HALF_MAX).astype(np.float16), f"{weight.name}_half")


def _cast(source: str, target: str, kind: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [source], [target], name=f"cast_to_{target}", to=kind)


def with_dynamic_batch(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph for any number of frames at once.

    The exporter writes the batch of its example into constants: sizes of Resize, shapes of Reshape, and the index
    table that it makes of an average over the whole image. They are replaced, then the shapes of all tensors that
    depend on the frame are compared between one frame and two.

    Raises:
        EngineError: if a tensor would not grow with the batch: some node mixes the frames, or drops all but one.
    """
    graph = model.graph
    one = _static_shapes(model)
    constants = {weight.name: numpy_helper.to_array(weight) for weight in graph.initializer}
    nodes = [copy.deepcopy(node) for node in graph.node]
    weights = list(graph.initializer)
    for node in nodes:
        if node.op_type == "Resize" and len(node.input) > 3 and node.input[3] in constants:
            scales = _scales_of(node, one, constants[node.input[3]])
            weights.append(numpy_helper.from_array(scales, f"{node.output[0]}_scales"))
            node.input[2] = f"{node.output[0]}_scales"
            del node.input[3]
        if node.op_type == "Reshape" and node.input[1] in constants:
            shape = constants[node.input[1]]
            if len(shape) > 1 and shape[0] == 1 and one.get(node.input[0], (0,))[0] == 1:
                # 0 copies the input's dimension
                weights.append(numpy_helper.from_array(np.array([0, *shape[1:]], np.int64), f"{node.output[0]}_shape"))
                node.input[1] = f"{node.output[0]}_shape"
    dynamic = _rebuilt(model, _without_identity_gathers(nodes, one, constants), weights)
    _set_batch(dynamic, _BATCH)
    _check_grows(dynamic, one)
    return dynamic


def _scales_of(node: onnx.NodeProto, shapes: Shapes, sizes: np.ndarray) -> np.ndarray:
    shape = shapes.get(node.input[0])
    if shape is None or len(shape) != len(sizes):
        raise _batch_error(node, "its input has no fixed shape")
    scales = np.array([float(to) / of for to, of in zip(sizes, shape, strict=True)], np.float32)
    if [int(np.floor(np.float32(of) * scale)) for of, scale in zip(shape, scales, strict=True)] != list(sizes):
        raise _batch_error(node, f"{shape} to {tuple(sizes)} is no exact scale")
    return scales


def _without_identity_gathers(
    nodes: list[onnx.NodeProto], shapes: Shapes, constants: dict[str, np.ndarray]
) -> list[onnx.NodeProto]:
    """Drop ``x → Reshape to one dimension → Gather 0, 1, 2, … in x's shape``, which is x again."""
    flattened = {node.output[0]: node for node in nodes if node.op_type == "Reshape"}
    same: dict[str, str] = {}
    for node in nodes:
        if node.op_type == "Gather" and node.input[0] in flattened and node.input[1] in constants:
            source = flattened[node.input[0]].input[0]
            indices, shape = constants[node.input[1]], shapes.get(source)
            if indices.shape == shape and np.array_equal(indices.ravel(), np.arange(indices.size)):
                same[node.output[0]] = source
    kept = [node for node in nodes if not same.keys() & set(node.output)]
    for node in kept:
        for position, name in enumerate(node.input):
            node.input[position] = same.get(name, name)
    used = {name for node in kept for name in node.input}
    return [node for node in kept if node.op_type != "Reshape" or node.output[0] in used]


def _check_grows(dynamic: onnx.ModelProto, one: Shapes) -> None:
    two_model = copy.deepcopy(dynamic)
    _set_batch(two_model, 2)
    try:
        two = _static_shapes(two_model)
    except EngineError as error:
        raise EngineError(f"the graph serves one frame at a time ({error}); build with --batch 1") from error
    reached = {"frame"}
    for node in dynamic.graph.node:
        if reached.isdisjoint(node.input) or node.op_type == "Shape":
            continue
        for name in node.output:
            before, after = one.get(name), two.get(name)
            if before is None or after is None or (2 * before[0], *before[1:]) != after:
                raise _batch_error(node, f"its output is {before} for one frame and {after} for two")
            reached.add(name)


def _batch_error(node: onnx.NodeProto, reason: str) -> EngineError:
    return EngineError(
        f"the graph serves one frame at a time: {node.op_type} {node.name!r}, {reason}; build with --batch 1"
    )


def _set_batch(model: onnx.ModelProto, batch: str | int) -> None:
    for port in (*model.graph.input, *model.graph.output):
        first = port.type.tensor_type.shape.dim[0]
        if isinstance(batch, str):
            first.dim_param = batch
        else:
            first.dim_value = batch


def _inferred(model: onnx.ModelProto) -> Iterable[onnx.ValueInfoProto]:
    try:
        graph = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True).graph
    except Exception as error:  # InferenceError and ValidationError share no base class
        raise EngineError(f"ONNX finds the graph inconsistent: {error}") from error
    return (*graph.value_info, *graph.input, *graph.output)


def _element_types(model: onnx.ModelProto) -> dict[str, int]:
    kinds = {value.name: value.type.tensor_type.elem_type for value in _inferred(model)}
    return kinds | {weight.name: weight.data_type for weight in model.graph.initializer}


def _static_shapes(model: onnx.ModelProto) -> Shapes:
    """Shapes of all tensors whose dimensions are all known."""
    shapes = {}
    for value in _inferred(model):
        dimensions = value.type.tensor_type.shape.dim
        if all(dimension.HasField("dim_value") for dimension in dimensions):
            shapes[value.name] = tuple(dimension.dim_value for dimension in dimensions)
    return shapes


def _rebuilt(
    model: onnx.ModelProto, nodes: Iterable[onnx.NodeProto], weights: Iterable[onnx.TensorProto]
) -> onnx.ModelProto:
    """The model with other nodes; weights that none of them uses, and recorded shapes, are left out."""
    nodes = list(nodes)
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        model.graph.name,
        model.graph.input,
        model.graph.output,
        [weight for weight in weights if weight.name in used],
    )
    return helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
