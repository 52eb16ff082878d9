"""What every function that takes camera frames demands of them."""

from __future__ import annotations

import numpy as np


def check_bgr(bgr: np.ndarray) -> None:
    """Make sure that an array is a camera frame.

    Raises:
        ValueError: if it is not (H, W, 3) uint8 with H, W ≥ 1.
    """
    if bgr.ndim != 3 or bgr.shape[2] != 3 or bgr.dtype != np.uint8 or not bgr.size:
        raise ValueError(f"expected (H, W, 3) uint8 BGR with H, W ≥ 1, got {bgr.dtype} {bgr.shape}")


def check_bgr_batch(bgr: np.ndarray) -> None:
    """Make sure that an array is a batch of camera frames of one size.

    Raises:
        ValueError: if it is not (N, H, W, 3) uint8 with N, H, W ≥ 1.
    """
    if bgr.ndim != 4 or bgr.shape[3] != 3 or bgr.dtype != np.uint8 or not bgr.size:
        raise ValueError(f"expected (N, H, W, 3) uint8 BGR frames, got {bgr.dtype} {bgr.shape}")
