"""What a folder of labelled images holds: counts, sizes, classes, files that cannot be used, and a picture of some."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import cv2
import numpy as np

from darkseg_ros.classes import CITYSCAPES, IGNORE_INDEX
from darkseg_ros.errors import InputError
from darkseg_ros.frames.labelled import TRAIN_IDS, LabelledImage, look_like_label_ids, read_labelled, value_counts

_SHEET_IMAGES = 8
_CELL_WH = (256, 144)


@dataclass(frozen=True)
class DataReport:
    """What `check_pairs` found.

    Attributes:
        images: pairs in all.
        sizes: pairs by (height, width).
        shares: (K,) share of each class in the labelled pixels.
        broken: what is wrong with pairs that cannot be used, one line each.
        raw_ids: the label maps pass for train ids but look like raw Cityscapes ids.
    """

    images: int
    sizes: dict[tuple[int, int], int]
    shares: np.ndarray
    broken: tuple[str, ...]
    raw_ids: bool

    def lines(self) -> list[str]:
        """As text, one finding a line."""
        sizes = ", ".join(f"{width}×{height}: {count}" for (height, width), count in sorted(self.sizes.items()))
        classes = ", ".join(f"{name} {share:.2%}" for name, share in zip(CITYSCAPES.names, self.shares, strict=True))
        found = [f"{self.images} pairs; sizes {sizes or 'none'}", f"share of labelled pixels: {classes}"]
        found += [f"broken: {line}" for line in self.broken]
        if self.raw_ids:
            found.append(
                "warning: these train ids look like raw Cityscapes label ids (much of 7, little of 0); "
                "read them as data_set cityscapes, or name a mapping"
            )
        return found


def check_pairs(pairs: list[LabelledImage]) -> DataReport:
    """Read every pair once.

    Args:
        pairs: of one source; those that cannot be used are told, not raised.
    """
    sizes: Counter[tuple[int, int]] = Counter()
    counts, values = np.zeros(256, np.int64), np.zeros(256, np.int64)
    broken = []
    for pair in pairs:
        try:
            _, label_map = read_labelled(pair)
        except InputError as error:
            broken.append(str(error))
            continue
        sizes[label_map.shape[0], label_map.shape[1]] += 1
        counts += np.bincount(label_map.ravel(), minlength=256)
        if pair.label_format.train_id_of == TRAIN_IDS.train_id_of:
            values += value_counts(pair.label)
    labelled = counts[:IGNORE_INDEX].sum()
    shares = counts[: len(CITYSCAPES)] / max(labelled, 1)
    return DataReport(len(pairs), dict(sizes), shares, tuple(broken), look_like_label_ids(values))


def contact_sheet(pairs: list[LabelledImage]) -> np.ndarray | None:
    """Up to 8 images, evenly picked, above their label maps in colours; (H, W, 3) uint8 BGR, None without any."""
    columns = []
    picked = np.linspace(0, len(pairs) - 1, min(_SHEET_IMAGES, len(pairs))).round().astype(int)
    for index in picked:
        try:
            bgr, label_map = read_labelled(pairs[index])
        except InputError:
            continue
        cells = [
            cv2.resize(bgr, _CELL_WH, interpolation=cv2.INTER_AREA),
            cv2.resize(CITYSCAPES.palette_bgr[label_map], _CELL_WH, interpolation=cv2.INTER_NEAREST_EXACT),
        ]
        columns.append(np.vstack(cells))
    return np.hstack(columns) if columns else None
