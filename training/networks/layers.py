"""Layers that several networks are made of."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def conv_bn_relu(in_channels: int, out_channels: int, *, kernel_size: int, stride: int = 1) -> nn.Sequential:
    """A padded convolution, batch normalisation, ReLU: the form that int8 quantises best."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size, stride=stride, padding=kernel_size // 2, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


def upsample_bilinear(features: Tensor, size_hw: torch.Size | tuple[int, int]) -> Tensor:
    """Bilinear resize with half-pixel centres (``align_corners=False``), ONNX's default too."""
    return functional.interpolate(features, size=size_hw, mode="bilinear", align_corners=False)
