"""Which label map belongs to which image, in the trees of published data sets as they are unpacked.

Cityscapes, ACDC, Dark Zurich, Nighttime Driving and BDD100K tell their images and label maps by the ends of the names,
in folders of cities or drives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np

from darkseg_ros.classes import CITYSCAPES, ClassTable
from darkseg_ros.errors import InputError
from darkseg_ros.frames.labelled import (
    LABEL_IDS,
    LabelFormat,
    LabelledImage,
    class_colour_format,
    is_colour_picture,
    look_like_label_ids,
    pair_by_key,
    train_id_format,
    value_counts,
)
from darkseg_ros.frames.source import IMAGE_SUFFIXES

FormatName = Literal["auto", "train-ids", "label-ids", "colours"]

_IMAGE_ENDINGS = ("_leftImg8bit", "_rgb_anon")
_LABEL_ENDINGS: Mapping[FormatName, tuple[str, ...]] = {
    "train-ids": ("_gtFine_labelTrainIds", "_gtCoarse_labelTrainIds", "_gt_labelTrainIds", "_train_id"),
    "label-ids": ("_gtFine_labelIds", "_gtCoarse_labelIds", "_gt_labelIds"),
    "colours": ("_gtFine_color", "_gtCoarse_color", "_gt_labelColor", "_train_color"),
}
_ALL_LABEL_ENDINGS = tuple(chain.from_iterable(_LABEL_ENDINGS.values()))
FORMAT_NAMES: tuple[FormatName, ...] = ("auto", *_LABEL_ENDINGS)

_LOOKED_AT = 20


def find_pairs(
    images: Path, labels: Path, *, classes: ClassTable = CITYSCAPES, label_format: FormatName = "auto"
) -> list[LabelledImage]:
    """Images and their label maps, in these folders and all below them, in the order of the images' paths.

    Names pair by what is left without the ends that the data sets give them, in the same folder below or, where the
    trees differ, anywhere.

    Args:
        images: such as ``leftImg8bit/val`` of Cityscapes, ``rgb_anon/night/val`` of ACDC, or any folder of images.
        labels: such as ``gtFine/val``, ``gt/night/val``, or label maps of the images' stems.
        classes: whose train ids and colours these are.
        label_format: what the values of the label maps mean. ``auto`` takes the published train ids where a data set
            has several kinds, else its label ids; of plain names it takes colour pictures as coloured by the class
            table, and all others (palette pictures by their indices) as train ids.

    Raises:
        InputError: if a folder is missing or empty, two files of one pair meet, a file has no partner, or label ids of
            other classes than Cityscapes' are asked for.
    """
    image_paths = _pictures(images)
    label_paths, kind = _label_files(labels, _pictures(labels), label_format)
    image_endings: tuple[str, ...] = _IMAGE_ENDINGS
    label_endings: tuple[str, ...] = _ALL_LABEL_ENDINGS
    if {path.stem for path in image_paths} & {path.stem for path in label_paths}:
        image_endings = label_endings = ()  # label maps bear the names of their images, whatever these end in
    else:
        # beside the images of a data set may lie others, such as ACDC's day images of the same places
        image_paths = [path for path in image_paths if path.stem.endswith(_IMAGE_ENDINGS)] or image_paths
    found_format = _format_of(kind, classes)
    for key_of in (_path_key, _name_key):
        image_by_key = _by_key(image_paths, image_endings, images, key_of)
        label_by_key = _by_key(label_paths, label_endings, labels, key_of)
        if image_by_key.keys() & label_by_key.keys():
            break
    return pair_by_key(image_by_key, label_by_key, images=images, labels=labels, label_format=found_format)


def doubt_about(pairs: list[LabelledImage], classes: ClassTable = CITYSCAPES) -> str:
    """A sentence where train ids look like raw Cityscapes label ids; empty where they do not."""
    sign = CITYSCAPES.names.index("traffic sign")  # the train id that is road's label id
    if classes != CITYSCAPES or pairs[0].label_format.train_id_of.get(sign) != sign:
        return ""
    counts = np.zeros(256, np.int64)
    for pair in pairs[:_LOOKED_AT]:
        try:
            counts += value_counts(pair.label)
        except InputError:
            continue  # told when its turn comes
    if not look_like_label_ids(counts):
        return ""
    return (
        f"{pairs[0].label} and the label maps beside it look like raw Cityscapes label ids, not train ids (much 7, "
        "which is road there): if they are, say --label-format label-ids"
    )


def _pictures(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; expected a folder of images")
    found = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()
    )
    if not found:
        raise InputError(f"{folder} holds no images; expected files ending in {', '.join(IMAGE_SUFFIXES)}")
    return found


def _label_files(folder: Path, paths: list[Path], label_format: FormatName) -> tuple[list[Path], FormatName]:
    """The files of one kind, where a tree holds several kinds, and which kind that is."""
    for name in _LABEL_ENDINGS if label_format == "auto" else (label_format,):
        chosen = [path for path in paths if path.stem.endswith(_LABEL_ENDINGS[name])]
        if chosen:
            return chosen, name
    if any(path.stem.endswith(_ALL_LABEL_ENDINGS) for path in paths):
        ending = _LABEL_ENDINGS[label_format][0]
        raise InputError(f"{folder} holds no label maps of the format {label_format}; expected files *{ending}.png")
    if label_format == "auto":
        return paths, "colours" if is_colour_picture(paths[0]) else "train-ids"
    return paths, label_format


def _format_of(kind: FormatName, classes: ClassTable) -> LabelFormat:
    if kind == "colours":
        return class_colour_format(classes)
    if kind == "train-ids":
        return train_id_format(classes)
    if classes != CITYSCAPES:
        raise InputError(f"label ids are those of Cityscapes, the classes here are {', '.join(classes.names)}")
    return LABEL_IDS


def _path_key(path: Path, folder: Path) -> str:
    return path.relative_to(folder).with_suffix("").as_posix()


def _name_key(path: Path, _: Path) -> str:
    return path.stem


def _by_key(
    paths: list[Path], endings: tuple[str, ...], folder: Path, key_of: Callable[[Path, Path], str]
) -> dict[str, Path]:
    path_by_key: dict[str, Path] = {}
    for path in paths:
        key = key_of(path, folder)
        key = key.removesuffix(next((ending for ending in endings if key.endswith(ending)), ""))
        other = path_by_key.setdefault(key, path)
        if other is not path:
            raise InputError(f"{other} and {path} share a stem; rename or remove one of them")
    return path_by_key
