"""India Driving Dataset: Cityscapes' folders, label maps as its public code (AutoNUE) makes them of the polygons.

Source: Varma et al., WACV 2019 (arXiv 1811.10200).
"""

from __future__ import annotations

from pathlib import Path

from darkseg_ros.classes import CITYSCAPES, IGNORE_INDEX
from darkseg_ros.frames.labelled import LabelFormat, LabelledImage, pair_endings

_NAMES = {
    0: "road",
    2: "sidewalk",
    4: "person",
    5: "rider",
    6: "motorcycle",
    7: "bicycle",
    9: "car",
    10: "truck",
    11: "bus",
    14: "wall",
    15: "fence",
    18: "traffic sign",
    19: "traffic light",
    20: "pole",
    22: "building",
    24: "vegetation",
    25: "sky",
}
LEVEL_3_IDS = LabelFormat(
    "IDD's level3Ids 0…25 or 255",
    train_id_of={
        **dict.fromkeys((*range(26), 255), IGNORE_INDEX),
        **{value: CITYSCAPES.train_ids[name] for value, name in _NAMES.items()},
    },
)
MERGED = {"person": ("animal",), "pole": ("group of poles",), "sky": ("other background",)}


def read(root: Path, split: str) -> list[LabelledImage]:
    """Splits train and val: ``leftImg8bit/SPLIT/…`` (.png or .jpg) and ``gtFine/SPLIT/*_gtFine_labellevel3Ids.png``."""
    images = root / "leftImg8bit" / split
    first = next((path for path in sorted(images.rglob("*_leftImg8bit.*"))), None)
    ending = f"_leftImg8bit{first.suffix}" if first else "_leftImg8bit.png"
    return pair_endings(images, ending, root / "gtFine" / split, "_gtFine_labellevel3Ids.png", LEVEL_3_IDS)
