"""Dark Zurich as published: ``rgb_anon/SPLIT/TIME/SEQUENCE``; labels of val alone.

Source: Sakaridis, Dai and Van Gool, ICCV 2019 (arXiv 1901.05946).
"""

from __future__ import annotations

from pathlib import Path

from darkseg_ros.frames.labelled import TRAIN_IDS, LabelledImage, files_ending, pair_endings


def read(root: Path, split: str) -> list[LabelledImage]:
    """The labelled night of val."""
    images, labels = root / "rgb_anon" / split / "night", root / "gt" / split / "night"
    return pair_endings(images, "_rgb_anon.png", labels, "_gt_labelTrainIds.png", TRAIN_IDS)


def read_unlabelled(root: Path, split: str) -> list[Path]:
    """Unlabelled images of train by time of day: splits night, twilight and day."""
    return files_ending(root / "rgb_anon" / "train" / split, "_rgb_anon.png")
