"""DeconvNet: VGG, and its mirror image, which unpools to where VGG's poolings found their maxima."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from darkseg_ros.errors import InputError
from training.networks.encoders import build_encoder
from training.networks.layers import EncoderDecoder, conv_bn_relu

_CONVOLUTIONS = 3  # of each mirrored stage, as in VGG-16


def unpool(values: Tensor, pooled_from: Tensor) -> Tensor:
    """Each value at the place of the largest of its four; zero elsewhere.

    Of several that are largest the first one counts, row by row, as in ``MaxPool2d(return_indices=True)``. Made of
    comparisons, which every runtime has; ``MaxUnpool2d`` has no ONNX operator.

    Args:
        values: (B, C, h, w).
        pooled_from: (B, C, 2h, 2w), what a 2×2 maximum pooling took its maxima from.

    Returns:
        (B, C, 2h, 2w).
    """
    phases = [pooled_from[..., top::2, left::2] for top, left in product((0, 1), (0, 1))]
    free = torch.ones_like(values)
    placed = []
    for phase in phases:
        here = free
        # compared with each other, not with their maximum: int8 would round that one by a scale of its own
        for other in phases:
            if other is not phase:
                here = here * (phase >= other).to(values.dtype)
        free = free - here
        placed.append(values * here)
    batch, channels, height, width = values.shape
    return functional.pixel_shuffle(torch.stack(placed, 2).reshape(batch, 4 * channels, height, width), 2)


class DeconvDecoder(nn.Module):
    """VGG's features → a map at a quarter of the images' size.

    Args:
        widths: of the features before the poolings to strides 8, 16 and 32, and of the last pooling.
        channels: between encoder and decoder.
    """

    def __init__(self, widths: tuple[int, int, int, int], *, channels: int) -> None:
        super().__init__()
        at4, at8, at16, at32 = widths
        self.bridge = nn.Sequential(
            conv_bn_relu(at32, channels, kernel_size=7),
            conv_bn_relu(channels, channels, kernel_size=1),
            conv_bn_relu(channels, at16, kernel_size=3),
        )
        self.stage16 = _mirrored(at16, at8)
        self.stage8 = _mirrored(at8, at4)
        self.stage4 = _mirrored(at4, at4)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        *_, before8, before16, before32, pooled = features
        x = self.stage16(unpool(self.bridge(pooled), before32))
        x = self.stage8(unpool(x, before16))
        quarter: Tensor = self.stage4(unpool(x, before8))
        return quarter


def _mirrored(in_channels: int, out_channels: int) -> nn.Sequential:
    """The paper's "deconvolutions" of stride 1 are convolutions."""
    same = (conv_bn_relu(in_channels, in_channels, kernel_size=3) for _ in range(_CONVOLUTIONS - 1))
    return nn.Sequential(*same, conv_bn_relu(in_channels, out_channels, kernel_size=3))


def build(*, encoder: str, num_classes: int, channels: int) -> EncoderDecoder:
    """DeconvNet on VGG, whose poolings it undoes.

    Raises:
        InputError: if `encoder` is no VGG.

    Source: Noh et al., "Learning Deconvolution Network for Semantic Segmentation", ICCV 2015 (arXiv 1505.04366),
        section 3; thesis, figures 2.8 and 2.9.
    Differs: fewer channels in the 7×7 convolution (4096 in the paper); no unpooling beyond a quarter of the size; whole
        images in place of the paper's object proposals.
    """
    if not encoder.startswith("vgg"):
        raise InputError(f"network.encoder is {encoder}; deconvnet undoes the poolings of a VGG: take vgg16_bn")
    backbone: Any = build_encoder(encoder)
    *_, at4, at8, at16, at32 = backbone.out_channels
    decoder = DeconvDecoder((at4, at8, at16, at32), channels=channels)
    return EncoderDecoder(backbone, decoder, nn.Conv2d(at4, num_classes, 1))
