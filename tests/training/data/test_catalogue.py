"""Every data set on a tiny tree of its published layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import pytest

from darkseg_ros.errors import InputError
from darkseg_ros.frames.labelled import read_labelled
from training.data.catalogue import CATALOGUE, data_set, layouts_of, origin_of
from training.data.pairs import Source, find_source, source_of
from training.data.shards import write_shards

GREY = np.full((2, 2, 3), 90, np.uint8)


def image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), GREY)


def label(path: Path, values: list[list[int]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.array(values, np.uint8))


def colours(path: Path, rgb: list[list[tuple[int, int, int]]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.array(rgb, np.uint8)[:, :, ::-1])


def cityscapes(root: Path) -> None:
    image(root / "leftImg8bit/train/ulm/ulm_000000_000019_leftImg8bit.png")
    label(root / "gtFine/train/ulm/ulm_000000_000019_gtFine_labelIds.png", [[7, 23], [33, 0]])
    label(root / "gtFine/train/ulm/ulm_000000_000019_gtFine_instanceIds.png", [[7, 23], [33, 0]])


def cityscapes_coarse(root: Path) -> None:
    image(root / "leftImg8bit/train_extra/bonn/bonn_000000_000019_leftImg8bit.png")
    label(root / "gtCoarse/train_extra/bonn/bonn_000000_000019_gtCoarse_labelIds.png", [[7, 23], [33, 0]])


def camvid(root: Path) -> None:
    image(root / "701_StillsRaw_full/0001TP_006690.png")
    colours(
        root / "LabeledApproved_full/0001TP_006690_L.png",
        [[(128, 64, 128), (128, 128, 128)], [(0, 64, 64), (192, 128, 192)]],  # road, sky, light, truck or bus
    )


def camvid_11(root: Path) -> None:
    image(root / "train/0001TP_006690.png")
    label(root / "trainannot/0001TP_006690.png", [[3, 0], [8, 11]])  # road, sky, car, void


def nighttime_driving(root: Path) -> None:
    image(root / "leftImg8bit/test/night/0_leftImg8bit.png")
    label(root / "gtCoarse_daytime_trainvaltest/test/night/0_gtCoarse_labelTrainIds.png", [[0, 10], [18, 255]])


def dark_zurich(root: Path) -> None:
    image(root / "rgb_anon/val/night/GOPR0000/GOPR0000_frame_000001_rgb_anon.png")
    label(root / "gt/val/night/GOPR0000/GOPR0000_frame_000001_gt_labelTrainIds.png", [[0, 10], [18, 255]])


def acdc(root: Path) -> None:
    image(root / "rgb_anon/night/train/GOPR0000/GOPR0000_frame_000001_rgb_anon.png")
    label(root / "gt/night/train/GOPR0000/GOPR0000_frame_000001_gt_labelTrainIds.png", [[0, 10], [18, 255]])
    label(root / "gt/night/train/GOPR0000/GOPR0000_frame_000001_gt_labelIds.png", [[7, 23], [33, 0]])


def bdd100k(root: Path) -> None:
    image(root / "images/10k/train/0004a4c0-d4dff0ad.jpg")
    label(root / "labels/sem_seg/masks/train/0004a4c0-d4dff0ad.png", [[0, 10], [18, 255]])


def nightcity(root: Path) -> None:
    image(root / "NightCity-images/images/train/Youtube_0001.png")
    label(root / "NightCity-label/label/train/Youtube_0001_labelIds.png", [[7, 23], [33, 0]])


def idd(root: Path) -> None:
    image(root / "leftImg8bit/train/0/000000_leftImg8bit.png")
    label(root / "gtFine/train/0/000000_gtFine_labellevel3Ids.png", [[0, 25], [7, 8]])  # last: autorickshaw


def mfnet(root: Path) -> None:
    for name in ("00001N", "00002D"):
        image(root / f"images/{name}.png")
        label(root / f"labels/{name}.png", [[1, 2], [3, 0]])
    (root / "train.txt").write_text("00001N\n")
    (root / "train_night.txt").write_text("00001N\n")


def msrs(root: Path) -> None:
    image(root / "train/vi/00001N.png")
    label(root / "train/Segmentation_labels/00001N.png", [[1, 2], [3, 0]])


def comma10k(root: Path) -> None:
    for name in ("0000_a_1", "0001_b_9"):
        image(root / f"imgs/{name}.png")
        colours(root / f"masks/{name}.png", [[(64, 32, 32), (255, 0, 0)], [(128, 128, 96), (0, 255, 102)]])


def plain(root: Path) -> None:
    image(root / "image/a.jpg")
    label(root / "label/a.png", [[0, 10], [18, 255]])


def shards(root: Path) -> None:
    with TemporaryDirectory() as folder:
        cityscapes(Path(folder))
        write_shards(find_source(Source(folder, "cityscapes")), root, data_set="cityscapes", shard_bytes=10**6)


ROAD_SKY_BICYCLE = [[0, 10], [18, 255]]
LABELLED: list[tuple[Callable[[Path], None], str, list[list[int]]]] = [
    (cityscapes, "cityscapes", ROAD_SKY_BICYCLE),
    (cityscapes_coarse, "cityscapes_coarse", ROAD_SKY_BICYCLE),
    (camvid, "camvid", [[0, 10], [6, 255]]),
    (camvid_11, "camvid_11", [[0, 10], [13, 255]]),
    (nighttime_driving, "nighttime_driving", ROAD_SKY_BICYCLE),
    (dark_zurich, "dark_zurich", ROAD_SKY_BICYCLE),
    (acdc, "acdc", ROAD_SKY_BICYCLE),
    (bdd100k, "bdd100k", ROAD_SKY_BICYCLE),
    (nightcity, "nightcity", ROAD_SKY_BICYCLE),
    (idd, "idd", [[0, 10], [18, 255]]),
    (mfnet, "mfnet", [[13, 11], [18, 255]]),
    (msrs, "msrs", [[13, 11], [18, 255]]),
    (comma10k, "comma10k", [[0, 0], [255, 255]]),
    (plain, "plain", ROAD_SKY_BICYCLE),
    (shards, "shards", ROAD_SKY_BICYCLE),
]


def test_every_labelled_data_set_has_a_tree_here() -> None:
    assert {name for _, name, _ in LABELLED} == {name for name, row in CATALOGUE.items() if row.read}


@pytest.mark.parametrize(("make", "name", "expected"), LABELLED, ids=[name for _, name, _ in LABELLED])
def test_a_published_layout_is_read_into_train_ids(
    make: Callable[[Path], None], name: str, expected: list[list[int]], tmp_path: Path
) -> None:
    make(tmp_path)
    (pair,) = find_source({"folder": tmp_path, "data_set": name})
    assert read_labelled(pair)[1].tolist() == expected


@pytest.mark.parametrize(("make", "name", "expected"), LABELLED, ids=[name for _, name, _ in LABELLED])
def test_a_layout_is_told_by_its_folders(
    make: Callable[[Path], None], name: str, expected: list[list[int]], tmp_path: Path
) -> None:
    make(tmp_path)
    assert name in layouts_of(tmp_path)


def test_another_layout_than_asked_for_is_named(tmp_path: Path) -> None:
    bdd100k(tmp_path)
    with pytest.raises(InputError, match="the folder looks like data_set bdd100k"):
        find_source({"folder": tmp_path, "data_set": "cityscapes"})


def test_dark_zurich_nexet_and_zju_are_read_without_labels(tmp_path: Path) -> None:
    image(tmp_path / "dz/rgb_anon/train/night/GOPR0000/GOPR0000_frame_000001_rgb_anon.png")
    for name in ("day.jpg", "night.jpg"):
        image(tmp_path / "nexet/nexet_2017_1" / name)
    (tmp_path / "nexet/train.csv").write_text(
        "image_filename,lighting,city\nday.jpg,Day,NYC\nnight.jpg,Night,NYC\n", encoding="utf-8"
    )
    image(tmp_path / "zju/night/00001.jpg")
    found = {}
    for name, folder, split in (
        ("dark_zurich_unlabelled", "dz", "night"),
        ("nexet", "nexet", "Night"),
        ("zju", "zju", "night"),
    ):
        read = data_set(name).read_unlabelled
        assert read is not None
        found[name] = [path.name for path in read(tmp_path / folder, split)]
    assert found == {
        "dark_zurich_unlabelled": ["GOPR0000_frame_000001_rgb_anon.png"],
        "nexet": ["night.jpg"],
        "zju": ["00001.jpg"],
    }


def test_classes_that_hold_others_can_be_ignored(tmp_path: Path) -> None:
    camvid_11(tmp_path)
    (pair,) = find_source({"folder": tmp_path, "data_set": "camvid_11", "ignore": ["car", "traffic sign"]})
    assert read_labelled(pair)[1].tolist() == [[0, 10], [255, 255]]


def test_own_label_values_are_mapped_to_classes(tmp_path: Path) -> None:
    image(tmp_path / "image/a.png")
    label(tmp_path / "label/a.png", [[1, 2], [9, 1]])
    (pair,) = find_source({"folder": tmp_path, "mapping": {1: "road", 2: "sky", 9: ""}})
    assert read_labelled(pair)[1].tolist() == [[0, 10], [255, 0]]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"data_set": "plain"}, "no folder"),
        ({"folder": "x", "dataset": "plain"}, "has dataset"),
        ({"folder": "x", "data_set": "cityscape"}, "there is no data set cityscape"),
        ({"folder": "x", "data_set": "cityscapes", "split": "extra"}, "has no split extra; expected one of train, val"),
        ({"folder": "x", "ignore": ["lorry"]}, "there is no class lorry"),
        ({"folder": "x", "data_set": "nexet"}, "has no labels that are read"),
    ],
)
def test_an_unknown_word_of_an_entry_is_named(entry: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        source_of(entry)


def test_prepared_folders_are_known_by_name() -> None:
    night = origin_of(Path("/somewhere/target_night_unlabelled"))
    assert night is not None
    assert (night.title, night.terms) == ("BDD100K", "research")
    assert origin_of(Path("/somewhere/my_own")) is None


def test_every_row_says_its_terms_and_where_it_comes_from() -> None:
    for name, row in CATALOGUE.items():
        assert row.terms, name
        assert row.splits, name
        assert row.url.startswith("http") or name in ("plain", "shards")
