"""ACDC as published: ``rgb_anon/CONDITION/SPLIT/SEQUENCE`` and ``gt/…`` alike.

Source: Sakaridis, Dai and Van Gool, ICCV 2021 (arXiv 2104.13395).
"""

from __future__ import annotations

from pathlib import Path

from darkseg_ros.frames.labelled import TRAIN_IDS, LabelledImage, pair_endings


def read(root: Path, split: str) -> list[LabelledImage]:
    """A condition and a split, such as night/train; conditions night, fog, rain and snow."""
    images, labels = root / "rgb_anon" / split, root / "gt" / split
    return pair_endings(images, "_rgb_anon.png", labels, "_gt_labelTrainIds.png", TRAIN_IDS)
