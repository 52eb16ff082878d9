"""Images as the networks take them: RGB, normalised by the statistics of ImageNet."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from training.data.imagenet import IMAGENET_MEAN_RGB, IMAGENET_STD_RGB


def network_input(bgr: np.ndarray) -> Tensor:
    """(H, W, 3) uint8 BGR → (3, H, W) float RGB, ImageNet-normalised."""
    rgb = torch.from_numpy(np.ascontiguousarray(bgr[:, :, ::-1])).permute(2, 0, 1).float().div_(255)
    return rgb.sub_(torch.tensor(IMAGENET_MEAN_RGB).view(3, 1, 1)).div_(torch.tensor(IMAGENET_STD_RGB).view(3, 1, 1))
