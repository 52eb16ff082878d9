"""Inception-v3 with padded convolutions: the encoder of a large teacher, which no vehicle runs."""

from __future__ import annotations

import timm
from timm.models.inception_v3 import InceptionB, InceptionD
from torch import Tensor, nn
from torch.nn import functional

ENCODER_NAME = "inception_v3_padded"
"""Of `padded_inception_v3`, as ``network.encoder``."""


class _PaddedB(InceptionB):
    def _forward(self, x: Tensor) -> list[Tensor]:
        return [*super()._forward(x)[:-1], _padded_pool(x)]


class _PaddedD(InceptionD):
    def _forward(self, x: Tensor) -> list[Tensor]:
        return [*super()._forward(x)[:-1], _padded_pool(x)]


def padded_inception_v3() -> nn.Module:
    """Images → features (c2, c3, c4, c5) at strides 4, 8, 16, 32, their channels in ``out_channels``.

    Source: Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016 (arXiv 1512.00567),
        under the names of timm's parameters.
    Differs: every convolution and pooling is padded, so that features lie where their pixels lie.
    """
    encoder = timm.create_model("inception_v3", pretrained=False, features_only=True, out_indices=(1, 2, 3, 4))
    *_, c3, c4, _ = channels = encoder.feature_info.channels()
    encoder["Mixed_6a"], encoder["Mixed_7a"] = _PaddedB(c3), _PaddedD(c4)
    for layer in encoder.modules():
        if isinstance(layer, nn.Conv2d):
            layer.padding = (layer.kernel_size[0] // 2, layer.kernel_size[1] // 2)
        elif isinstance(layer, nn.MaxPool2d):
            layer.padding = 1
    encoder.out_channels = tuple(channels)
    return encoder


def _padded_pool(features: Tensor) -> Tensor:
    return functional.max_pool2d(features, 3, stride=2, padding=1)
