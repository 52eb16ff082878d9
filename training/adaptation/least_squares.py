"""Weights of dense blocks in closed form: the least squares between what goes in and what is to come out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

_RIDGE = 1e-3
"""Share of the mean square of the inputs that is added to each, so that features which repeat others do no harm."""


@torch.no_grad()
def fit_residual(block: Any, inputs: Sequence[Tensor], wanted: Sequence[Tensor]) -> None:
    """Let a `DenseResidual` make the wanted features as well as its convolution alone can: its PReLU changes nothing.

    Args:
        block: changed in place.
        inputs: batches of features, (B, C, H, W).
        wanted: of the same sizes.
    """
    convolution, batch_norm, prelu = block.branch
    weights, bias = _least_squares(
        (functional.unfold(x, 3, padding=1).transpose(1, 2).flatten(0, 1), _pixels(y - x))
        for x, y in zip(inputs, wanted, strict=True)
    )
    convolution.weight.copy_(weights.T.reshape(convolution.weight.shape))
    _set_statistics(batch_norm, (convolution(x) for x in inputs))
    batch_norm.bias.add_(bias)
    prelu.weight.fill_(1)


@torch.no_grad()
def fit_fused(block: Any, original: Any, inputs: Sequence[Tensor], wanted: Sequence[Tensor]) -> None:
    """Let a dense 3×3 and a 1×1 convolution make what an inverted residual makes of its own features.

    The dense one gets the expansion and the depthwise convolution as one, without the ReLU between them, for the
    channels that count most in the output; the other one is fitted.

    Args:
        block: of `DenseBlocksMobileNetV2`, changed in place.
        original: torchvision's InvertedResidual.
        inputs: batches of features, (B, C, H, W).
        wanted: batches of the block's output.
    """
    (dense, dense_norm, relu), project, project_norm = block
    (expansion, expansion_norm, _), (depthwise, depthwise_norm, _), projection, _ = original.conv
    expanded = _scale(expansion_norm) * expansion.weight.flatten(1).T  # (C, 144)
    whole = depthwise.weight * expanded.T[:, :, None, None]  # (144, C, 3, 3)
    offset = _offset(expansion_norm) * depthwise.weight.sum((1, 2, 3))
    offset = offset * _scale(depthwise_norm) + _offset(depthwise_norm)
    scaled = functional.conv2d(inputs[0], whole, stride=dense.stride, padding=1) * _scale(depthwise_norm).view(-1, 1, 1)
    activity = (scaled + offset.view(-1, 1, 1)).clamp(0, 6).std((0, 2, 3))
    chosen = (activity * projection.weight.square().sum((0, 2, 3)).sqrt()).topk(len(dense.weight)).indices.sort().values

    dense.weight.copy_(whole[chosen])
    _set_statistics(dense_norm, (dense(x) for x in inputs))
    scale = _scale(depthwise_norm)[chosen]
    dense_norm.weight.mul_(scale)
    dense_norm.bias.mul_(scale)
    dense_norm.bias.add_(offset[chosen])
    hidden = [relu(dense_norm(dense(x))) for x in inputs]
    weights, bias = _least_squares((_pixels(x), _pixels(y)) for x, y in zip(hidden, wanted, strict=True))
    project.weight.copy_(weights.T[:, :, None, None])
    _set_statistics(project_norm, (project(x) for x in hidden))
    project_norm.bias.add_(bias)


def _least_squares(batches: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Weights (N, M) and bias (M,) from features (P, N) to values (P, M)."""
    square: Any = 0.0
    product: Any = 0.0
    for features, values in batches:
        extended = functional.pad(features, (0, 1), value=1.0)
        square = square + (extended.T @ extended).double()
        product = product + (extended.T @ values).double()
    ridge = _RIDGE * square.diagonal().mean() * torch.eye(len(square), dtype=square.dtype, device=square.device)
    solved = torch.linalg.solve(square + ridge, product).float()
    return solved[:-1], solved[-1]


def _pixels(features: Tensor) -> Tensor:
    """(B, C, H, W) → (B · H · W, C)."""
    return features.permute(0, 2, 3, 1).flatten(0, 2)


def _set_statistics(batch_norm: Any, outputs: Iterator[Tensor]) -> None:
    """Statistics of what a convolution gives, and weights that undo them: training goes on from where it is."""
    pixels = torch.cat([_pixels(output) for output in outputs])
    variance, mean = torch.var_mean(pixels, 0, correction=0)
    batch_norm.running_mean.copy_(mean)
    batch_norm.running_var.copy_(variance)
    batch_norm.weight.copy_((variance + batch_norm.eps).sqrt())
    batch_norm.bias.copy_(mean)


def _scale(batch_norm: Any) -> Tensor:
    scale: Tensor = batch_norm.weight / (batch_norm.running_var + batch_norm.eps).sqrt()
    return scale


def _offset(batch_norm: Any) -> Tensor:
    offset: Tensor = batch_norm.bias - batch_norm.running_mean * _scale(batch_norm)
    return offset
