"""Images as translators take and give them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from darkseg_ros.frames.source import read_image


def read_view(path: Path, view_px: int) -> np.ndarray:
    """An image squeezed into a square, (S, S, 3) uint8 BGR.

    Raises:
        InputError: naming the file, if it cannot be read.
    """
    return view_of(read_image(path), view_px)


def view_of(bgr: np.ndarray, view_px: int) -> np.ndarray:
    """As `read_view`, of an image that was read before."""
    return cv2.resize(bgr, (view_px, view_px), interpolation=cv2.INTER_AREA)


def unit_input(bgr: np.ndarray) -> Tensor:
    """(H, W, 3) uint8 BGR → (3, H, W) float RGB in [-1, 1]."""
    rgb = torch.from_numpy(np.ascontiguousarray(bgr[:, :, ::-1])).permute(2, 0, 1)
    return rgb.float().div_(127.5).sub_(1)


def bgr_of(rgb: Tensor) -> np.ndarray:
    """(3, H, W) float RGB, clipped to [-1, 1] → (H, W, 3) uint8 BGR."""
    levels = rgb.clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)
    return np.ascontiguousarray(levels.permute(1, 2, 0).cpu().numpy()[:, :, ::-1])
