"""MobileNetV2 behind a stem of dense convolutions that reads camera pixels, for int8 on CPUs at large input sizes."""

from __future__ import annotations

import copy
from collections import OrderedDict

import torch
from torch import Tensor, nn
from torchvision.models import mobilenet_v2

from training.data.imagenet import IMAGENET_MEAN_RGB, IMAGENET_STD_RGB
from training.networks.layers import conv_bn_relu

ENCODER_NAME = "mobilenet_v2_dense_stem"
"""Of `DenseStemMobileNetV2`, as ``network.encoder``."""

STEM_BLOCKS = range(4)
"""Blocks of MobileNetV2, strides 2 and 4, that the stem stands in for."""

KEPT_BLOCKS = range(4, 18)
"""Those that follow it; the last one, 320 → 1280 channels for ImageNet's classes, is left out."""

_C2_CHANNELS = 24
_LAST_OF_STRIDE = {6: 32, 13: 96, 17: 320}  # block → channels of c3, c4, c5

LEVEL_BLOCKS = (STEM_BLOCKS[-1], *_LAST_OF_STRIDE)
"""Whose features are c2, c3, c4 and c5."""
_PIXEL_UNIT = 64.0  # pixels of 0…255 become 0…4: weights and learning rates as after normalisation


class PixelsOfImages(nn.Module):
    """ImageNet-normalised RGB images → the BGR pixels of 0…255 that they were made of."""

    def __init__(self) -> None:
        super().__init__()
        # not in the state: constants
        self.register_buffer("mean", 255 * torch.tensor(IMAGENET_MEAN_RGB).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(IMAGENET_STD_RGB).view(1, 3, 1, 1), persistent=False)
        self.mean: Tensor
        self.std: Tensor

    def forward(self, images: Tensor) -> Tensor:
        return (images * self.std + self.mean).flip(1)


class DenseStem(nn.Module):
    """Images → features at a quarter of their size, (B, 24, H/4, W/4), as MobileNetV2's first four blocks give them.

    Those blocks spend most of their time on moving wide layers at half the image's size through memory; three dense
    convolutions take less than half of it in int8 (DECISIONS.md). The first one is padded with black and reads
    pixels, so that an exported graph hands it the camera's uint8 as they are: no normalisation, no change of order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.pixels: nn.Module = PixelsOfImages()
        self.layers = nn.Sequential(
            conv_bn_relu(3, 24, kernel_size=3, stride=2),
            conv_bn_relu(24, 48, kernel_size=3, stride=2),
            nn.Conv2d(48, _C2_CHANNELS, 1, bias=False),
            nn.BatchNorm2d(_C2_CHANNELS),
        )

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.layers(self.pixels(images) / _PIXEL_UNIT)
        return features


class DenseStemMobileNetV2(nn.Module):
    """Images → features (c2, c3, c4, c5) at strides 4, 8, 16, 32.

    Attributes:
        out_channels: of the four.

    Source: Sandler et al., "MobileNetV2", CVPR 2018 (arXiv 1801.04381), from its fifth block on, under the names of
        torchvision's parameters.
    Differs: the stem; no last 1×1 convolution.
    """

    out_channels = (_C2_CHANNELS, *_LAST_OF_STRIDE.values())

    def __init__(self) -> None:
        super().__init__()
        self.stem = DenseStem()
        blocks = mobilenet_v2(weights=None).features
        self.features = nn.Sequential(OrderedDict((str(index), blocks[index]) for index in KEPT_BLOCKS))

    def forward(self, images: Tensor) -> list[Tensor]:
        x = self.stem(images)
        outputs = [x]
        for index, block in zip(KEPT_BLOCKS, self.features, strict=True):
            x = block(x)
            if index in _LAST_OF_STRIDE:
                outputs.append(x)
        return outputs


def on_pixels(network: nn.Module) -> nn.Module | None:
    """A copy of a network with a `DenseStem` that takes BGR pixels, (B, 3, H, W) float of 0…255, with the same answers.

    None for another network: padded with zeros after the normalisation, it cannot do without.
    """
    copied = copy.deepcopy(network)
    stems = [module for module in copied.modules() if isinstance(module, DenseStem)]
    for stem in stems:
        stem.pixels = nn.Identity()
    return copied if stems else None
