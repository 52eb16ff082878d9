"""DeepLabv2: a dilated encoder, and the sum of scores from four fields of view."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from training.networks.encoders import build_encoder
from training.networks.layers import EncoderDecoder

_RATES = (6, 12, 18, 24)  # ASPP-L, table 4
_STRIDE = 8


class AtrousScores(nn.Module):
    """Features at an eighth of the images' size → logits there: atrous spatial pyramid pooling as of version 2."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.scores = nn.ModuleList(
            nn.Conv2d(in_channels, num_classes, 3, padding=rate, dilation=rate) for rate in _RATES
        )

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        first, *others = (score(features[-1]) for score in self.scores)
        for other in others:
            first = first + other
        return first


def build(*, encoder: str, num_classes: int) -> EncoderDecoder:
    """DeepLabv2's ASPP-L on any encoder that can be dilated.

    Source: Chen et al., "DeepLab: Semantic Image Segmentation with Deep Convolutional Nets, Atrous Convolution, and
        Fully Connected CRFs", IEEE T-PAMI 2018 (arXiv 1606.00915), section 3.2 and figure 7, as with its ResNet-101.
    Differs: no conditional random field afterwards, no fusion over three scales.
    """
    backbone: Any = build_encoder(encoder, output_stride=_STRIDE)
    return EncoderDecoder(backbone, AtrousScores(backbone.out_channels[-1], num_classes), nn.Identity())
