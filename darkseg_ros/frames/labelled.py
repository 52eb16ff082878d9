"""Images with ground truth on disk: which label map belongs to which image, and what its values mean."""

from __future__ import annotations

import io
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from darkseg_ros.classes import CITYSCAPES, IGNORE_INDEX, ClassTable
from darkseg_ros.errors import InputError
from darkseg_ros.frames.source import ImageFile, image_files, read_image

_UNKNOWN = 254  # in look-up tables: a value that the format does not have


@dataclass(frozen=True, eq=False)
class LabelFormat:
    """What the values of label files mean. One of the two mappings is given.

    Attributes:
        values: in words, for messages.
        train_id_of: train id, or IGNORE_INDEX, of each value of one-channel files; where a file has a palette, its
            indices are the values.
        train_id_of_rgb: train id, or IGNORE_INDEX, of each colour (R, G, B) of pictures.
    """

    values: str
    train_id_of: Mapping[int, int] = field(default_factory=dict)
    train_id_of_rgb: Mapping[tuple[int, int, int], int] = field(default_factory=dict)

    def ignoring(self, train_ids: Collection[int]) -> LabelFormat:
        """The same format, where pixels of some classes have no ground truth.

        Args:
            train_ids: of classes that a data set draws in another way, such as merged with others.
        """

        def changed(train_id: int) -> int:
            return IGNORE_INDEX if train_id in train_ids else train_id

        return LabelFormat(
            self.values,
            {value: changed(train_id) for value, train_id in self.train_id_of.items()},
            {rgb: changed(train_id) for rgb, train_id in self.train_id_of_rgb.items()},
        )

    @cached_property
    def table(self) -> np.ndarray:
        """(256,) uint8 train id of each value, _UNKNOWN where there is none."""
        table = np.full(256, _UNKNOWN, np.uint8)
        for value, train_id in self.train_id_of.items():
            table[value] = train_id
        return table

    @cached_property
    def colours(self) -> tuple[np.ndarray, np.ndarray]:
        """Colours as R · 65536 + G · 256 + B in ascending order, (K,) int32, and their train ids, (K,) uint8."""
        rows = sorted(((r << 16 | g << 8 | b), train_id) for (r, g, b), train_id in self.train_id_of_rgb.items())
        return np.array([code for code, _ in rows], np.int32), np.array([train_id for _, train_id in rows], np.uint8)


def train_id_format(classes: ClassTable) -> LabelFormat:
    """Train ids, as `darkseg` writes them."""
    return LabelFormat(
        f"train ids 0…{len(classes) - 1} or {IGNORE_INDEX}",
        train_id_of={**{train_id: train_id for train_id in range(len(classes))}, IGNORE_INDEX: IGNORE_INDEX},
    )


def class_colour_format(classes: ClassTable) -> LabelFormat:
    """Pictures coloured as overlays are."""
    return LabelFormat(
        "the colours of the class table, or black for no ground truth",
        train_id_of_rgb={**{row.rgb: train_id for train_id, row in enumerate(classes)}, (0, 0, 0): IGNORE_INDEX},
    )


TRAIN_IDS = train_id_format(CITYSCAPES)

CLASS_COLOURS = class_colour_format(CITYSCAPES)

LABEL_IDS = LabelFormat(
    "Cityscapes' raw label ids 0…33 or 255",
    # the licence plate's -1 is 255 in a file
    train_id_of={value: int(CITYSCAPES.train_id_of_label_id[value]) for value in (*range(34), 255)},
)
"""``*_labelIds.png`` of Cityscapes and of data sets that follow it."""


@dataclass(frozen=True)
class LabelledImage:
    """An image file, its label map, and what the label map's values mean."""

    image: ImageFile
    label: ImageFile
    label_format: LabelFormat = TRAIN_IDS


def pair_files(images: Path, labels: Path, label_format: LabelFormat = TRAIN_IDS) -> list[LabelledImage]:
    """Images and label maps of the same stem, in the order of their names.

    Raises:
        InputError: if a folder is missing or empty, a stem occurs twice in one, or a file has no partner.
    """
    image_by_stem, label_by_stem = ({path.stem: path for path in image_files(folder)} for folder in (images, labels))
    return pair_by_key(image_by_stem, label_by_stem, images=images, labels=labels, label_format=label_format)


def pair_endings(
    images: Path, image_ending: str, labels: Path, label_ending: str, label_format: LabelFormat
) -> list[LabelledImage]:
    """Images and label maps anywhere below two folders, of the same path but for their endings, sorted by it.

    Args:
        images: folder of images, with or without folders in it, such as ``leftImg8bit/val``.
        image_ending: what the names of images end in, such as ``_leftImg8bit.png``; others are passed over.
        labels: folder of label maps, such as ``gtFine/val``.
        label_ending: what their names end in, such as ``_gtFine_labelIds.png``.
        label_format: what their values mean.

    Raises:
        InputError: if a folder is missing or holds no such file, or a file has no partner.
    """
    image_by_key, label_by_key = (
        {path.relative_to(folder).as_posix().removesuffix(ending): path for path in files_ending(folder, ending)}
        for folder, ending in ((images, image_ending), (labels, label_ending))
    )
    return pair_by_key(image_by_key, label_by_key, images=images, labels=labels, label_format=label_format)


def files_ending(folder: Path, ending: str) -> list[Path]:
    """Files anywhere below a folder whose names end in `ending`, sorted; hidden ones are passed over.

    Raises:
        InputError: if the folder is missing or holds none.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; expected files *{ending} in it")
    found = sorted(path for path in folder.rglob(f"*{ending}") if path.is_file() and not path.name.startswith("."))
    if not found:
        raise InputError(f"{folder} holds no file *{ending}, in it or below")
    return found


def pair_by_key(
    image_by_key: dict[str, Path],
    label_by_key: dict[str, Path],
    *,
    images: Path,
    labels: Path,
    label_format: LabelFormat,
) -> list[LabelledImage]:
    """Put together what has the same key, in the order of the images.

    Raises:
        InputError: if a file has no partner.
    """
    for key, path in image_by_key.items():
        if key not in label_by_key:
            raise InputError(f"{path} has no label map {key}* in {labels}; add it or take the image out")
    for key, path in label_by_key.items():
        if key not in image_by_key:
            raise InputError(f"{path} has no image {key}* in {images}; add it or take the label map out")
    return [LabelledImage(image, label_by_key[key], label_format) for key, image in image_by_key.items()]


def read_label_map(path: ImageFile, label_format: LabelFormat = TRAIN_IDS) -> np.ndarray:
    """Read a label map.

    Args:
        path: one channel of 8 bits, a palette picture, or a colour picture where `label_format` names colours.
        label_format: what its values mean.

    Returns:
        (H, W) uint8 train ids, 255 = no ground truth.

    Raises:
        InputError: if the file cannot be decoded or is cut off, is of another kind than `label_format` says, or holds
            a value that the format does not have.
    """
    stored = _read_stored(path)
    if label_format.train_id_of_rgb:
        return _from_colours(stored, path, label_format)
    if stored.ndim != 2 or stored.dtype != np.uint8:
        channels = 1 if stored.ndim == 2 else stored.shape[2]
        raise InputError(
            f"{path} has {channels} channels of {stored.dtype}; expected one channel of uint8, {label_format.values}"
        )
    label_map = label_format.table[stored]
    unknown = label_map == _UNKNOWN
    if unknown.any():
        raise InputError(
            f"{path} holds the value {stored[unknown][0]}; expected {label_format.values}; "
            "say which label format or data set it is"
        )
    return label_map


def value_counts(path: ImageFile) -> np.ndarray:
    """How often each value of a one-channel label file occurs, (256,) int64; zeros for a colour picture.

    Raises:
        InputError: if the file cannot be decoded.
    """
    stored = _read_stored(path)
    if stored.ndim != 2 or stored.dtype != np.uint8:
        return np.zeros(256, np.int64)
    return np.bincount(stored.ravel(), minlength=256)


def is_colour_picture(path: ImageFile) -> bool:
    """Whether a label file holds colours, not one value a pixel.

    Raises:
        InputError: if the file cannot be decoded.
    """
    return _read_stored(path).ndim == 3


def look_like_label_ids(counts: np.ndarray) -> bool:
    """Whether values that pass for train ids are rather raw Cityscapes label ids.

    Street scenes hold much road: it is 7 among label ids, where train ids have traffic signs. Those cover 0.2 to 0.6 %
    of the labelled pixels of ACDC, BDD100K and Cityscapes, and at most 3.5 % of one image (measured 2026-11-28).

    Args:
        counts: (256,) pixels by value, over one label map or many.
    """
    labelled = counts[:IGNORE_INDEX].sum()
    road_id = CITYSCAPES.rows[0].label_id
    return bool(labelled and counts[road_id] > 0.1 * labelled)


def _read_stored(path: ImageFile) -> np.ndarray:
    """The values of a file as they are: (H, W) of one channel or of palette indices, (H, W, 3) RGB of colours."""
    try:
        with Image.open(io.BytesIO(path.read_bytes())) as picture:
            return np.array(picture.convert("RGB") if picture.mode == "RGBA" else picture)
    except UnidentifiedImageError as error:
        raise InputError(f"{path} cannot be decoded; expected a label map, restore the file") from error
    except (OSError, SyntaxError, ValueError) as error:  # Pillow raises each for damaged files
        raise InputError(f"{path} cannot be read as a label map ({error}); restore the file") from error


def _from_colours(rgb: np.ndarray, path: ImageFile, label_format: LabelFormat) -> np.ndarray:
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
        raise InputError(f"{path} is no colour picture of 8 bits; expected {label_format.values}")
    red, green, blue = (rgb[:, :, channel].astype(np.int32) for channel in range(3))
    codes = red << 16 | green << 8 | blue
    known, train_ids = label_format.colours
    index = np.searchsorted(known, codes).clip(max=len(known) - 1)
    label_map = np.where(known[index] == codes, train_ids[index], np.uint8(_UNKNOWN))
    unknown = label_map == _UNKNOWN
    if unknown.any():
        raise InputError(f"{path} holds the colour {tuple(rgb[unknown][0].tolist())}; expected {label_format.values}")
    return label_map


def read_labelled(pair: LabelledImage) -> tuple[np.ndarray, np.ndarray]:
    """Image (H, W, 3) uint8 BGR and its label map (H, W) uint8.

    Raises:
        InputError: as `read_image` and `read_label_map`, or if the two differ in size.
    """
    bgr, label_map = read_image(pair.image), read_label_map(pair.label, pair.label_format)
    if label_map.shape != bgr.shape[:2]:
        raise InputError(
            f"{pair.label} is {label_map.shape[1]}×{label_map.shape[0]}, its image "
            f"{bgr.shape[1]}×{bgr.shape[0]}; label maps must have their image's size"
        )
    return bgr, label_map
