"""The networks of segmentation_models_pytorch, each a function that takes its decoder.

Their last upsampling is left to `training.networks.layers.EncoderDecoder` and to the vehicle's runtime, which have
half-pixel centres where the library aligns corners.
"""

from __future__ import annotations

from segmentation_models_pytorch.base import SegmentationHead
from segmentation_models_pytorch.base.initialization import initialize_decoder, initialize_head
from segmentation_models_pytorch.decoders.fpn.decoder import FPNDecoder
from segmentation_models_pytorch.decoders.segformer.decoder import SegformerDecoder
from torch import nn

from training.networks.encoders import build_encoder
from training.networks.layers import EncoderDecoder


def panoptic_fpn(
    *, encoder: str, num_classes: int, pyramid_channels: int, segmentation_channels: int, dropout: float
) -> EncoderDecoder:
    """The thesis's: pyramid p2…p5 of width `pyramid_channels`, from each a branch, all summed at p2's size.

    Source: Kirillov et al., "Panoptic Feature Pyramid Networks", CVPR 2019 (arXiv 1901.02446), section 3.1 and figure
        3; thesis, section 3.3.1.
    Differs: dropout before the head, and ×2 steps with aligned corners inside the branches, are those of
        segmentation_models_pytorch, with which the thesis worked.
    """
    backbone = build_encoder(encoder)
    decoder = FPNDecoder(
        backbone.out_channels,
        pyramid_channels=pyramid_channels,
        segmentation_channels=segmentation_channels,
        dropout=dropout,
    )
    return _assembled(backbone, decoder, channels=segmentation_channels, num_classes=num_classes, kernel_size=1)


def segformer(*, encoder: str, num_classes: int, channels: int) -> EncoderDecoder:
    """A layer for each of the features c2…c5 to `channels`, all brought to a quarter of the size and joined by another.

    Source: Xie et al., "SegFormer", NeurIPS 2021 (arXiv 2105.15203), section 3.2; its encoders are mit_b0 … mit_b5.
    """
    backbone = build_encoder(encoder)
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
