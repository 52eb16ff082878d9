"""What a translated image is given afterwards: the light of a real night image, or stronger local contrast.

Source: the thesis's future work, section 5.2.1.
"""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np

Enhancement = Literal["none", "match_histogram", "equalise"]

_CLIP_LIMIT = 2.0
_TILES = (8, 8)


def match_histogram(bgr: np.ndarray, reference_bgr: np.ndarray) -> np.ndarray:
    """Give each channel the distribution of another image's; equal values stay equal.

    Args:
        bgr: (H, W, 3) uint8.
        reference_bgr: (H', W', 3) uint8, such as a real night image.

    Source: Gonzalez and Woods, Digital Image Processing, section 3.3.2, histogram specification.
    """
    matched = np.empty_like(bgr)
    levels = np.arange(256)
    for channel in range(3):
        own, wanted = (
            np.cumsum(np.bincount(image[:, :, channel].ravel(), minlength=256)) / image[:, :, channel].size
            for image in (bgr, reference_bgr)
        )
        occurring = np.flatnonzero(np.diff(wanted, prepend=0))
        table = np.interp(own, wanted[occurring], levels[occurring]).round().astype(np.uint8)
        matched[:, :, channel] = cv2.LUT(bgr[:, :, channel], table)
    return matched


def equalise(bgr: np.ndarray) -> np.ndarray:
    """Contrast-limited adaptive equalisation of the lightness; colours stay.

    Args:
        bgr: (H, W, 3) uint8.

    Source: Zuiderveld, Graphics Gems IV, 1994; OpenCV's CLAHE on L of CIE L*a*b*, 8 × 8 tiles, clip limit 2.
    """
    lab = cv2.cvtColor(bgr, cv2.COLOR_BGR2LAB)
    lab[:, :, 0] = cv2.createCLAHE(clipLimit=_CLIP_LIMIT, tileGridSize=_TILES).apply(lab[:, :, 0])
    return np.asarray(cv2.cvtColor(lab, cv2.COLOR_LAB2BGR))
