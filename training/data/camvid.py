"""CamVid: the 32 colours of its authors, and the 11 classes that SegNet made of them.

Source: Brostow, Fauqueur and Cipolla, Pattern Recognition Letters 30 (2009); Badrinarayanan et al., SegNet
(arXiv 1511.00561).
"""

from __future__ import annotations

from pathlib import Path

from darkseg_ros.classes import CITYSCAPES, IGNORE_INDEX
from darkseg_ros.frames.labelled import LabelFormat, LabelledImage, pair_endings, pair_files

_CLASS_OF_COLOUR = {
    (64, 128, 64): "",  # animal
    (192, 0, 128): "building",  # archway
    (0, 128, 192): "rider",  # bicyclist, with the bicycle
    (0, 128, 64): "",  # bridge
    (128, 0, 0): "building",
    (64, 0, 128): "car",
    (64, 0, 192): "",  # cart, luggage, pram
    (192, 128, 64): "person",  # child
    (192, 192, 128): "pole",
    (64, 64, 128): "fence",
    (128, 0, 192): "road",  # lane markings to drive on
    (192, 0, 64): "sidewalk",  # others
    (128, 128, 64): "traffic sign",  # other text
    (192, 0, 192): "motorcycle",
    (128, 64, 64): "",  # other moving
    (64, 192, 128): "sidewalk",  # parking block
    (64, 64, 0): "person",
    (128, 64, 128): "road",
    (128, 128, 192): "",  # road shoulder
    (0, 0, 192): "sidewalk",
    (192, 128, 128): "traffic sign",
    (128, 128, 128): "sky",
    (64, 128, 192): "car",  # SUV, pick-up
    (0, 0, 64): "",  # traffic cone
    (0, 64, 64): "traffic light",
    (192, 64, 128): "train",
    (128, 128, 0): "vegetation",  # tree
    (192, 128, 192): "",  # truck and bus are one class
    (64, 0, 64): "",  # tunnel
    (192, 192, 0): "vegetation",
    (0, 0, 0): "",  # void
    (64, 192, 0): "wall",
}
_CLASS_OF_VALUE = (
    *("sky", "building", "pole", "road", "sidewalk", "vegetation", "traffic sign", "fence", "car", "person", "rider"),
    "",  # void
)


def _train_id(name: str) -> int:
    return CITYSCAPES.train_ids[name] if name else IGNORE_INDEX


COLOURS = LabelFormat(
    "CamVid's 32 colours", train_id_of_rgb={rgb: _train_id(name) for rgb, name in _CLASS_OF_COLOUR.items()}
)
ELEVEN = LabelFormat(
    "SegNet's 11 classes of CamVid, or 11 for void",
    train_id_of={value: _train_id(name) for value, name in enumerate(_CLASS_OF_VALUE)},
)
MERGED_OF_ELEVEN = {
    "traffic sign": ("traffic light",),
    "car": ("truck", "bus"),
    "building": ("wall",),
    "rider": ("bicycle",),
}


def read_32(root: Path, split: str) -> list[LabelledImage]:
    """The one split all: ``701_StillsRaw_full/*.png`` and ``LabeledApproved_full/*_L.png``."""
    return pair_endings(root / "701_StillsRaw_full", ".png", root / "LabeledApproved_full", "_L.png", COLOURS)


def read_11(root: Path, split: str) -> list[LabelledImage]:
    """Splits train, val and test: ``train/*.png`` and ``trainannot/*.png``."""
    return pair_files(root / split, root / f"{split}annot", ELEVEN)
