from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from darkseg_ros.classes import IGNORE_INDEX
from training.coarsen_labels import coarsen, main

ROAD, CAR, PERSON = 0, 13, 11


@pytest.fixture
def fine() -> np.ndarray:
    """Road with a car of 40 px and a person of 4 px; the sky's rows have no label."""
    label_map = np.full((100, 100), ROAD, np.uint8)
    label_map[30:70, 30:70] = CAR
    label_map[80:84, 80:84] = PERSON
    label_map[:10] = IGNORE_INDEX
    return label_map


def test_regions_shrink_and_small_objects_and_borders_are_left_open(fine: np.ndarray) -> None:
    coarse = coarsen(fine, margin_px=4)
    assert set(np.unique(coarse)) == {ROAD, CAR, IGNORE_INDEX}
    assert (fine[coarse == CAR] == CAR).all()
    assert 0.4 < (coarse == CAR).sum() / (fine == CAR).sum() < 0.8
    assert (coarse[30:70, 30:34] != CAR).all()


def test_what_has_no_fine_label_gets_no_coarse_one(fine: np.ndarray) -> None:
    assert (coarsen(fine, margin_px=2)[:10] == IGNORE_INDEX).all()


def test_an_object_on_another_keeps_its_own_label(fine: np.ndarray) -> None:
    assert coarsen(fine, margin_px=2)[50, 50] == CAR  # the road's outline goes around it


def test_a_folder_gets_label_maps_and_links_and_is_not_made_twice(fine: np.ndarray, tmp_path: Path) -> None:
    for folder, pixels in (("image", np.zeros((100, 100, 3), np.uint8)), ("label", fine)):
        (tmp_path / "fine" / folder).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "fine" / folder / "a.png"), pixels)
    arguments = ["--labelled", str(tmp_path / "fine"), "--out", str(tmp_path / "coarse")]
    main(arguments)
    label, image = tmp_path / "coarse" / "label" / "a.png", tmp_path / "coarse" / "image" / "a.png"
    assert cv2.imread(str(label), cv2.IMREAD_UNCHANGED)[50, 50] == CAR
    assert image.resolve() == (tmp_path / "fine" / "image" / "a.png").resolve()
    made = label.stat().st_mtime_ns
    main(arguments)
    assert label.stat().st_mtime_ns == made


def test_a_margin_that_is_no_share_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="--margin is 3; expected a share of the height"):
        main(["--labelled", str(tmp_path), "--out", str(tmp_path / "out"), "--margin", "3"])
