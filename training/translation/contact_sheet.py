"""One picture of many translations, each below the image that it was made of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from darkseg_ros.frames.source import ImageFile, read_image
from training.runs.results import write_picture

_SHEET_COLUMNS = 8
_SHEET_CELL_PX = 256


def write_contact_sheet(path: Path, pairs: Sequence[tuple[ImageFile, Path]]) -> None:
    """Write a picture of up to 8 images, evenly picked, with their translations below.

    Args:
        path: a PNG file.
        pairs: image and translation.

    Raises:
        InputError: if an image cannot be read or the picture not be written.
    """
    picked = np.linspace(0, len(pairs) - 1, min(_SHEET_COLUMNS, len(pairs))).round().astype(int)
    height, width = read_image(pairs[0][0]).shape[:2]
    cell_wh = (_SHEET_CELL_PX, round(_SHEET_CELL_PX * height / width))
    columns = [
        np.vstack([cv2.resize(read_image(file), cell_wh, interpolation=cv2.INTER_AREA) for file in pairs[index]])
        for index in picked
    ]
    write_picture(path, np.hstack(columns))
