"""A plain vision transformer, whose one level a decoder of convolutions brings to a quarter of the size."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from training.networks.encoders import VitEncoder
from training.networks.layers import EncoderDecoder, conv_bn_relu, upsample_bilinear


class ProgressiveUpsampling(nn.Module):
    """A map of any stride → one at a quarter of the images' size, in steps of 2 with a convolution before each.

    Args:
        in_channels: of the map.
        channels: width.
        doublings: steps.
    """

    def __init__(self, in_channels: int, *, channels: int, doublings: int) -> None:
        super().__init__()
        widths = [in_channels, *[channels] * doublings]
        self.convolutions = nn.ModuleList(
            conv_bn_relu(narrow, wide, kernel_size=3) for narrow, wide in pairwise(widths)
        )

    def forward(self, features: Tensor) -> Tensor:
        for convolution in self.convolutions:
            features = convolution(features)
            features = upsample_bilinear(features, (2 * features.shape[-2], 2 * features.shape[-1]))
        return features


def build(*, encoder: str, num_classes: int, channels: int) -> EncoderDecoder:
    """A vision transformer of timm with patches of 16 pixels, and SETR's progressive upsampling.

    Raises:
        InputError: if `encoder` is no such transformer.

    Source: Dosovitskiy et al., "An Image is Worth 16×16 Words", ICLR 2021 (arXiv 2010.11929); Zheng et al., "Rethinking
        Semantic Segmentation from a Sequence-to-Sequence Perspective with Transformers", CVPR 2021 (arXiv 2012.15840),
        section 3.2, SETR-PUP.
    Differs: two doublings instead of four, to a quarter of the size.
    """
    backbone = VitEncoder(encoder)
    decoder = ProgressiveUpsampling(backbone.out_channels[-1], channels=channels, doublings=2)
    return EncoderDecoder(backbone, decoder, nn.Conv2d(channels, num_classes, 1))
