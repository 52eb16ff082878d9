"""Nighttime Driving as published: 50 coarsely labelled night images in Cityscapes' form.

Source: Dai and Van Gool, ITSC 2018 (arXiv 1810.02575).
"""

from __future__ import annotations

from pathlib import Path

from darkseg_ros.frames.labelled import TRAIN_IDS, LabelledImage, pair_endings


def read(root: Path, split: str) -> list[LabelledImage]:
    """The split test."""
    images, labels = root / "leftImg8bit" / split / "night", root / "gtCoarse_daytime_trainvaltest" / split / "night"
    return pair_endings(images, "_leftImg8bit.png", labels, "_gtCoarse_labelTrainIds.png", TRAIN_IDS)
