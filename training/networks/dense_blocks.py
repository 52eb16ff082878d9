"""The encoder of `training.networks.dense_stem` with dense convolutions in the place of most inverted residuals.

An inverted residual spends half of its time in int8 on moving six times as many channels through memory, and on a
depthwise convolution that keeps a CPU's multipliers waiting. One dense 3×3 convolution of the narrow width has fewer
multiplications as well.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torchvision.models.mobilenetv2 import InvertedResidual

from training.networks.dense_stem import KEPT_BLOCKS, DenseStemMobileNetV2
from training.networks.layers import conv_bn_relu

ENCODER_NAME = "mobilenet_v2_dense_blocks"
"""Of `DenseBlocksMobileNetV2`, as ``network.encoder``."""

FUSED_BLOCK = 4
"""The first block after the stem, 24 → 32 channels at stride 2."""

_FUSED_WIDTH = 96


class DenseResidual(nn.Module):
    """x + PReLU(BatchNorm(3×3 convolution of x)), (B, C, H, W) → (B, C, H, W).

    PReLU and not ReLU: what an inverted residual adds, and this block is to add, has both signs.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.PReLU(channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = self.branch(x)
        return x + added


class DenseBlocksMobileNetV2(DenseStemMobileNetV2):
    """Images → features (c2, c3, c4, c5), as `DenseStemMobileNetV2` gives them.

    Each residual block is a `DenseResidual`; the first block's expansion and depthwise convolution are one dense 3×3,
    as in Gupta and Akin, "Accelerator-aware Neural Network Design using AutoML" (arXiv 2003.02838); the four other
    blocks, which change stride or width, stay.
    """

    def __init__(self) -> None:
        super().__init__()
        features: Any = self.features
        for index in dense_blocks(features):
            block = getattr(features, str(index))
            setattr(features, str(index), _dense(block, fused=index == FUSED_BLOCK))


def dense_blocks(features: nn.Sequential) -> tuple[int, ...]:
    """Indices of MobileNetV2's blocks, of those in `features`, that dense ones stand in for."""
    return tuple(
        index
        for index, block in zip(KEPT_BLOCKS, features, strict=True)
        if index == FUSED_BLOCK or (isinstance(block, InvertedResidual) and block.use_res_connect)
    )


def _dense(block: Any, *, fused: bool) -> nn.Module:
    channels: int = block.out_channels
    if not fused:
        return DenseResidual(channels)
    return nn.Sequential(
        conv_bn_relu(block.conv[0][0].in_channels, _FUSED_WIDTH, kernel_size=3, stride=2),
        nn.Conv2d(_FUSED_WIDTH, channels, 1, bias=False),
        nn.BatchNorm2d(channels),
    )
