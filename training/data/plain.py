"""Folders of one's own: ``image/`` and ``label/`` with files of the same stem, label maps of train ids."""

from __future__ import annotations

from pathlib import Path

from darkseg_ros.frames.labelled import LabelledImage, pair_files
from darkseg_ros.frames.source import image_files


def read(root: Path, split: str) -> list[LabelledImage]:
    """The split all: the folder itself; another split is the folder of that name in it."""
    folder = root if split == "all" else root / split
    return pair_files(folder / "image", folder / "label")


def read_unlabelled(root: Path, split: str) -> list[Path]:
    """A folder of images, split as in `read`."""
    return image_files(root if split == "all" else root / split)
