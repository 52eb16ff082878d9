"""Exposure normalisation: a dark frame is brightened to the mean grey level that its network was trained at."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from darkseg_ros.model.exposure_table import apply_table

GAMMA_STEPS = np.linspace(0.2, 1.0, 81)
"""The exponents that a frame may be brightened by, ascending; 1 changes nothing."""

_CURVES = (np.arange(256) / 255) ** GAMMA_STEPS[:, None] * 255
_TABLES = np.rint(_CURVES).astype(np.uint8)
_ROW_STEP = 4  # every fourth row tells the mean of a frame as well


@dataclass(frozen=True)
class Exposure:
    """How far a frame is brightened.

    Attributes:
        target_mean: grey level 1…254; a frame whose mean is at least this is left as it is, bit by bit.
        gamma_min: smallest exponent, 0.2…1: how far the darkest frames are brightened.
    """

    target_mean: float
    gamma_min: float


def normalise_exposure(frame: np.ndarray, exposure: Exposure) -> None:
    """Brighten a frame in place by one gamma table, so that its mean grey level becomes the target. Never darkens.

    Args:
        frame: (H, W, 3) uint8 BGR, contiguous.
        exposure: the target and the limit.
    """
    grey = cv2.cvtColor(frame[::_ROW_STEP], cv2.COLOR_BGR2GRAY)
    if cv2.mean(grey)[0] >= exposure.target_mean:
        return
    histogram = cv2.calcHist([grey], [0], None, [256], [0, 256]).ravel()
    apply_table(frame, _TABLES[find_gamma(histogram / grey.size, exposure)])


def find_gamma(grey_shares: np.ndarray, exposure: Exposure) -> int:
    """Which of `GAMMA_STEPS` brings the mean grey level closest to the target without passing it, within the limit.

    Args:
        grey_shares: (256,) share of each grey level in the pixels; sums to 1.
        exposure: the target and the limit.

    Returns:
        Index of the exponent; the last, which changes nothing, if each brightens too much.
    """
    means = _CURVES @ grey_shares  # falls with the exponent
    allowed = (means <= exposure.target_mean) & (exposure.gamma_min - 1e-9 <= GAMMA_STEPS)
    return int(np.argmax(allowed)) if allowed.any() else len(GAMMA_STEPS) - 1
