"""What a teacher's answer becomes before a student learns it: adjusted to the classes' shares, and weighed by trust."""

from __future__ import annotations

import torch
from torch import Tensor


def adjust_to_shares(probabilities: Tensor, log_weights: Tensor, *, strength: float) -> Tensor:
    """Take back some of the push to rare classes that class weights and rare-class draws gave a network.

    Args:
        probabilities: (B, K, h, w), summing to 1 over the classes.
        log_weights: (K,) natural logarithm of `training.data.pairs.class_weights` with exponent 1.
        strength: 0 leaves the answers as they are; the exponent of the weights in the loss takes all of them back.

    Source: Menon et al., "Long-tail learning via logit adjustment", ICLR 2021 (arXiv 2007.07314), section 4.1.
    """
    if not strength:
        return probabilities
    adjusted = probabilities * torch.exp(-strength * log_weights).view(1, -1, 1, 1)
    return adjusted / adjusted.sum(1, keepdim=True)


def confidence_weights(probabilities: Tensor, *, pixel_min: float, by_image: bool) -> Tensor:
    """How much each pixel's answer counts.

    Args:
        probabilities: (B, K, h, w).
        pixel_min: a pixel whose largest probability is below counts nothing; 0 counts all.
        by_image: every pixel counts as much as the share of its image's pixels that reach `pixel_min`.

    Returns:
        (B, h, w) in [0, 1].

    Source: `by_image`: Tranheden et al., DACS, WACV 2021 (arXiv 2007.08702), section 3.2, as in Hoyer et al., DAFormer,
        CVPR 2022 (arXiv 2111.14887), equation 3.
    """
    reached = (probabilities.amax(1) >= pixel_min).float()
    return reached * reached.mean((1, 2), keepdim=True) if by_image else reached
