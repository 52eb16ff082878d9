from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from darkseg_ros.errors import InputError
from darkseg_ros.frames.labelled import (
    CLASS_COLOURS,
    LABEL_IDS,
    TRAIN_IDS,
    LabelFormat,
    LabelledImage,
    files_ending,
    is_colour_picture,
    look_like_label_ids,
    pair_endings,
    pair_files,
    read_label_map,
    read_labelled,
    value_counts,
)


def write(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), pixels)
    return path


IMAGE = np.zeros((4, 5, 3), np.uint8)
LABEL_MAP = np.zeros((4, 5), np.uint8)


def test_pairs_share_a_stem_and_come_in_the_order_of_their_names(tmp_path: Path) -> None:
    for stem in ("b", "a"):
        write(tmp_path / "image" / f"{stem}.jpg", IMAGE)
        write(tmp_path / "label" / f"{stem}.png", LABEL_MAP)
    pairs = pair_files(tmp_path / "image", tmp_path / "label")
    assert [(pair.image.name, pair.label.name) for pair in pairs] == [("a.jpg", "a.png"), ("b.jpg", "b.png")]


def test_a_file_without_partner_is_named(tmp_path: Path) -> None:
    for stem in ("a", "b"):
        write(tmp_path / "image" / f"{stem}.png", IMAGE)
    write(tmp_path / "label" / "a.png", LABEL_MAP)
    with pytest.raises(InputError, match=r"b\.png has no label map"):
        pair_files(tmp_path / "image", tmp_path / "label")


def test_train_ids_and_unlabelled_pixels_are_read_as_stored(tmp_path: Path) -> None:
    values = np.array([[0, 18], [255, 10]], np.uint8)
    assert read_label_map(write(tmp_path / "label.png", values)).tolist() == values.tolist()


@pytest.mark.parametrize(
    ("label_map", "message"),
    [
        (np.full((4, 4), 33, np.uint8), "holds the value 33; expected train ids 0…18 or 255"),
        (np.zeros((4, 4, 3), np.uint8), "3 channels of uint8; expected one"),
        (np.zeros((4, 4), np.uint16), "channels of uint16; expected one channel of uint8"),
    ],
)
def test_label_maps_of_another_kind_are_refused(tmp_path: Path, label_map: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_label_map(write(tmp_path / "label.png", label_map))


def test_image_and_label_map_of_different_size_are_refused(tmp_path: Path) -> None:
    pair = LabelledImage(write(tmp_path / "image.png", IMAGE), write(tmp_path / "label.png", LABEL_MAP[:, :4]))
    with pytest.raises(InputError, match="is 4×4, its image 5×4"):
        read_labelled(pair)


def test_an_unreadable_image_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    with pytest.raises(InputError, match=r"broken\.png"):
        read_labelled(LabelledImage(broken, write(tmp_path / "label.png", LABEL_MAP)))


def test_raw_label_ids_become_train_ids(tmp_path: Path) -> None:
    path = write(tmp_path / "label.png", np.array([[7, 11], [33, 0]], np.uint8))
    assert read_label_map(path, LABEL_IDS).tolist() == [[0, 2], [18, 255]]  # road, building, bicycle, unlabelled


def test_the_indices_of_a_palette_are_the_values(tmp_path: Path) -> None:
    picture = Image.fromarray(np.array([[0, 13], [255, 8]], np.uint8), "P")
    picture.putpalette([200, 100, 50] * 256)  # which colours it has does not matter
    picture.save(tmp_path / "label.png")
    assert read_label_map(tmp_path / "label.png").tolist() == [[0, 13], [255, 8]]


def test_colours_of_the_class_table_become_train_ids(tmp_path: Path) -> None:
    rgb = np.array([[(128, 64, 128), (70, 130, 180)], [(0, 0, 0), (0, 0, 142)]], np.uint8)
    path = write(tmp_path / "label.png", rgb[:, :, ::-1])
    assert read_label_map(path, CLASS_COLOURS).tolist() == [[0, 10], [255, 13]]  # road, sky, none, car


def test_a_colour_outside_the_table_is_named(tmp_path: Path) -> None:
    rgb = np.array([[(128, 64, 128), (1, 2, 3)]], np.uint8)
    with pytest.raises(InputError, match=r"holds the colour \(1, 2, 3\); expected the colours of the class table"):
        read_label_map(write(tmp_path / "label.png", rgb[:, :, ::-1]), CLASS_COLOURS)


def test_a_value_outside_the_mapping_of_a_format_is_named(tmp_path: Path) -> None:
    two_classes = LabelFormat("my ids 1 and 2", {1: 0, 2: 10})
    with pytest.raises(InputError, match="holds the value 3; expected my ids 1 and 2"):
        read_label_map(write(tmp_path / "label.png", np.full((2, 2), 3, np.uint8)), two_classes)


def test_ignored_classes_have_no_ground_truth(tmp_path: Path) -> None:
    path = write(tmp_path / "label.png", np.array([[0, 13, 7]], np.uint8))
    assert read_label_map(path, TRAIN_IDS.ignoring([13, 7])).tolist() == [[0, 255, 255]]


def test_a_label_map_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "label.png", np.random.default_rng(0).integers(0, 19, (64, 64)).astype(np.uint8))
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InputError, match=r"label\.png cannot be read as a label map"):
        read_label_map(path)


def test_files_pair_by_their_path_without_the_endings_of_their_layout(tmp_path: Path) -> None:
    for city, index in (("ulm", 0), ("bonn", 1)):
        write(tmp_path / "image" / city / f"{city}_{index}_leftImg8bit.png", IMAGE)
        write(tmp_path / "label" / city / f"{city}_{index}_gtFine_labelIds.png", LABEL_MAP)
        write(tmp_path / "label" / city / f"{city}_{index}_gtFine_color.png", IMAGE)
    pairs = pair_endings(tmp_path / "image", "_leftImg8bit.png", tmp_path / "label", "_gtFine_labelIds.png", LABEL_IDS)
    assert [pair.label.name for pair in pairs] == ["bonn_1_gtFine_labelIds.png", "ulm_0_gtFine_labelIds.png"]
    (tmp_path / "label" / "ulm" / "ulm_0_gtFine_labelIds.png").unlink()
    with pytest.raises(InputError, match=r"ulm_0_leftImg8bit\.png has no label map ulm/ulm_0\*"):
        pair_endings(tmp_path / "image", "_leftImg8bit.png", tmp_path / "label", "_gtFine_labelIds.png", LABEL_IDS)


def test_much_of_value_7_looks_like_raw_label_ids(tmp_path: Path) -> None:
    raw = write(tmp_path / "raw.png", np.array([[7, 7, 7, 8, 11, 17, 0, 0]], np.uint8))
    train_ids = write(tmp_path / "train_ids.png", np.array([[0] * 15 + [1, 2, 5, 7, 255]], np.uint8))
    assert look_like_label_ids(value_counts(raw))
    assert not look_like_label_ids(value_counts(train_ids))


def test_a_label_map_without_its_image_is_named(tmp_path: Path) -> None:
    write(tmp_path / "image" / "a.png", IMAGE)
    for stem in ("a", "b"):
        write(tmp_path / "label" / f"{stem}.png", LABEL_MAP)
    with pytest.raises(InputError, match=r"b\.png has no image b\*"):
        pair_files(tmp_path / "image", tmp_path / "label")


def test_files_of_an_ending_are_found_below_and_hidden_ones_passed_over(tmp_path: Path) -> None:
    shown = write(tmp_path / "a" / "x_label.png", LABEL_MAP)
    write(tmp_path / "a" / "._x_label.png", LABEL_MAP)
    (tmp_path / "folder_label.png").mkdir()
    assert files_ending(tmp_path, "_label.png") == [shown]
    with pytest.raises(InputError, match="nowhere is not a folder"):
        files_ending(tmp_path / "nowhere", "_label.png")
    with pytest.raises(InputError, match=r"holds no file \*_other\.png"):
        files_ending(tmp_path, "_other.png")


@pytest.mark.parametrize(("road", "looks_so"), [(10, False), (11, True)])
def test_label_ids_are_told_by_more_than_a_tenth_of_the_labelled_pixels(road: int, looks_so: bool) -> None:
    counts = np.zeros(256, np.int64)
    counts[[0, 7, 255]] = 100 - road, road, 10_000
    assert look_like_label_ids(counts) is looks_so
    assert look_like_label_ids(np.zeros(256, np.int64)) is False


def test_a_colour_picture_is_told_and_has_no_values_to_count(tmp_path: Path) -> None:
    colours, values = write(tmp_path / "colours.png", IMAGE), write(tmp_path / "values.png", LABEL_MAP + 3)
    assert is_colour_picture(colours)
    assert not is_colour_picture(values)
    assert value_counts(colours).sum() == 0
    assert value_counts(values).tolist() == [0, 0, 0, 20, *[0] * 252]


def test_transparency_of_a_coloured_label_map_is_left_out(tmp_path: Path) -> None:
    Image.fromarray(np.array([[(128, 64, 128, 0), (70, 130, 180, 255)]], np.uint8), "RGBA").save(tmp_path / "a.png")
    assert read_label_map(tmp_path / "a.png", CLASS_COLOURS).tolist() == [[0, 10]]


def test_a_format_of_colours_needs_a_colour_picture(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no colour picture of 8 bits"):
        read_label_map(write(tmp_path / "label.png", LABEL_MAP), CLASS_COLOURS)


def test_colours_that_differ_in_one_channel_only_are_told_apart(tmp_path: Path) -> None:
    of_colour = {(1, 2, 3): 4, (1, 2, 4): 5, (1, 3, 3): 6, (2, 2, 3): 255}
    path = write(tmp_path / "label.png", np.array([list(of_colour)], np.uint8)[:, :, ::-1])
    assert read_label_map(path, LabelFormat("mine", train_id_of_rgb=of_colour)).tolist() == [[4, 5, 6, 255]]
    ignoring = LabelFormat("mine", train_id_of_rgb=of_colour).ignoring([5])
    assert read_label_map(path, ignoring).tolist() == [[4, 255, 6, 255]]


def test_label_ids_are_those_of_a_file_0_to_33_and_255(tmp_path: Path) -> None:
    everything = np.array([[*range(34), 255]], np.uint8)
    assert (read_label_map(write(tmp_path / "a.png", everything), LABEL_IDS) != 255).sum() == 19
    with pytest.raises(InputError, match="holds the value 34"):
        read_label_map(write(tmp_path / "b.png", everything[:, :-1] + 1), LABEL_IDS)


@pytest.mark.parametrize("mode", ["CMYK", "LA"])
def test_colours_are_those_of_three_channels(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (4, 3)).save(tmp_path / "label.tif")
    with pytest.raises(InputError, match="is no colour picture of 8 bits"):
        read_label_map(tmp_path / "label.tif", CLASS_COLOURS)
    with pytest.raises(InputError, match=f"has {len(mode)} channels of uint8; expected one channel"):
        read_label_map(tmp_path / "label.tif")


def test_formats_have_a_train_id_for_each_of_256_values() -> None:
    assert TRAIN_IDS.table.shape == LABEL_IDS.table.shape == (256,)
    assert TRAIN_IDS.table[[0, 18, 255]].tolist() == [0, 18, 255]


def test_16_bit_values_are_no_label_map_and_have_none_to_count(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", np.full((3, 4), 7, np.uint16))
    assert value_counts(path).tolist() == [0] * 256
    with pytest.raises(InputError, match="has 1 channels of uint16"):
        read_label_map(path)


def test_white_and_the_colours_around_those_of_a_format_are_none_of_it(tmp_path: Path) -> None:
    for rgb in ((255, 255, 255), (0, 0, 1), (128, 64, 127), (128, 64, 129)):
        path = write(tmp_path / "a.png", np.array([[rgb]], np.uint8)[:, :, ::-1])
        with pytest.raises(InputError, match=rf"holds the colour \({rgb[0]}, {rgb[1]}, {rgb[2]}\)"):
            read_label_map(path, CLASS_COLOURS)


@pytest.mark.parametrize("hw", [(3, 5), (4, 4), (5, 4)])
def test_one_row_or_column_less_is_another_size(tmp_path: Path, hw: tuple[int, int]) -> None:
    pair = LabelledImage(write(tmp_path / "image.png", IMAGE), write(tmp_path / "label.png", np.zeros(hw, np.uint8)))
    with pytest.raises(InputError, match=f"is {hw[1]}×{hw[0]}, its image 5×4"):
        read_labelled(pair)


def test_image_and_label_map_are_read_together(tmp_path: Path) -> None:
    bgr = np.full((4, 5, 3), (1, 2, 3), np.uint8)
    pair = LabelledImage(
        write(tmp_path / "i.png", bgr), write(tmp_path / "l.png", np.full((4, 5), 7, np.uint8)), LABEL_IDS
    )
    read, label_map = read_labelled(pair)
    np.testing.assert_array_equal(read, bgr)
    assert (label_map == 0).all()
