"""The one class table: Cityscapes' 19 evaluation classes. Everything else is derived from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

IGNORE_INDEX = 255
"""Train id of pixels without a class: unlabelled in ground truth, not trusted in predictions."""


@dataclass(frozen=True)
class SegmentationClass:
    """One row of the table.

    Attributes:
        train_id: 0…18, the value in class maps and label maps.
        label_id: 0…33, the raw id in Cityscapes' ``*_labelIds.png``.
        name: Cityscapes' name, lower case.
        category: Cityscapes' group of classes.
        rgb: colour in pictures, 0…255 each.

    Source: Cordts et al., CVPR 2016 (arXiv 1604.01685), and the table in cityscapesScripts.
    """

    train_id: int
    label_id: int
    name: str
    category: str
    rgb: tuple[int, int, int]


CLASSES: tuple[SegmentationClass, ...] = (
    SegmentationClass(0, 7, "road", "flat", (128, 64, 128)),
    SegmentationClass(1, 8, "sidewalk", "flat", (244, 35, 232)),
    SegmentationClass(2, 11, "building", "construction", (70, 70, 70)),
    SegmentationClass(3, 12, "wall", "construction", (102, 102, 156)),
    SegmentationClass(4, 13, "fence", "construction", (190, 153, 153)),
    SegmentationClass(5, 17, "pole", "object", (153, 153, 153)),
    SegmentationClass(6, 19, "traffic light", "object", (250, 170, 30)),
    SegmentationClass(7, 20, "traffic sign", "object", (220, 220, 0)),
    SegmentationClass(8, 21, "vegetation", "nature", (107, 142, 35)),
    SegmentationClass(9, 22, "terrain", "nature", (152, 251, 152)),
    SegmentationClass(10, 23, "sky", "sky", (70, 130, 180)),
    SegmentationClass(11, 24, "person", "human", (220, 20, 60)),
    SegmentationClass(12, 25, "rider", "human", (255, 0, 0)),
    SegmentationClass(13, 26, "car", "vehicle", (0, 0, 142)),
    SegmentationClass(14, 27, "truck", "vehicle", (0, 0, 70)),
    SegmentationClass(15, 28, "bus", "vehicle", (0, 60, 100)),
    SegmentationClass(16, 31, "train", "vehicle", (0, 80, 100)),
    SegmentationClass(17, 32, "motorcycle", "vehicle", (0, 0, 230)),
    SegmentationClass(18, 33, "bicycle", "vehicle", (119, 11, 32)),
)

NUM_CLASSES = len(CLASSES)
CLASS_NAMES: tuple[str, ...] = tuple(row.name for row in CLASSES)
TRAIN_ID_BY_NAME: dict[str, int] = {row.name: row.train_id for row in CLASSES}

PALETTE_RGB = np.zeros((256, 3), np.uint8)
"""(256, 3) uint8 colour of each train id; ids without a class, IGNORE_INDEX among them, are black."""
PALETTE_RGB[:NUM_CLASSES] = [row.rgb for row in CLASSES]

PALETTE_BGR = PALETTE_RGB[:, ::-1].copy()
"""The same table in OpenCV's colour order."""

TRAIN_ID_OF_LABEL_ID = np.full(256, IGNORE_INDEX, np.uint8)
"""(256,) uint8: ``TRAIN_ID_OF_LABEL_ID[label_ids]`` turns raw Cityscapes ids into train ids."""
for _row in CLASSES:
    TRAIN_ID_OF_LABEL_ID[_row.label_id] = _row.train_id
