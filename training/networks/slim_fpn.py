"""The slim feature pyramid segmenter: encoder → decoder → head, for real time on two CPU cores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from darkseg_ros.classes import CITYSCAPES
from training.networks import dense_blocks, dense_stem, padded_inception
from training.networks.encoders import build_encoder
from training.networks.layers import OUTPUT_STRIDE, EncoderDecoder, conv_bn_relu, upsample_bilinear

_OWN_ENCODERS = {
    dense_stem.ENCODER_NAME: dense_stem.DenseStemMobileNetV2,
    dense_blocks.ENCODER_NAME: dense_blocks.DenseBlocksMobileNetV2,
    padded_inception.ENCODER_NAME: padded_inception.padded_inception_v3,
}


class SlimFpnDecoder(nn.Module):
    """Features c2…c5 of an encoder → one map at a quarter of the input's size.

    1×1 laterals, nearest top-down path, one 3×3 convolution a level, all levels brought to the finest one's size and
    summed. The finest level is c2, or c3, whose sum then meets the lateral of c2 on its way to c2's size: of the two
    3×3 convolutions that run at that size, on which most of the decoder's time goes, one is left, the head's, and
    fewer channels may reach it.

    Args:
        encoder_channels: channels of (c2, c3, c4, c5), strides 4, 8, 16, 32.
        channels: width of the pyramid.
        finest_stride: stride at which the levels are summed, 4 or 8.
        finest_channels: width of the map; other than `channels` only with `finest_stride` 8.

    Source: Lin et al., CVPR 2017 (arXiv 1612.03144); Kirillov et al., "Panoptic Feature Pyramid Networks", CVPR
        2019 (arXiv 1901.02446), section 3.1; global context: Liu et al., ParseNet (arXiv 1506.04579).
    Differs: one convolution a level instead of up to three, BatchNorm instead of GroupNorm, global average context
        added to p5.
    """

    def __init__(
        self,
        encoder_channels: tuple[int, int, int, int],
        *,
        channels: int,
        finest_stride: int = OUTPUT_STRIDE,
        finest_channels: int | None = None,
    ) -> None:
        super().__init__()
        self.out_channels = finest_channels or channels
        c2, c3, c4, c5 = encoder_channels
        self.lateral2 = nn.Conv2d(c2, self.out_channels, 1)
        self.lateral3 = nn.Conv2d(c3, channels, 1)
        self.lateral4 = nn.Conv2d(c4, channels, 1)
        self.lateral5 = nn.Conv2d(c5, channels, 1)
        self.context = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(c5, channels, 1), nn.ReLU(inplace=True))
        self.smooth2 = conv_bn_relu(channels, channels, kernel_size=3) if finest_stride == 4 else None
        self.smooth3 = conv_bn_relu(channels, channels, kernel_size=3)
        self.smooth4 = conv_bn_relu(channels, channels, kernel_size=3)
        self.smooth5 = conv_bn_relu(channels, channels, kernel_size=3)
        # before the map grows to c2's size: a quarter of the values to narrow
        self.narrow = nn.Conv2d(channels, self.out_channels, 1) if self.out_channels != channels else nn.Identity()

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        *_, c2, c3, c4, c5 = features
        p5 = self.lateral5(c5) + self.context(c5)
        p4 = self.lateral4(c4) + functional.interpolate(p5, size=c4.shape[-2:], mode="nearest")
        p3 = self.lateral3(c3) + functional.interpolate(p4, size=c3.shape[-2:], mode="nearest")
        quarter, eighth = c2.shape[-2:], c3.shape[-2:]
        merged: Tensor
        if self.smooth2 is None:
            coarse = (
                self.smooth3(p3)
                + upsample_bilinear(self.smooth4(p4), eighth)
                + upsample_bilinear(self.smooth5(p5), eighth)
            )
            merged = self.lateral2(c2) + upsample_bilinear(self.narrow(coarse), quarter)
        else:
            p2 = self.lateral2(c2) + functional.interpolate(p3, size=quarter, mode="nearest")
            merged = (
                self.smooth2(p2)
                + upsample_bilinear(self.smooth3(p3), quarter)
                + upsample_bilinear(self.smooth4(p4), quarter)
                + upsample_bilinear(self.smooth5(p5), quarter)
            )
        return merged


class SlimFpn(EncoderDecoder):
    """Images → logits at a quarter of their size.

    Args:
        encoder: name for `training.networks.encoders.build_encoder`, or ENCODER_NAME of `training.networks.dense_stem`,
            `training.networks.dense_blocks` or `training.networks.padded_inception`.
        num_classes: K.
        channels: width of the decoder.
        finest_stride: as in `SlimFpnDecoder`.
        finest_channels: as in `SlimFpnDecoder`, and the width of the head.
        dropout: share of channels dropped before the last convolution.
    """

    def __init__(
        self,
        *,
        encoder: str = "mobilenet_v2",
        num_classes: int = len(CITYSCAPES),
        channels: int = 64,
        finest_stride: int = OUTPUT_STRIDE,
        finest_channels: int | None = None,
        dropout: float = 0.1,
    ) -> None:
        backbone: Any = _OWN_ENCODERS[encoder]() if encoder in _OWN_ENCODERS else build_encoder(encoder)
        *_, c2, c3, c4, c5 = backbone.out_channels
        decoder = SlimFpnDecoder(
            (c2, c3, c4, c5), channels=channels, finest_stride=finest_stride, finest_channels=finest_channels
        )
        width = decoder.out_channels
        head = nn.Sequential(
            conv_bn_relu(width, width, kernel_size=3),
            nn.Dropout2d(dropout),
            nn.Conv2d(width, num_classes, 1),
        )
        super().__init__(backbone, decoder, head)
