"""What several networks are made of."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.networks.input_size import SIDE_MULTIPLE

OUTPUT_STRIDE = 4
"""Logits have a quarter of the input's height and width."""


class EncoderDecoder(nn.Module):
    """Images → logits at a quarter of their size: the form of every network here.

    Args:
        encoder: (B, 3, H, W) images → features; what pretrained weights are for, with a learning rate of its own.
        decoder: features, as the encoder gives them → one map.
        head: map → logits, (B, K, h, w), of whatever size.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.encoder, self.decoder, self.head = encoder, decoder, head

    def forward(self, images: Tensor) -> Tensor:
        """Segment.

        Args:
            images: (B, 3, H, W) float RGB, ImageNet-normalised; H and W multiples of 32.

        Returns:
            (B, K, H/4, W/4) float logits.

        Raises:
            ValueError: if H or W is no multiple of 32.
        """
        height, width = images.shape[-2:]
        if height % SIDE_MULTIPLE or width % SIDE_MULTIPLE:
            raise ValueError(
                f"images are {height}×{width}; both sides must be multiples of {SIDE_MULTIPLE}: resize or crop first"
            )
        logits, quarter_hw = self.native_logits(images), (height // OUTPUT_STRIDE, width // OUTPUT_STRIDE)
        return logits if logits.shape[-2:] == quarter_hw else upsample_bilinear(logits, quarter_hw)

    def native_logits(self, images: Tensor) -> Tensor:
        """The logits of `images` at the size that the head gives them."""
        logits: Tensor = self.head(self.decoder(self.encoder(images)))
        return logits


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
