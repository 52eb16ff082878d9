from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from darkseg_ros.errors import InputError
from darkseg_ros.frames.labelled import LabelledImage, pair_files, read_label_map, read_labelled


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
