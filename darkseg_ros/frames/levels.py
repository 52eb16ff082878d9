"""How bright images are."""

from __future__ import annotations

import cv2
import numpy as np

RED_WEIGHT = 0.5


def histogram_level(bgr: np.ndarray, *, red_weight: float = RED_WEIGHT) -> float:
    """How bright an image is, red counting less: at night lamps are red and would make a dark street look lit.

    level = mean of (w R + G + B) / (w + 2) over the pixels

    Args:
        bgr: (H, W, 3) uint8.
        red_weight: w, at least 0.

    Returns:
        0 (black) … 255 (white).

    Source: equation 4.1 of the thesis, S = w R + G + B with w = 0.5.
    Differs: the thesis does not say how S becomes one number on which night is below 65 and the band is 15…20. Here it
        is the mean over the pixels divided by the sum of the weights, as only so 65 lies between night and day: of
        BDD100K 1000 of 1000 night and 1 of 250 day images are below it, of Cityscapes' day images 15 %. Undivided,
        49 % of the night images are above 65 and 18 of them within the band; divided by 3, 49 % of Cityscapes' day
        images are below 65.
    """
    blue, green, red, _ = cv2.mean(bgr)
    return (red_weight * red + green + blue) / (red_weight + 2)
