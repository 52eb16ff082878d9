"""MFNet and MSRS: street scenes of Tokyo by day and night, with labels of a few objects alone.

Source: Ha et al., MFNet, IROS 2017; Tang et al., MSRS (PIAFusion), Information Fusion 83 (2022).
"""

from __future__ import annotations

from pathlib import Path

from darkseg_ros.classes import CITYSCAPES, IGNORE_INDEX
from darkseg_ros.errors import InputError
from darkseg_ros.frames.labelled import LabelFormat, LabelledImage, pair_files

OBJECTS = LabelFormat(
    "MFNet's 0…8: unlabelled, car, person, bike, curve, car stop, guardrail, colour cone, bump",
    train_id_of={
        **dict.fromkeys(range(9), IGNORE_INDEX),
        1: CITYSCAPES.train_ids["car"],
        2: CITYSCAPES.train_ids["person"],
        3: CITYSCAPES.train_ids["bicycle"],
    },
)
MERGED = {"bicycle": ("motorcycle", "rider"), "car": ("truck", "bus")}


def read_mfnet(root: Path, split: str) -> list[LabelledImage]:
    """``images/*.png`` and ``labels/*.png``; a split is a list of names, ``train.txt``, or train_day, train_night …"""
    try:
        names = (root / f"{split}.txt").read_text(encoding="utf-8").split()
    except OSError as error:
        raise InputError(f"MFNet's split {split} cannot be read ({error}); expected a list of names") from error
    pairs = {pair.image.stem: pair for pair in pair_files(root / "images", root / "labels", OBJECTS)}
    missing = next((name for name in names if name not in pairs), None)
    if missing or not names:
        raise InputError(f"{root / split}.txt names {missing or 'nothing'}; expected images of {root / 'images'}")
    return [pairs[name] for name in names]


def read_msrs(root: Path, split: str) -> list[LabelledImage]:
    """Splits train and test: ``SPLIT/vi/*.png`` (the visible light) and ``SPLIT/Segmentation_labels/*.png``."""
    return pair_files(root / split / "vi", root / split / "Segmentation_labels", OBJECTS)
