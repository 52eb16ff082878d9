"""Test-time augmentation as a network: the mean answer to an image seen several times."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from training.networks.input_size import side_at
from training.networks.layers import OUTPUT_STRIDE, upsample_bilinear

_PROBABILITY_MIN = 1e-6


class MeanOfViews(nn.Module):
    """Images → the logarithm of the mean probabilities over scales and mirror images, (B, K, H/4, W/4).

    Args:
        network: images → logits at a quarter of their size.
        scales: of the images' sides, each in (0, 1]; sides are rounded to multiples of 32.
        mirrored: each scale is seen mirrored too.
    """

    def __init__(self, network: nn.Module, *, scales: Sequence[float], mirrored: bool) -> None:
        super().__init__()
        self.network, self.scales, self.mirrored = network, tuple(scales), mirrored

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        quarter_hw = (height // OUTPUT_STRIDE, width // OUTPUT_STRIDE)
        answers = []
        for scale in self.scales:
            size_hw = (side_at(height, scale), side_at(width, scale))
            seen = images if size_hw == (height, width) else upsample_bilinear(images, size_hw)
            answers.append(upsample_bilinear(torch.softmax(self.network(seen), 1), quarter_hw))
            if self.mirrored:
                mirrored = torch.softmax(self.network(seen.flip(-1)), 1).flip(-1)
                answers.append(upsample_bilinear(mirrored, quarter_hw))
        mean = answers[0] if len(answers) == 1 else torch.stack(answers).mean(0)
        return mean.clamp(min=_PROBABILITY_MIN).log()
