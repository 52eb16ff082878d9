"""BDD100K's segmentation as published: ``images/10k/SPLIT/*.jpg`` and ``labels/sem_seg/masks/SPLIT/*.png``.

Source: Yu et al., CVPR 2020 (arXiv 1805.04687).
"""

from __future__ import annotations

from pathlib import Path

from darkseg_ros.frames.labelled import TRAIN_IDS, LabelledImage, pair_endings


def read(root: Path, split: str) -> list[LabelledImage]:
    """Splits train and val; the masks hold train ids."""
    images, labels = root / "images" / "10k" / split, root / "labels" / "sem_seg" / "masks" / split
    return pair_endings(images, ".jpg", labels, ".png", TRAIN_IDS)
