"""How often each class occurs in labelled images, and loss weights by it."""

from __future__ import annotations

import numpy as np

from darkseg_ros.classes import CITYSCAPES, ClassTable
from darkseg_ros.errors import InputError
from darkseg_ros.frames.labelled import LabelledImage, read_label_map
from training.data.shards import ShardLabel


def class_shares(images: list[LabelledImage], classes: ClassTable = CITYSCAPES) -> np.ndarray:
    """Share of each class in the pixels of each image, (N, K) float; unlabelled pixels belong to none.

    Raises:
        InputError: naming the file, if a label map cannot be used, or if none has a labelled pixel.
    """
    counts = [_pixels_by_train_id(image) for image in images]
    shares = np.stack([count[: len(classes)] / count.sum() for count in counts])
    if not shares.any():
        raise InputError(f"the source with {images[0].label} labels no pixel; expected train ids 0…{len(classes) - 1}")
    return shares


def _pixels_by_train_id(image: LabelledImage) -> np.ndarray:
    """(256,) int64; shards know theirs, so that not all of them are read before a run begins."""
    if isinstance(image.label, ShardLabel) and (counts := image.label.counts(image.label_format)) is not None:
        return counts
    return np.bincount(read_label_map(image.label, image.label_format).ravel(), minlength=256)


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
