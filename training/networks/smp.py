"""The networks of segmentation_models_pytorch, each a function that takes its decoder.

Their last upsampling is left to `training.networks.layers.EncoderDecoder` and to the vehicle's runtime, which have
half-pixel centres where the library aligns corners.
"""

from __future__ import annotations

from typing import Any

from segmentation_models_pytorch.base import SegmentationHead
from segmentation_models_pytorch.base.initialization import initialize_decoder, initialize_head
from segmentation_models_pytorch.decoders.deeplabv3.decoder import DeepLabV3Decoder, DeepLabV3PlusDecoder
from segmentation_models_pytorch.decoders.fpn.decoder import FPNDecoder
from segmentation_models_pytorch.decoders.pspnet.decoder import PSPDecoder
from segmentation_models_pytorch.decoders.segformer.decoder import SegformerDecoder
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder
from torch import nn

from training.networks.encoders import build_encoder
from training.networks.layers import EncoderDecoder

_ATROUS_RATES = (12, 24, 36)


def panoptic_fpn(
    *, encoder: str, num_classes: int, pyramid_channels: int, segmentation_channels: int, dropout: float
) -> EncoderDecoder:
    """The thesis's: pyramid p2…p5 of width `pyramid_channels`, from each a branch, all summed at p2's size.

    Source: Kirillov et al., "Panoptic Feature Pyramid Networks", CVPR 2019 (arXiv 1901.02446), section 3.1 and figure
        3; thesis, section 3.3.1.
    Differs: dropout before the head, and ×2 steps with aligned corners inside the branches, are those of
        segmentation_models_pytorch, with which the thesis worked.
    """
    backbone: Any = build_encoder(encoder)
    decoder = FPNDecoder(
        backbone.out_channels,
        pyramid_channels=pyramid_channels,
        segmentation_channels=segmentation_channels,
        dropout=dropout,
    )
    return _assembled(backbone, decoder, channels=segmentation_channels, num_classes=num_classes, kernel_size=1)


def unet(*, encoder: str, num_classes: int, channels: int) -> EncoderDecoder:
    """U-Net: up in steps of 2, at each of which the encoder's features of that size are joined; widths halve.

    Source: Ronneberger et al., "U-Net", MICCAI 2015 (arXiv 1505.04597), figure 1.
    Differs: the encoder is any; it goes up to a quarter of the size, as all networks here, not to the whole.
    """
    backbone: Any = build_encoder(encoder)
    widths = (channels, channels // 2, channels // 4)
    decoder = UnetDecoder(backbone.out_channels, widths, n_blocks=len(widths))
    return _assembled(backbone, decoder, channels=widths[-1], num_classes=num_classes, kernel_size=3)


def pspnet(*, encoder: str, num_classes: int, channels: int, dropout: float) -> EncoderDecoder:
    """PSPNet: a dilated encoder, and context from means over the whole image and its halves, thirds and sixths.

    Source: Zhao et al., "Pyramid Scene Parsing Network", CVPR 2017 (arXiv 1612.01105), section 3.
    Differs: without the auxiliary loss. Its own logits have an eighth of the images' size.
    """
    backbone: Any = build_encoder(encoder, output_stride=8)
    decoder = PSPDecoder(backbone.out_channels, out_channels=channels, dropout=dropout)
    return _assembled(backbone, decoder, channels=channels, num_classes=num_classes, kernel_size=3)


def deeplabv3(*, encoder: str, num_classes: int, channels: int, dropout: float) -> EncoderDecoder:
    """DeepLabv3: a dilated encoder, and features from five fields of view, joined.

    Source: Chen et al., "Rethinking Atrous Convolution for Semantic Image Segmentation", 2017 (arXiv 1706.05587),
        section 3.3. Its own logits have an eighth of the images' size.
    """
    backbone: Any = build_encoder(encoder, output_stride=8)
    decoder = DeepLabV3Decoder(
        backbone.out_channels[-1],
        out_channels=channels,
        atrous_rates=_ATROUS_RATES,
        aspp_separable=False,
        aspp_dropout=dropout,
    )
    return _assembled(backbone, decoder, channels=channels, num_classes=num_classes, kernel_size=1)


def deeplabv3plus(*, encoder: str, num_classes: int, channels: int, dropout: float) -> EncoderDecoder:
    """DeepLabv3+: DeepLabv3 at a stride of 16 with separable convolutions, then joined with the features c2.

    Source: Chen et al., "Encoder-Decoder with Atrous Separable Convolution for Semantic Image Segmentation", ECCV 2018
        (arXiv 1802.02611), section 3.
    """
    backbone: Any = build_encoder(encoder, output_stride=16)
    decoder = DeepLabV3PlusDecoder(
        backbone.out_channels,
        encoder_depth=5,
        out_channels=channels,
        atrous_rates=_ATROUS_RATES,
        output_stride=16,
        aspp_separable=True,
        aspp_dropout=dropout,
    )
    return _assembled(backbone, decoder, channels=channels, num_classes=num_classes, kernel_size=1)


def segformer(*, encoder: str, num_classes: int, channels: int) -> EncoderDecoder:
    """A layer for each of the features c2…c5 to `channels`, all brought to a quarter of the size and joined by another.

    Source: Xie et al., "SegFormer", NeurIPS 2021 (arXiv 2105.15203), section 3.2; its encoders are mit_b0 … mit_b5.
    """
    backbone: Any = build_encoder(encoder)
    decoder = SegformerDecoder(backbone.out_channels, segmentation_channels=channels)
    return _assembled(backbone, decoder, channels=channels, num_classes=num_classes, kernel_size=1)


def _assembled(
    encoder: nn.Module, decoder: nn.Module, *, channels: int, num_classes: int, kernel_size: int
) -> EncoderDecoder:
    """The parts with the library's head, and its start of both."""
    head = SegmentationHead(channels, num_classes, kernel_size=kernel_size)
    initialize_decoder(decoder)
    initialize_head(head)
    return EncoderDecoder(encoder, decoder, head)
