"""comma10k: ``imgs/*.png`` and ``masks/*.png`` in five colours; of our classes it knows the road alone.

Source: https://github.com/commaai/comma10k
"""

from __future__ import annotations

from pathlib import Path

from darkseg_ros.classes import CITYSCAPES, IGNORE_INDEX
from darkseg_ros.errors import InputError
from darkseg_ros.frames.labelled import LabelFormat, LabelledImage, pair_files

COLOURS = LabelFormat(
    "comma10k's five colours, or white for empty",
    train_id_of_rgb={
        (64, 32, 32): CITYSCAPES.train_ids["road"],
        (255, 0, 0): CITYSCAPES.train_ids["road"],  # lane markings
        (128, 128, 96): IGNORE_INDEX,  # all that nobody drives on, the sky among it
        (0, 255, 102): IGNORE_INDEX,  # vehicles, people and animals are one class
        (204, 0, 255): IGNORE_INDEX,  # own car
        (255, 255, 255): IGNORE_INDEX,
    },
)


def read(root: Path, split: str) -> list[LabelledImage]:
    """Splits train and val; val are the names that end in 9, as its authors take them."""
    pairs = pair_files(root / "imgs", root / "masks", COLOURS)
    chosen = [pair for pair in pairs if pair.image.stem.endswith("9") == (split == "val")]
    if not chosen:
        raise InputError(f"{root} holds no image of the split {split} of comma10k; take the other of train and val")
    return chosen
