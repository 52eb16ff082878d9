"""Labelled and unlabelled images on disk."""

from __future__ import annotations

from pathlib import Path

from darkseg_ros.errors import InputError
from darkseg_ros.frames.labelled import LabelledImage, pair_files
from darkseg_ros.frames.source import image_files


def find_images(folder: Path) -> list[Path]:
    """All pictures of a folder, sorted by name.

    Raises:
        InputError: if the folder is missing or holds no picture.
    """
    try:
        return image_files(folder)
    except InputError as error:
        raise InputError(f"{error}; set DARKSEG_DATA or the data.* keys of the config") from error


def find_labelled_images(folder: Path) -> list[LabelledImage]:
    """Pairs of ``image/<stem>.*`` and ``label/<stem>.*``, sorted by stem.

    Raises:
        InputError: if a folder is missing or empty, or a file has no partner.
    """
    return pair_files(folder / "image", folder / "label")


def find_labelled_pool(folders: list[Path]) -> list[LabelledImage]:
    """The pairs of several folders, one after the other: each image counts alike, whatever its folder.

    Raises:
        InputError: if there is no folder, one is named twice, or as `find_labelled_images`.
    """
    if not folders or len({folder.resolve() for folder in folders}) < len(folders):
        raise InputError(
            f"data.source names {[str(folder) for folder in folders]}; expected one folder or more, each once"
        )
    return [pair for folder in folders for pair in find_labelled_images(folder)]


def find_pseudo_labelled_images(images: Path, labels: Path) -> list[LabelledImage]:
    """The images of a folder that have a label map ``<stem>.png`` in another, sorted by stem.

    Raises:
        InputError: if there is none.
    """
    pairs = [LabelledImage(image, labels / f"{image.stem}.png") for image in find_images(images)]
    pairs = [pair for pair in pairs if pair.label.is_file()]
    if not pairs:
        raise InputError(f"{labels} has no label map for any image of {images}; run training.pseudo_label first")
    return pairs
