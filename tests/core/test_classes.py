from __future__ import annotations

import numpy as np
import pytest

from darkseg_ros.classes import (
    CLASS_NAMES,
    CLASSES,
    IGNORE_INDEX,
    NUM_CLASSES,
    PALETTE_BGR,
    PALETTE_RGB,
    TRAIN_ID_BY_NAME,
    TRAIN_ID_OF_LABEL_ID,
)

# By hand from the published table, cityscapesscripts/helpers/labels.py: name, id, trainId, category, color.
PUBLISHED = [
    ("road", 7, 0, "flat", (128, 64, 128)),
    ("sidewalk", 8, 1, "flat", (244, 35, 232)),
    ("building", 11, 2, "construction", (70, 70, 70)),
    ("wall", 12, 3, "construction", (102, 102, 156)),
    ("fence", 13, 4, "construction", (190, 153, 153)),
    ("pole", 17, 5, "object", (153, 153, 153)),
    ("traffic light", 19, 6, "object", (250, 170, 30)),
    ("traffic sign", 20, 7, "object", (220, 220, 0)),
    ("vegetation", 21, 8, "nature", (107, 142, 35)),
    ("terrain", 22, 9, "nature", (152, 251, 152)),
    ("sky", 23, 10, "sky", (70, 130, 180)),
    ("person", 24, 11, "human", (220, 20, 60)),
    ("rider", 25, 12, "human", (255, 0, 0)),
    ("car", 26, 13, "vehicle", (0, 0, 142)),
    ("truck", 27, 14, "vehicle", (0, 0, 70)),
    ("bus", 28, 15, "vehicle", (0, 60, 100)),
    ("train", 31, 16, "vehicle", (0, 80, 100)),
    ("motorcycle", 32, 17, "vehicle", (0, 0, 230)),
    ("bicycle", 33, 18, "vehicle", (119, 11, 32)),
]
# Published with trainId 255: void, parking, rail track, guard rail, bridge, tunnel, polegroup, caravan,
# trailer.
WITHOUT_TRAIN_ID = [0, 1, 2, 3, 4, 5, 6, 9, 10, 14, 15, 16, 18, 29, 30]


def test_table_is_the_published_one() -> None:
    rows = [(row.name, row.label_id, row.train_id, row.category, row.rgb) for row in CLASSES]
    assert rows == PUBLISHED


def test_there_are_19_classes_and_255_is_none_of_them() -> None:
    assert NUM_CLASSES == 19
    assert IGNORE_INDEX == 255


def test_position_in_the_table_is_the_train_id() -> None:
    assert [row.train_id for row in CLASSES] == list(range(19))


@pytest.mark.parametrize(("label_id", "train_id"), [(7, 0), (8, 1), (11, 2), (23, 10), (26, 13), (33, 18)])
def test_label_ids_become_train_ids(label_id: int, train_id: int) -> None:
    assert TRAIN_ID_OF_LABEL_ID[label_id] == train_id


def test_label_ids_without_a_class_become_ignored() -> None:
    assert TRAIN_ID_OF_LABEL_ID[WITHOUT_TRAIN_ID].tolist() == [255] * 15
    assert TRAIN_ID_OF_LABEL_ID[34:].tolist() == [255] * 222


def test_a_label_map_is_converted_by_one_lookup() -> None:
    label_ids = np.array([[7, 26], [0, 255]], np.uint8)
    train_ids = TRAIN_ID_OF_LABEL_ID[label_ids]
    assert train_ids.dtype == np.uint8
    assert train_ids.tolist() == [[0, 13], [255, 255]]


@pytest.mark.parametrize("palette", [PALETTE_RGB, PALETTE_BGR])
def test_palette_has_a_uint8_colour_for_every_uint8(palette: np.ndarray) -> None:
    assert palette.shape == (256, 3)
    assert palette.dtype == np.uint8


def test_palettes_hold_the_same_colours_in_opposite_order() -> None:
    assert PALETTE_RGB[13].tolist() == [0, 0, 142]
    assert PALETTE_BGR[13].tolist() == [142, 0, 0]
    assert PALETTE_RGB[18].tolist() == [119, 11, 32]
    assert PALETTE_BGR[18].tolist() == [32, 11, 119]


def test_values_without_a_class_are_black() -> None:
    assert not PALETTE_RGB[19:].any()
    assert not PALETTE_BGR[19:].any()


def test_no_two_classes_share_a_colour() -> None:
    assert len({row.rgb for row in CLASSES}) == 19


def test_names_lead_to_train_ids_and_back() -> None:
    assert TRAIN_ID_BY_NAME["traffic light"] == 6
    assert CLASS_NAMES[6] == "traffic light"
    assert len(TRAIN_ID_BY_NAME) == len(CLASS_NAMES) == 19
