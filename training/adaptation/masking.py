"""Masked-image consistency: the student answers for what it cannot see from what is around it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from training.data.random_streams import Stream, generator


def mask_blocks(
    images: Tensor, *, share: float, ratio: float, block_px: int, seed: int, step: int, first_position: int = 0
) -> Tensor:
    """Black out random blocks in some of the images.

    Args:
        images: (B, 3, H, W) float.
        share: of the images that are masked.
        ratio: of the blocks of such an image.
        block_px: side of a block.
        seed: of the run.
        step: of the run; the choice is another in each.
        first_position: of the images in the global batch: the choice goes by position, whatever process makes it.

    Returns:
        (B, 3, H, W); masked pixels are 0, ImageNet's mean colour.

    Source: Hoyer et al., MIC, CVPR 2023 (arXiv 2212.01322), equations 4 and 5.
    Differs: the same forward pass as the strong view, for a share of the images, in the place of a pass of its own.
    """
    height, width = images.shape[-2:]
    masked = []
    for index, image in enumerate(images):
        rng = generator(seed, Stream.MASKED_BLOCKS, step, first_position + index)
        if rng.random() >= share:
            masked.append(image)
            continue
        blocks = rng.random((-(-height // block_px), -(-width // block_px))) >= ratio
        kept = torch.from_numpy(blocks.astype(np.float32)).to(image)[None, None]
        kept = functional.interpolate(kept, scale_factor=block_px, mode="nearest")[0, :, :height, :width]
        masked.append(image * kept)
    return torch.stack(masked)
