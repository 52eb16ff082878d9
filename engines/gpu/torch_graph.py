"""Runs a bundle's ONNX graph by torch, node by node: the operators that our exporter writes, and no others."""

from __future__ import annotations

from typing import Any

import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional

from darkseg_ros.errors import EngineError

_CONSTANT_SIZE_MAX = 8

_TYPES = {
    TensorProto.FLOAT: torch.float32,
    TensorProto.FLOAT16: torch.float16,
    TensorProto.INT64: torch.int64,
    TensorProto.UINT8: torch.uint8,
    TensorProto.BOOL: torch.bool,
}


class TorchGraph(nn.Module):
    """``frame`` uint8 (N, H, W, 3) → the graph's outputs, in their order.

    Args:
        model: a fused graph, in fp32 or as `plan_graph.graph_for_plan` makes it of fp16.

    Raises:
        EngineError: if an operator is none of those that our graphs have.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        super().__init__()
        unknown = {node.op_type for node in model.graph.node} - _OPERATORS.keys()
        if unknown:
            raise EngineError(
                f"engines/gpu/torch_graph.py knows no {', '.join(sorted(unknown))}; add the operator there"
            )
        self._nodes = [
            (
                _OPERATORS[node.op_type],
                list(node.input),
                node.output[0],
                {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute},
            )
            for node in model.graph.node
        ]
        self._outputs = [port.name for port in model.graph.output]
        self._constants: dict[str, Any] = {}  # sizes, axes and limits, as torch's functions take them
        self._weights: dict[str, str] = {}
        for weight in model.graph.initializer:
            values = torch.from_numpy(numpy_helper.to_array(weight).copy())
            self._constants[weight.name] = values.tolist() if values.numel() <= _CONSTANT_SIZE_MAX else None
            self._weights[weight.name] = name = f"weight_{len(self._weights)}"
            self.register_buffer(name, values)

    def forward(self, frame: Tensor) -> list[Tensor]:
        values: dict[str, Any] = {name: getattr(self, buffer) for name, buffer in self._weights.items()}
        values["frame"], values[""] = frame, None
        for operator, inputs, output, attributes in self._nodes:
            constants = [self._constants.get(name) for name in inputs]
            values[output] = operator([values[name] for name in inputs], constants, **attributes)
        return [values[name] for name in self._outputs]


def _cast(inputs: list[Tensor], _: list[Any], *, to: int, **__: Any) -> Tensor:
    return inputs[0].to(_TYPES[to])


def _convolution(inputs: list[Tensor], _: list[Any], **attributes: Any) -> Tensor:
    image, weight, *bias = inputs
    pads = attributes.get("pads", [0, 0, 0, 0])
    if pads[:2] != pads[2:]:
        image = functional.pad(image, (pads[1], pads[3], pads[0], pads[2]))
        pads = [0, 0, 0, 0]
    return functional.conv2d(
        image,
        weight,
        bias[0] if bias else None,
        stride=tuple(attributes.get("strides", (1, 1))),
        padding=tuple(pads[:2]),
        dilation=tuple(attributes.get("dilations", (1, 1))),
        groups=attributes.get("group", 1),
    )


def _average_pool(inputs: list[Tensor], _: list[Any], *, kernel_shape: list[int], strides: list[int]) -> Tensor:
    return functional.avg_pool2d(inputs[0], kernel_shape, strides)


def _clip(inputs: list[Any], constants: list[Any], **_: Any) -> Tensor:
    low, high = (*constants[1:], None, None)[:2]
    result: Tensor = inputs[0].clamp(low, high)
    return result


def _resize(inputs: list[Any], constants: list[Any], **attributes: Any) -> Tensor:
    image = inputs[0]
    if len(constants) > 3 and constants[3] is not None:
        size = constants[3][2:]
    else:
        size = [round(side * scale) for side, scale in zip(image.shape[2:], constants[2][2:], strict=True)]
    if attributes["mode"] == b"nearest":
        return functional.interpolate(image, size, mode="nearest")
    return functional.interpolate(image, size, mode="bilinear", align_corners=False)


def _reduce_max(inputs: list[Tensor], constants: list[Any], *, keepdims: int = 1, **_: Any) -> Tensor:
    return inputs[0].amax(tuple(constants[1]), keepdim=bool(keepdims))


def _reduce_mean(inputs: list[Tensor], constants: list[Any], *, keepdims: int = 1, **_: Any) -> Tensor:
    return inputs[0].mean(tuple(constants[1]), keepdim=bool(keepdims))


def _arg_max(inputs: list[Tensor], _: list[Any], *, axis: int, keepdims: int = 1, **__: Any) -> Tensor:
    return inputs[0].argmax(axis, keepdim=bool(keepdims))


def _gather(inputs: list[Tensor], constants: list[Any], *, axis: int = 0, **_: Any) -> Tensor:
    if isinstance(constants[1], int):
        return inputs[0].select(axis, constants[1])
    indices = inputs[1]
    gathered = inputs[0].index_select(axis, indices.reshape(-1))
    return gathered.reshape((*inputs[0].shape[:axis], *indices.shape, *inputs[0].shape[axis + 1 :]))


def _reshape(inputs: list[Tensor], constants: list[Any], **_: Any) -> Tensor:
    shape = [inputs[0].shape[index] if size == 0 else size for index, size in enumerate(constants[1])]
    return inputs[0].reshape(shape)


def _squeeze(inputs: list[Tensor], constants: list[Any], **_: Any) -> Tensor:
    return inputs[0].squeeze(tuple(constants[1]))


_OPERATORS: dict[str, Any] = {
    "Add": lambda inputs, _: inputs[0] + inputs[1],
    "ArgMax": _arg_max,
    "AveragePool": _average_pool,
    "Cast": _cast,
    "Clip": _clip,
    "Conv": _convolution,
    "Div": lambda inputs, _: inputs[0] / inputs[1],
    "Equal": lambda inputs, _: inputs[0] == inputs[1],
    "Gather": _gather,
    "Mul": lambda inputs, _: inputs[0] * inputs[1],
    "ReduceMax": _reduce_max,
    "ReduceMean": _reduce_mean,
    "Relu": lambda inputs, _: inputs[0].relu(),
    "Reshape": _reshape,
    "Resize": _resize,
    "Round": lambda inputs, _: inputs[0].round(),
    "Softmax": lambda inputs, _, axis=-1: inputs[0].softmax(axis),
    "Squeeze": _squeeze,
    "Sub": lambda inputs, _: inputs[0] - inputs[1],
    "Transpose": lambda inputs, _, perm: inputs[0].permute(perm),
}
"""Of each operator what it makes of its inputs, beside their values where these are constants."""
