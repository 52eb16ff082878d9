"""FCN-32s, FCN-16s and FCN-8s: scores of one to three levels of an encoder, summed from the coarsest up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.segmentation.fcn import FCNHead

from training.networks.encoders import build_encoder
from training.networks.layers import EncoderDecoder

_KERNEL = 4  # of an upsampling by 2


class FcnDecoder(nn.Module):
    """Features c3, c4, c5 → logits at a stride of 32, 16 or 8.

    c5 is scored by two convolutions, each further level by one; what is there so far is doubled and added.

    Args:
        channels: of (c3, c4, c5), strides 8, 16, 32.
        stride: 32, 16 or 8, the s of FCN-32s and so on.
        num_classes: K.
    """

    def __init__(self, channels: tuple[int, int, int], *, stride: int, num_classes: int) -> None:
        super().__init__()
        c3, c4, c5 = channels
        self.score5 = FCNHead(c5, num_classes)
        skipped = {32: (), 16: (c4,), 8: (c4, c3)}[stride]
        self.scores = nn.ModuleList(nn.Conv2d(width, num_classes, 1) for width in skipped)
        self.doublings = nn.ModuleList(_bilinear_doubling(num_classes) for _ in skipped)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        *_, c3, c4, c5 = features
        logits: Tensor = self.score5(c5)
        for doubling, score, level in zip(self.doublings, self.scores, (c4, c3), strict=False):
            logits = doubling(logits) + score(level)
        return logits


def _bilinear_doubling(channels: int) -> nn.ConvTranspose2d:
    """A transposed convolution that may be learned and starts as a bilinear upsampling by 2."""
    layer = nn.ConvTranspose2d(channels, channels, _KERNEL, stride=2, padding=1, bias=False)
    weights = torch.tensor([0.25, 0.75, 0.75, 0.25])
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[range(channels), range(channels)] = weights[:, None] * weights
    return layer


def build(*, encoder: str, num_classes: int, stride: int) -> EncoderDecoder:
    """FCN-32s, -16s or -8s on an encoder of any name.

    Source: Long et al., "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015 (arXiv 1411.4038), section
        4.2; thesis, figure 2.5. The score of c5 is torchvision's FCN head.
    Differs: a 3×3 convolution of a quarter of c5's channels for the 7×7 one of 4096; the last features of each stride
        in place of VGG-16's poolings; the last upsampling, fixed to bilinear in the paper too, is left to the finish.
    """
    backbone: Any = build_encoder(encoder)
    *_, c3, c4, c5 = backbone.out_channels
    decoder = FcnDecoder((c3, c4, c5), stride=stride, num_classes=num_classes)
    return EncoderDecoder(backbone, decoder, nn.Identity())
