"""Images with ground truth on disk: pairs of files with the same stem."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from darkseg_ros.classes import IGNORE_INDEX, NUM_CLASSES
from darkseg_ros.errors import InputError
from darkseg_ros.frames.source import image_files, read_image


@dataclass(frozen=True)
class LabelledImage:
    """An image file and the label map with the same stem."""

    image: Path
    label: Path


def pair_files(images: Path, labels: Path) -> list[LabelledImage]:
    """Images and label maps of the same stem, in the order of their names.

    Raises:
        InputError: if a folder is missing or empty, a stem occurs twice in one, or a file has no partner.
    """
    image_by_stem, label_by_stem = ({path.stem: path for path in image_files(folder)} for folder in (images, labels))
    for stem, path in image_by_stem.items():
        if stem not in label_by_stem:
            raise InputError(f"{path} has no label map {stem}.* in {labels}; add it or take the image out")
    for stem, path in label_by_stem.items():
        if stem not in image_by_stem:
            raise InputError(f"{path} has no image {stem}.* in {images}; add it or take the label map out")
    return [LabelledImage(image, label_by_stem[stem]) for stem, image in image_by_stem.items()]


def read_label_map(path: Path) -> np.ndarray:
    """Read a label map.

    Returns:
        (H, W) uint8 train ids, 255 = no ground truth.

    Raises:
        InputError: if the file cannot be decoded, is anything but one channel of 8 bits, or holds a value that is
            neither a train id nor 255.
    """
    try:
        content = np.frombuffer(path.read_bytes(), np.uint8)
        label_map = cv2.imdecode(content, cv2.IMREAD_UNCHANGED) if content.size else None
    except (OSError, cv2.error) as error:
        raise InputError(f"{path} cannot be read as a label map: {error}") from error
    if label_map is None:
        raise InputError(f"{path} cannot be decoded; expected a label map, restore the file")
    if label_map.ndim != 2 or label_map.dtype != np.uint8:
        channels = 1 if label_map.ndim == 2 else label_map.shape[2]
        raise InputError(
            f"{path} has {channels} channels of {label_map.dtype}; expected one channel of uint8 train ids "
            "(coloured and palette pictures must be turned into train ids first)"
        )
    unknown = label_map[(label_map >= NUM_CLASSES) & (label_map != IGNORE_INDEX)]
    if unknown.size:
        raise InputError(
            f"{path} holds the value {unknown[0]}; expected train ids 0…{NUM_CLASSES - 1} or {IGNORE_INDEX} "
            "(raw Cityscapes ids must be mapped with darkseg_ros.classes.TRAIN_ID_OF_LABEL_ID first)"
        )
    return label_map


def read_labelled(pair: LabelledImage) -> tuple[np.ndarray, np.ndarray]:
    """Image (H, W, 3) uint8 BGR and its label map (H, W) uint8.

    Raises:
        InputError: as `read_image` and `read_label_map`, or if the two differ in size.
    """
    bgr, label_map = read_image(pair.image), read_label_map(pair.label)
    if label_map.shape != bgr.shape[:2]:
        raise InputError(
            f"{pair.label} is {label_map.shape[1]}×{label_map.shape[0]}, its image "
            f"{bgr.shape[1]}×{bgr.shape[0]}; label maps must have their image's size"
        )
    return bgr, label_map
