"""NightCity as published: ``NightCity-images/images/SPLIT/*.png`` and ``NightCity-label/label/SPLIT/*_labelIds.png``.

Source: Tan et al., IEEE T-IP 2021 (arXiv 2003.06883).
"""

from __future__ import annotations

from pathlib import Path

from darkseg_ros.frames.labelled import LABEL_IDS, LabelledImage, pair_endings


def read(root: Path, split: str) -> list[LabelledImage]:
    """Splits train and val, by night."""
    images, labels = root / "NightCity-images" / "images" / split, root / "NightCity-label" / "label" / split
    return pair_endings(images, ".png", labels, "_labelIds.png", LABEL_IDS)
