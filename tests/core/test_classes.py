from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from darkseg_ros.classes import CITYSCAPES, IGNORE_INDEX, ClassTable, SegmentationClass

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
    rows = [(row.name, row.label_id, train_id, row.category, row.rgb) for train_id, row in enumerate(CITYSCAPES)]
    assert rows == PUBLISHED


def test_there_are_19_classes_and_255_is_none_of_them() -> None:
    assert len(CITYSCAPES) == 19
    assert IGNORE_INDEX == 255


@pytest.mark.parametrize(("label_id", "train_id"), [(7, 0), (8, 1), (11, 2), (23, 10), (26, 13), (33, 18)])
def test_label_ids_become_train_ids(label_id: int, train_id: int) -> None:
    assert CITYSCAPES.train_id_of_label_id[label_id] == train_id


def test_label_ids_without_a_class_become_ignored() -> None:
    assert CITYSCAPES.train_id_of_label_id[WITHOUT_TRAIN_ID].tolist() == [255] * 15
    assert CITYSCAPES.train_id_of_label_id[34:].tolist() == [255] * 222


def test_a_label_map_is_converted_by_one_lookup() -> None:
    label_ids = np.array([[7, 26], [0, 255]], np.uint8)
    train_ids = CITYSCAPES.train_id_of_label_id[label_ids]
    assert train_ids.dtype == np.uint8
    assert train_ids.tolist() == [[0, 13], [255, 255]]


@pytest.mark.parametrize("palette", [CITYSCAPES.palette_rgb, CITYSCAPES.palette_bgr])
def test_palette_has_a_uint8_colour_for_every_uint8(palette: np.ndarray) -> None:
    assert palette.shape == (256, 3)
    assert palette.dtype == np.uint8


def test_palettes_hold_the_same_colours_in_opposite_order() -> None:
    assert CITYSCAPES.palette_rgb[13].tolist() == [0, 0, 142]
    assert CITYSCAPES.palette_bgr[13].tolist() == [142, 0, 0]
    assert CITYSCAPES.palette_rgb[18].tolist() == [119, 11, 32]
    assert CITYSCAPES.palette_bgr[18].tolist() == [32, 11, 119]


def test_values_without_a_class_are_black() -> None:
    assert not CITYSCAPES.palette_rgb[19:].any()
    assert not CITYSCAPES.palette_bgr[19:].any()


def test_no_two_classes_share_a_colour() -> None:
    assert len({row.rgb for row in CITYSCAPES}) == 19


def test_names_lead_to_train_ids_and_back() -> None:
    assert CITYSCAPES.train_ids["traffic light"] == 6
    assert CITYSCAPES.names[6] == "traffic light"
    assert len(CITYSCAPES.train_ids) == len(CITYSCAPES.names) == 19


# --- other tables

TWO = ClassTable(
    (SegmentationClass("lane", "flat", (1, 2, 3), label_id=9), SegmentationClass("rest", "other", (4, 5, 6)))
)


def test_a_table_of_two_has_two_colours_and_maps_one_label_id() -> None:
    assert TWO.palette_bgr[:3].tolist() == [[3, 2, 1], [6, 5, 4], [0, 0, 0]]
    assert np.flatnonzero(TWO.train_id_of_label_id != 255).tolist() == [9]
    assert TWO.train_id_of_label_id[9] == 0


@pytest.mark.parametrize("table", [CITYSCAPES, TWO])
def test_a_table_survives_json(table: ClassTable) -> None:
    assert ClassTable.from_json(json.loads(json.dumps(table.to_json()))) == table


def test_no_array_of_a_table_can_be_written_to() -> None:
    for values in (TWO.palette_rgb, TWO.palette_bgr, TWO.train_id_of_label_id):
        with pytest.raises(ValueError, match="read-only"):
            values[0] = 7


def test_only_train_ids_and_255_are_values_of_a_label_map() -> None:
    TWO.check(np.array([[0, 1], [255, 1]], np.uint8))
    with pytest.raises(ValueError, match=r"holds the value 2; expected train ids 0…1 or 255"):
        TWO.check(np.array([[0, 2]], np.uint8))


def row(**changes: Any) -> dict[str, Any]:
    return {"name": "lane", "category": "flat", "rgb": [1, 2, 3]} | changes


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("lane", "expected a list of classes, got str"),
        ([], "expected 1…255 classes, got 0"),
        ([row(name=f"class {index}") for index in range(256)], "expected 1…255 classes, got 256"),
        ([row(), row()], "two classes have the name 'lane'"),
        ([row(label_id=4), row(name="b", label_id=4)], "two classes have the label id 4"),
        ([row(label_id=256)], "expected 0…255 as the label id of lane"),
        ([row(label_id="4")], "label_id of class 0 must be a whole number"),
        ([row(name="a\nb")], "printable characters"),
        ([row(category="")], "1…100 printable"),
        ([row(name=7)], "name and category of class 0 must be text"),
        ([row(rgb=[1, 2])], "rgb of class 0 must be three whole numbers"),
        ([row(rgb=[1, 2, 0.5])], "rgb of class 0 must be three whole numbers"),
        ([row(rgb=[1, 2, 256])], "three values of 0…255 as the colour of lane"),
        ([row(colour="red")], "class 0 must hold name, category, rgb and at most label_id"),
        ([row(), "b"], "class 1 must hold"),
    ],
)
def test_what_is_no_table_is_refused_with_its_reason(content: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClassTable.from_json(content)


@pytest.mark.parametrize(
    "content",
    [
        [row(name=f"class {index}") for index in range(255)],
        [row(label_id=0), row(name="b", label_id=255)],
        [row(rgb=[0, 255, 0])],
        [row(name="x" * 100, category="y")],
        [row(), row(name="b")],  # neither colours nor categories need differ
    ],
    ids=["255 classes", "label ids", "colours", "long name", "same colour"],
)
def test_limits_of_a_table_belong_to_it(content: Any) -> None:
    assert ClassTable.from_json(content).to_json() == content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([row(name="x" * 101)], "names of 1…100 printable characters, got 'x{100}'$"),
        ([row(name="")], "got ''"),
        ([row(label_id=-1)], "0…255 as the label id of lane, got -1"),
        ([row(label_id=True)], "label_id of class 0 must be a whole number"),
        ([row(rgb=[1, -1, 2])], "0…255 as the colour of lane"),
        ([row(rgb=[True, 1, 2])], "rgb of class 0 must be three whole numbers"),
        ([row(rgb="red")], "rgb of class 0 must be three whole numbers"),
        ([row(rgb=[1, 2, 3, 4])], "rgb of class 0 must be three whole numbers"),
        ([row(category=None)], "name and category of class 0 must be text"),
        ([{"name": "a", "category": "b"}], "class 0 must hold name, category, rgb"),
        (
            [row(), row(name="c"), row(name="b", label_id=3), row(name="d", label_id=3)],
            "two classes have the label id 3",
        ),
        ([row(name="a"), row(name="b"), row(name="b")], "two classes have the name 'b'"),
    ],
)
def test_what_lies_beyond_the_limits_is_refused(content: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClassTable.from_json(content)


def test_a_colour_of_four_values_is_none() -> None:
    with pytest.raises(ValueError, match="three values of 0…255 as the colour of a"):
        ClassTable((SegmentationClass("a", "b", (1, 2, 3, 4)),))  # type: ignore[arg-type]


def test_a_value_is_checked_wherever_it_stands_and_the_first_is_told() -> None:
    for wrong in (19, 254):
        for place in ((0, 0), (1, 2)):
            values = np.full((2, 3), 255, np.uint8)
            values[place] = wrong
            with pytest.raises(ValueError, match=f"holds the value {wrong}; expected train ids 0…18 or 255"):
                CITYSCAPES.check(values)
    CITYSCAPES.check(np.array([[0, 18, 255]], np.uint8))
    CITYSCAPES.check(np.zeros((0, 3), np.uint8))


def test_a_table_without_label_ids_writes_none() -> None:
    assert TWO.to_json() == [
        {"name": "lane", "category": "flat", "rgb": [1, 2, 3], "label_id": 9},
        {"name": "rest", "category": "other", "rgb": [4, 5, 6]},
    ]
    assert [each.name for each in TWO] == ["lane", "rest"]
