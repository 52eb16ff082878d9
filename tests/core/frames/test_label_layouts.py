"""Small trees with the names of published data sets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from darkseg_ros.classes import CITYSCAPES, ClassTable, SegmentationClass
from darkseg_ros.errors import InputError
from darkseg_ros.frames.label_layouts import FormatName, doubt_about, find_pairs
from darkseg_ros.frames.labelled import read_labelled

ROAD, CAR = CITYSCAPES.train_ids["road"], CITYSCAPES.train_ids["car"]
LABEL_MAP = np.array([[ROAD, ROAD, ROAD], [CAR, CAR, 255]], np.uint8)
CITYSCAPES_TREE = ("leftImg8bit/val/nacht/nacht_0_19_leftImg8bit.png", "gtFine/val/nacht/nacht_0_19_gtFine_{kind}.png")
TREES = {
    "Cityscapes": (*CITYSCAPES_TREE, "leftImg8bit/val", "gtFine/val"),
    "Cityscapes, all splits": (*CITYSCAPES_TREE, "leftImg8bit", "gtFine"),
    "Nighttime Driving": (
        "leftImg8bit/test/night/0_leftImg8bit.png",
        "gtCoarse_daytime_trainvaltest/test/night/0_gtCoarse_{kind}.png",
        "leftImg8bit/test/night",
        "gtCoarse_daytime_trainvaltest/test/night",
    ),
    "ACDC": (
        "rgb_anon/night/val/GOPR0356/GOPR0356_frame_000321_rgb_anon.png",
        "gt/night/val/GOPR0356/GOPR0356_frame_000321_gt_{kind}.png",
        "rgb_anon/night/val",
        "gt/night/val",
    ),
    "Dark Zurich": (
        "rgb_anon/val/night/GOPR0356/GOPR0356_frame_000321_rgb_anon.png",
        "gt/val/night/GOPR0356/GOPR0356_frame_000321_gt_{kind}.png",
        "rgb_anon",
        "gt/val/night",
    ),
}


def write(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def write_kinds(root: Path, pattern: str) -> None:
    label_ids = CITYSCAPES_LABEL_ID_OF[LABEL_MAP]
    write(root / pattern.format(kind="labelTrainIds"), LABEL_MAP)
    write(root / pattern.format(kind="labelIds"), label_ids)
    color = "labelColor" if "_gt_" in pattern else "color"
    write(root / pattern.format(kind=color), CITYSCAPES.palette_bgr[LABEL_MAP][..., ::-1])


CITYSCAPES_LABEL_ID_OF = np.zeros(256, np.uint8)
CITYSCAPES_LABEL_ID_OF[: len(CITYSCAPES)] = [row.label_id or 0 for row in CITYSCAPES]


@pytest.mark.parametrize("label_format", ["auto", "train-ids", "label-ids", "colours"])
@pytest.mark.parametrize("name", list(TREES))
def test_published_trees_are_read_as_they_are(tmp_path: Path, name: str, label_format: FormatName) -> None:
    image, label, images, labels = TREES[name]
    picture = write(tmp_path / image, np.zeros((2, 3, 3), np.uint8))
    write_kinds(tmp_path, label)
    (pair,) = find_pairs(tmp_path / images, tmp_path / labels, label_format=label_format)
    assert pair.image == picture
    np.testing.assert_array_equal(read_labelled(pair)[1], LABEL_MAP)


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("images/10k/val/a.jpg", "labels/sem_seg/masks/val/a.png"),
        ("seg/images/val/a.jpg", "seg/labels/val/a_train_id.png"),
    ],
)
def test_both_trees_of_bdd100k_are_read(tmp_path: Path, image: str, label: str) -> None:
    write(tmp_path / image, np.zeros((2, 3, 3), np.uint8))
    write(tmp_path / label, LABEL_MAP)
    (pair,) = find_pairs((tmp_path / image).parent, (tmp_path / label).parent)
    np.testing.assert_array_equal(read_labelled(pair)[1], LABEL_MAP)


def write_flat(root: Path, label: Image.Image) -> tuple[Path, Path]:
    write(root / "image" / "a.png", np.zeros((2, 3, 3), np.uint8))
    (root / "label").mkdir()
    label.save(root / "label" / "a.png")
    return root / "image", root / "label"


def test_label_maps_that_bear_the_images_own_names_are_theirs(tmp_path: Path) -> None:
    """As in a folder that somebody copied out of ACDC, where the day images of the same places end in _rgb_ref_anon."""
    names = ("night_0_rgb_anon", "night_0_rgb_ref_anon", "plain")
    for name in names:
        write(tmp_path / f"image/{name}.png", np.zeros((*LABEL_MAP.shape, 3), np.uint8))
        write(tmp_path / f"label/{name}.png", LABEL_MAP)
    pairs = find_pairs(tmp_path / "image", tmp_path / "label")
    assert [(pair.image.stem, pair.label.stem) for pair in pairs] == [(name, name) for name in names]
    np.testing.assert_array_equal(read_labelled(pairs[0])[1], LABEL_MAP)


def test_palette_indices_are_train_ids(tmp_path: Path) -> None:
    picture = Image.fromarray(LABEL_MAP).convert("P")
    picture.putpalette(CITYSCAPES.palette_bgr[:, ::-1].tobytes())
    (pair,) = find_pairs(*write_flat(tmp_path, picture))
    np.testing.assert_array_equal(read_labelled(pair)[1], LABEL_MAP)


def test_colours_are_those_of_the_class_table(tmp_path: Path) -> None:
    (pair,) = find_pairs(*write_flat(tmp_path, Image.fromarray(CITYSCAPES.palette_bgr[LABEL_MAP][..., ::-1])))
    np.testing.assert_array_equal(read_labelled(pair)[1], LABEL_MAP)


def test_label_ids_of_plain_names_are_read_by_option_and_doubted_without(tmp_path: Path) -> None:
    folders = write_flat(tmp_path, Image.fromarray(CITYSCAPES_LABEL_ID_OF[LABEL_MAP]))
    pairs = find_pairs(*folders, label_format="label-ids")
    np.testing.assert_array_equal(read_labelled(pairs[0])[1], LABEL_MAP)
    assert doubt_about(pairs) == ""
    assert "look like raw Cityscapes label ids" in doubt_about(find_pairs(*folders))


def test_label_ids_that_pass_for_train_ids_are_doubted_though_much_is_unlabelled(tmp_path: Path) -> None:
    """Road is 7 there and what has no class is 0, which is road among train ids."""
    low = Image.fromarray(np.array([[0, 0, 0, 0], [7, 7, 11, 17]], np.uint8))
    assert "look like raw Cityscapes label ids" in doubt_about(find_pairs(*write_flat(tmp_path, low)))


def test_train_ids_are_not_doubted(tmp_path: Path) -> None:
    assert doubt_about(find_pairs(*write_flat(tmp_path, Image.fromarray(LABEL_MAP)))) == ""


def test_label_ids_belong_to_cityscapes(tmp_path: Path) -> None:
    two = ClassTable((SegmentationClass("lane", "flat", (1, 2, 3)), SegmentationClass("rest", "flat", (4, 5, 6))))
    folders = write_flat(tmp_path, Image.fromarray(np.array([[0, 1, 255]] * 2, np.uint8)))
    assert len(find_pairs(*folders, classes=two)) == 1
    with pytest.raises(InputError, match="label ids are those of Cityscapes"):
        find_pairs(*folders, classes=two, label_format="label-ids")


@pytest.mark.parametrize("lonely", ["image", "label"])
def test_a_file_without_a_partner_is_named(tmp_path: Path, lonely: str) -> None:
    folders = write_flat(tmp_path, Image.fromarray(LABEL_MAP))
    write(tmp_path / lonely / "b.png", LABEL_MAP)
    with pytest.raises(InputError, match=r"b\.png has no"):
        find_pairs(*folders)


def test_a_format_that_a_tree_does_not_have_is_an_error(tmp_path: Path) -> None:
    image, label, images, labels = TREES["Cityscapes"]
    write(tmp_path / image, np.zeros((2, 3, 3), np.uint8))
    write(tmp_path / label.format(kind="labelTrainIds"), LABEL_MAP)
    with pytest.raises(InputError, match=r"no label maps of the format label-ids; expected files \*_gtFine_labelIds"):
        find_pairs(tmp_path / images, tmp_path / labels, label_format="label-ids")


@pytest.mark.parametrize(
    ("kinds", "taken"),
    [
        (("labelTrainIds", "labelIds", "color"), "labelTrainIds"),
        (("labelIds", "color"), "labelIds"),
        (("color",), "color"),
    ],
)
def test_of_several_kinds_train_ids_come_first_and_colours_last(
    tmp_path: Path, kinds: tuple[str, ...], taken: str
) -> None:
    image, label, images, labels = TREES["Cityscapes"]
    write(tmp_path / image, np.zeros((2, 3, 3), np.uint8))
    write_kinds(tmp_path, label)
    for kind in {"labelTrainIds", "labelIds", "color"} - set(kinds):
        (tmp_path / label.format(kind=kind)).unlink()
    (pair,) = find_pairs(tmp_path / images, tmp_path / labels)
    assert pair.label.name == f"nacht_0_19_gtFine_{taken}.png"
    np.testing.assert_array_equal(read_labelled(pair)[1], LABEL_MAP)


def test_images_of_other_times_of_the_same_places_are_passed_over(tmp_path: Path) -> None:
    """ACDC has day images (_rgb_ref_anon) beside those with label maps."""
    image, label, _, _ = TREES["ACDC"]
    picture = write(tmp_path / image, np.zeros((2, 3, 3), np.uint8))
    write(tmp_path / image.replace("_rgb_anon", "_rgb_ref_anon"), np.zeros((2, 3, 3), np.uint8))
    write_kinds(tmp_path, label)
    (pair,) = find_pairs(tmp_path / "rgb_anon", tmp_path / "gt")
    assert pair.image == picture


def test_trees_of_different_folders_pair_by_name(tmp_path: Path) -> None:
    for city in ("ulm", "bonn"):
        write(tmp_path / f"image/{city}/{city}_leftImg8bit.png", np.zeros((2, 3, 3), np.uint8))
        write(tmp_path / f"label/all/{city}_gtFine_labelTrainIds.png", LABEL_MAP)
    pairs = find_pairs(tmp_path / "image", tmp_path / "label")
    assert [(pair.image.stem, pair.label.stem) for pair in pairs] == [
        ("bonn_leftImg8bit", "bonn_gtFine_labelTrainIds"),
        ("ulm_leftImg8bit", "ulm_gtFine_labelTrainIds"),
    ]


def test_images_of_one_name_in_two_folders_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    for city in ("bonn", "ulm"):
        write(tmp_path / f"image/{city}/0.png", np.zeros((2, 3, 3), np.uint8))
        write(tmp_path / f"label/{city}/0.png", LABEL_MAP)
    pairs = find_pairs(tmp_path / "image", tmp_path / "label")
    assert [(pair.image.parent.name, pair.label.parent.name) for pair in pairs] == [("bonn", "bonn"), ("ulm", "ulm")]


def test_two_files_of_one_pair_are_both_named(tmp_path: Path) -> None:
    folders = write_flat(tmp_path, Image.fromarray(LABEL_MAP))
    write(tmp_path / "image" / "a.bmp", np.zeros((2, 3, 3), np.uint8))
    with pytest.raises(InputError, match=r"a\.(bmp|png) and .*a\.(bmp|png) share a stem; rename or remove one"):
        find_pairs(*folders)


def test_folders_that_are_missing_or_hold_no_images_are_named(tmp_path: Path) -> None:
    folders = write_flat(tmp_path, Image.fromarray(LABEL_MAP))
    with pytest.raises(InputError, match="nowhere is not a folder; expected a folder of images"):
        find_pairs(tmp_path / "nowhere", folders[1])
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("none")
    write(tmp_path / "empty" / ".hidden.png", LABEL_MAP)
    (tmp_path / "empty" / "folder.png").mkdir()
    with pytest.raises(InputError, match=r"empty holds no images; expected files ending in \."):
        find_pairs(folders[0], tmp_path / "empty")


def test_endings_may_be_written_in_capitals_and_hidden_files_are_none(tmp_path: Path) -> None:
    images, labels = write_flat(tmp_path, Image.fromarray(LABEL_MAP))
    (images / "a.png").rename(images / "a.PNG")
    write(images / "._a.png", np.zeros((2, 3, 3), np.uint8))
    (pair,) = find_pairs(images, labels)
    assert pair.image.name == "a.PNG"


def test_a_doubt_is_about_train_ids_of_cityscapes_in_files_that_can_be_read(tmp_path: Path) -> None:
    images, labels = write_flat(tmp_path, Image.fromarray(np.array([[0, 0, 0, 0], [7, 7, 11, 17]], np.uint8)))
    write(images / "b.png", np.zeros((2, 4, 3), np.uint8))
    (labels / "b.png").write_bytes((labels / "a.png").read_bytes())
    pairs = find_pairs(images, labels)
    assert str(pairs[0].label) in doubt_about(pairs)
    many = ClassTable(tuple(SegmentationClass(f"class {i}", "flat", (i, 2, 3)) for i in range(19)))
    assert doubt_about(find_pairs(images, labels, classes=many), many) == ""
    pairs[0].label.write_bytes(b"no picture")
    assert "look like raw Cityscapes label ids" in doubt_about(pairs)


def test_a_doubt_comes_from_twenty_label_maps_at_most(tmp_path: Path) -> None:
    like_label_ids = np.full((2, 2), 7, np.uint8)
    for index in range(21):
        write(tmp_path / f"image/{index:02d}.png", np.zeros((2, 2, 3), np.uint8))
        write(tmp_path / f"label/{index:02d}.png", like_label_ids if index >= 20 else np.zeros((2, 2), np.uint8))
    pairs = find_pairs(tmp_path / "image", tmp_path / "label")
    assert doubt_about(pairs) == ""
    write(pairs[19].label.parent / "19.png", np.full((40, 40), 7, np.uint8))
    assert doubt_about(pairs) != ""
