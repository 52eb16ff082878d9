"""Cityscapes as published: ``leftImg8bit/SPLIT/CITY/*_leftImg8bit.png`` beside ``gtFine`` and ``gtCoarse``.

Source: Cordts et al., CVPR 2016 (arXiv 1604.01685).
"""

from __future__ import annotations

from pathlib import Path

from darkseg_ros.frames.labelled import LABEL_IDS, LabelledImage, pair_endings


def read_fine(root: Path, split: str) -> list[LabelledImage]:
    """Finely labelled images; splits train and val (test has no labels)."""
    images, labels = root / "leftImg8bit" / split, root / "gtFine" / split
    return pair_endings(images, "_leftImg8bit.png", labels, "_gtFine_labelIds.png", LABEL_IDS)


def read_coarse(root: Path, split: str) -> list[LabelledImage]:
    """Coarsely labelled images; splits train, train_extra and val."""
    images, labels = root / "leftImg8bit" / split, root / "gtCoarse" / split
    return pair_endings(images, "_leftImg8bit.png", labels, "_gtCoarse_labelIds.png", LABEL_IDS)
