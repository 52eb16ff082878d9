"""NEXET: unlabelled day, twilight and night, told apart by a table.

Source: Klein, "NEXET", Nexar 2017.
"""

from __future__ import annotations

import csv
from pathlib import Path

from darkseg_ros.errors import InputError
from darkseg_ros.frames.labelled import files_ending


def read_unlabelled(root: Path, split: str) -> list[Path]:
    """Splits Day, Twilight and Night: the column lighting of ``train.csv``, images ``*.jpg`` anywhere below."""
    table = root / "train.csv"
    try:
        with table.open(newline="", encoding="utf-8") as file:
            wanted = {row["image_filename"] for row in csv.DictReader(file) if row["lighting"] == split}
    except (OSError, KeyError, UnicodeDecodeError) as error:
        raise InputError(f"{table} cannot be read ({error!r}); expected columns image_filename and lighting") from error
    images = [path for path in files_ending(root, ".jpg") if path.name in wanted]
    if not images:
        raise InputError(f"{table} names no image of lighting {split} that lies below {root}")
    return images
