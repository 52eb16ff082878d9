"""Covers and dirt over a part of the lens, laid over pictures."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np

Side = Literal["left", "right", "lower"]


def with_noise(bgr: np.ndarray, *, seed: int, sigma: float = 4.0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, sigma, bgr.shape)
    return np.clip(bgr + noise, 0, 255).astype(np.uint8)


def half_covered(
    bgr: np.ndarray, *, side: Side = "left", level: float = 0, seed: int = 0, share: float = 0.5, edge: float = 0.0
) -> np.ndarray:
    """A side of the frame behind something close to the lens: out of focus, with a light of its own, with sensor noise.

    Args:
        bgr: (H, W, 3) uint8; not changed.
        side: where the cover is.
        level: of the cover's own light, before noise; a fifth of the blurred scene shines through.
        seed: of the noise.
        share: of the frame that is covered.
        edge: width of the change from covered to clear, as a share of the frame.
    """
    height, width = bgr.shape[:2]
    quarter = cv2.resize(bgr, (max(1, width // 4), max(1, height // 4)), interpolation=cv2.INTER_AREA)
    blurred = cv2.resize(cv2.GaussianBlur(quarter.astype(np.float32), (0, 0), max(1.0, width / 40)), (width, height))
    cover = 0.2 * blurred + 0.8 * level
    along = np.linspace(0, 1, height if side == "lower" else width, dtype=np.float32)
    from_edge = along if side == "left" else 1 - along
    opaque = np.clip((share - from_edge) / max(edge, 1e-6) + 0.5, 0, 1)
    opaque = opaque[:, None, None] if side == "lower" else opaque[None, :, None]
    return with_noise(bgr * (1 - opaque) + cover * opaque, seed=seed, sigma=3.0)
