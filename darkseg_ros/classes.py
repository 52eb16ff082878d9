"""What the values of a class map mean: the class table of a model, and Cityscapes' 19 classes where none is named."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

IGNORE_INDEX = 255
"""Train id of pixels without a class: unlabelled in ground truth, not trusted in predictions."""

_CLASSES_MAX = 255
_NAME_CHARACTERS_MAX = 100
_LABEL_ID_MAX = 255
_ROW_KEYS = {"name", "category", "rgb", "label_id"}


@dataclass(frozen=True)
class SegmentationClass:
    """One row of a table; its position there is its train id.

    Attributes:
        name: unique in its table.
        category: the group of classes that it belongs to.
        rgb: colour in pictures, 0…255 each.
        label_id: the raw id in the label files of the data set, 0…255; None where they hold train ids.
    """

    name: str
    category: str
    rgb: tuple[int, int, int]
    label_id: int | None = None


@dataclass(frozen=True)
class ClassTable:
    """The classes of a model or a data set, in the order of their train ids.

    Attributes:
        rows: 1…255 classes; the train id of the first is 0.

    Raises:
        ValueError: if there are none or too many, two share a name or a label id, or a row holds no colour or no name
            that can be printed.
    """

    rows: tuple[SegmentationClass, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.rows) <= _CLASSES_MAX:
            raise ValueError(f"expected 1…{_CLASSES_MAX} classes, got {len(self.rows)}")
        for row in self.rows:
            for text in (row.name, row.category):
                # they go into log lines and terminals
                if not text.isprintable() or not 1 <= len(text) <= _NAME_CHARACTERS_MAX:
                    raise ValueError(
                        f"expected names of 1…{_NAME_CHARACTERS_MAX} printable characters, "
                        f"got {text[:_NAME_CHARACTERS_MAX]!r}"
                    )
            if len(row.rgb) != 3 or not all(0 <= value <= 255 for value in row.rgb):
                raise ValueError(f"expected three values of 0…255 as the colour of {row.name}, got {row.rgb}")
            if row.label_id is not None and not 0 <= row.label_id <= _LABEL_ID_MAX:
                raise ValueError(f"expected 0…{_LABEL_ID_MAX} as the label id of {row.name}, got {row.label_id}")
        label_ids = [row.label_id for row in self.rows if row.label_id is not None]
        for what, values in (("name", self.names), ("label id", label_ids)):
            if twice := [value for value in values if list(values).count(value) > 1]:
                raise ValueError(f"two classes have the {what} {twice[0]!r}")

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[SegmentationClass]:
        return iter(self.rows)

    @property
    def names(self) -> tuple[str, ...]:
        """By train id."""
        return tuple(row.name for row in self.rows)

    @cached_property
    def train_ids(self) -> dict[str, int]:
        """By name."""
        return {name: train_id for train_id, name in enumerate(self.names)}

    @cached_property
    def palette_rgb(self) -> np.ndarray:
        """(256, 3) uint8 colour of each train id; ids without a class, IGNORE_INDEX among them, are black."""
        palette = np.zeros((256, 3), np.uint8)
        palette[: len(self)] = [row.rgb for row in self.rows]
        palette.flags.writeable = False
        return palette

    @cached_property
    def palette_bgr(self) -> np.ndarray:
        """The same in OpenCV's colour order."""
        palette = self.palette_rgb[:, ::-1].copy()
        palette.flags.writeable = False
        return palette

    @cached_property
    def train_id_of_label_id(self) -> np.ndarray:
        """(256,) uint8: ``table.train_id_of_label_id[label_ids]`` turns raw label ids into train ids."""
        lookup = np.full(256, IGNORE_INDEX, np.uint8)
        for train_id, row in enumerate(self.rows):
            if row.label_id is not None:
                lookup[row.label_id] = train_id
        lookup.flags.writeable = False
        return lookup

    def check(self, values: np.ndarray) -> None:
        """Refuse what is no label map of this table.

        Args:
            values: uint8, of any shape.

        Raises:
            ValueError: if a value is neither a train id nor IGNORE_INDEX.
        """
        unknown = values[(values >= len(self)) & (values != IGNORE_INDEX)]
        if unknown.size:
            raise ValueError(
                f"holds the value {unknown[0]}; expected train ids 0…{len(self) - 1} or {IGNORE_INDEX} (raw label ids "
                "must be mapped with ClassTable.train_id_of_label_id first)"
            )

    def to_json(self) -> list[dict[str, Any]]:
        """What `from_json` reads: for JSON, YAML and checkpoints."""
        return [
            {"name": row.name, "category": row.category, "rgb": list(row.rgb)}
            | ({} if row.label_id is None else {"label_id": row.label_id})
            for row in self.rows
        ]

    @classmethod
    def from_json(cls, content: Any) -> ClassTable:
        """The table of a list of objects with name, category, rgb and, where there is one, label_id.

        Raises:
            ValueError: if it is no such list, or no table.
        """
        if not isinstance(content, list):
            raise ValueError(f"expected a list of classes, got {type(content).__name__}")
        return cls(tuple(_row_of(index, entry) for index, entry in enumerate(content)))


def _row_of(index: int, entry: Any) -> SegmentationClass:
    if not isinstance(entry, dict) or not {"name", "category", "rgb"} <= set(entry) <= _ROW_KEYS:
        raise ValueError(f"class {index} must hold name, category, rgb and at most label_id")
    name, category, rgb, label_id = (entry.get(key) for key in ("name", "category", "rgb", "label_id"))
    if not isinstance(name, str) or not isinstance(category, str):
        raise ValueError(f"name and category of class {index} must be text")
    if not isinstance(rgb, list) or not all(type(value) is int for value in rgb) or len(rgb) != 3:
        raise ValueError(f"rgb of class {index} must be three whole numbers")
    if label_id is not None and type(label_id) is not int:
        raise ValueError(f"label_id of class {index} must be a whole number")
    return SegmentationClass(name, category, (rgb[0], rgb[1], rgb[2]), label_id=label_id)


CITYSCAPES = ClassTable(
    (
        SegmentationClass("road", "flat", (128, 64, 128), label_id=7),
        SegmentationClass("sidewalk", "flat", (244, 35, 232), label_id=8),
        SegmentationClass("building", "construction", (70, 70, 70), label_id=11),
        SegmentationClass("wall", "construction", (102, 102, 156), label_id=12),
        SegmentationClass("fence", "construction", (190, 153, 153), label_id=13),
        SegmentationClass("pole", "object", (153, 153, 153), label_id=17),
        SegmentationClass("traffic light", "object", (250, 170, 30), label_id=19),
        SegmentationClass("traffic sign", "object", (220, 220, 0), label_id=20),
        SegmentationClass("vegetation", "nature", (107, 142, 35), label_id=21),
        SegmentationClass("terrain", "nature", (152, 251, 152), label_id=22),
        SegmentationClass("sky", "sky", (70, 130, 180), label_id=23),
        SegmentationClass("person", "human", (220, 20, 60), label_id=24),
        SegmentationClass("rider", "human", (255, 0, 0), label_id=25),
        SegmentationClass("car", "vehicle", (0, 0, 142), label_id=26),
        SegmentationClass("truck", "vehicle", (0, 0, 70), label_id=27),
        SegmentationClass("bus", "vehicle", (0, 60, 100), label_id=28),
        SegmentationClass("train", "vehicle", (0, 80, 100), label_id=31),
        SegmentationClass("motorcycle", "vehicle", (0, 0, 230), label_id=32),
        SegmentationClass("bicycle", "vehicle", (119, 11, 32), label_id=33),
    )
)
"""Cityscapes' 19 evaluation classes: what a model has unless its bundle or its training says otherwise.

Source: Cordts et al., CVPR 2016 (arXiv 1604.01685), and the table in cityscapesScripts.
"""
