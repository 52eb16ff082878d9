"""RefineNet: four blocks, each of which joins a level of the encoder with what the coarser block gave."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from training.networks.encoders import build_encoder
from training.networks.layers import EncoderDecoder, upsample_bilinear

_POOLINGS = 2
_POOLING_PX = 5


def _conv3(in_channels: int, out_channels: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, padding=1)


class ResidualConvUnit(nn.Module):
    """Two convolutions, and what goes past them, summed; without batch normalisation (figure 3 b)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.ReLU(), _conv3(channels, channels), nn.ReLU(), _conv3(channels, channels))

    def forward(self, features: Tensor) -> Tensor:
        total: Tensor = features + self.body(features)
        return total


class ChainedResidualPooling(nn.Module):
    """Context of growing size: poolings in a chain, each with a convolution, all added up (figure 3 d)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.steps = nn.ModuleList(
            nn.Sequential(nn.MaxPool2d(_POOLING_PX, 1, _POOLING_PX // 2), _conv3(channels, channels))
            for _ in range(_POOLINGS)
        )

    def forward(self, features: Tensor) -> Tensor:
        pooled = total = torch.relu(features)
        for step in self.steps:
            pooled = step(pooled)
            total = total + pooled
        return total


class RefineBlock(nn.Module):
    """One level, and the coarser block's map if there is one → a map of the level's size (figure 3 a).

    Args:
        channels: of the inputs and the output.
        paths: inputs, 1 or 2.
    """

    def __init__(self, channels: int, *, paths: int) -> None:
        super().__init__()
        self.adapt = nn.ModuleList(
            nn.Sequential(ResidualConvUnit(channels), ResidualConvUnit(channels)) for _ in range(paths)
        )
        self.fuse = nn.ModuleList(_conv3(channels, channels) for _ in range(paths))
        self.pooling = ChainedResidualPooling(channels)
        self.output = ResidualConvUnit(channels)

    def forward(self, level: Tensor, coarser: Tensor | None) -> Tensor:
        inputs = [level] if coarser is None else [level, coarser]
        adapted = [fuse(adapt(path)) for fuse, adapt, path in zip(self.fuse, self.adapt, inputs, strict=True)]
        fused = adapted[0]
        for path in adapted[1:]:
            fused = fused + upsample_bilinear(path, level.shape[-2:])
        refined: Tensor = self.output(self.pooling(fused))
        return refined


class RefineDecoder(nn.Module):
    """Features c2…c5 → a map at a quarter of the images' size.

    Args:
        encoder_channels: of (c2, c3, c4, c5), strides 4, 8, 16, 32.
        channels: width.
    """

    def __init__(self, encoder_channels: tuple[int, int, int, int], *, channels: int) -> None:
        super().__init__()
        self.reductions = nn.ModuleList(_conv3(width, channels) for width in encoder_channels)
        self.blocks = nn.ModuleList(RefineBlock(channels, paths=2) for _ in encoder_channels[:-1])
        self.blocks.append(RefineBlock(channels, paths=1))

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        levels = [reduce(level) for reduce, level in zip(self.reductions, features[-4:], strict=True)]
        refined: Tensor | None = None
        for block, level in zip(reversed(self.blocks), reversed(levels), strict=True):
            refined = block(level, refined)
        assert refined is not None
        return refined


def build(*, encoder: str, num_classes: int, channels: int, dropout: float) -> EncoderDecoder:
    """RefineNet on an encoder of any name.

    Source: Lin et al., "RefineNet: Multi-Path Refinement Networks for High-Resolution Semantic Segmentation", CVPR 2017
        (arXiv 1611.06612), section 3 and figure 3; thesis, figure 2.16.
    Differs: one width for all levels, where the paper's coarsest has twice as many channels.
    """
    backbone: Any = build_encoder(encoder)
    *_, c2, c3, c4, c5 = backbone.out_channels
    decoder = RefineDecoder((c2, c3, c4, c5), channels=channels)
    return EncoderDecoder(backbone, decoder, nn.Sequential(nn.Dropout2d(dropout), nn.Conv2d(channels, num_classes, 1)))
