"""How often each class occurs in labelled images, and loss weights by it."""

from __future__ import annotations

import numpy as np

from darkseg_ros.classes import CITYSCAPES, ClassTable
from darkseg_ros.errors import InputError
from darkseg_ros.frames.labelled import LabelledImage, read_label_map


def class_shares(images: list[LabelledImage], classes: ClassTable = CITYSCAPES) -> np.ndarray:
    """Share of each class in the pixels of each image, (N, K) float; unlabelled pixels belong to none.

    Raises:
        InputError: naming the file, if a label map cannot be used, or if none has a labelled pixel.
    """
    counts = [np.bincount(read_label_map(image.label, image.label_format).ravel(), minlength=256) for image in images]
    shares = np.stack([count[: len(classes)] / count.sum() for count in counts])
    if not shares.any():
        raise InputError(f"{images[0].label.parent} labels no pixel; expected train ids 0…{len(classes) - 1} in it")
    return shares


def class_weights(shares: np.ndarray, *, exponent: float) -> np.ndarray:
    """Loss weights that favour rare classes: (1 / share)^exponent, 1 for the average pixel.

    Args:
        shares: (N, K) of `class_shares`.
        exponent: 0 weighs all pixels alike, 1 all classes.

    Returns:
        (K,) float; a class that never occurs weighs as much as the rarest.

    Source: frequency balancing of Eigen and Fergus, ICCV 2015 (arXiv 1411.4734), section 3.3.
    Differs: the exponent, and the mean over pixels instead of the median over classes.
    """
    mean_share = shares.mean(0)
    occurring = mean_share[mean_share > 0]
    weights = np.maximum(mean_share, occurring.min()) ** -exponent
    return weights / ((weights * mean_share).sum() / mean_share.sum())
