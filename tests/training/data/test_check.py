from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.training.data.test_catalogue import bdd100k, camvid_11, image, label
from training.data.__main__ import main
from training.data.check import check_pairs, contact_sheet
from training.data.pairs import find_source


def test_a_data_set_is_told_by_its_folders_and_described(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    camvid_11(tmp_path)
    assert main(["check", str(tmp_path), "--split", "train", "--sheet", str(tmp_path / "sheet.png")]) == 0
    told = capsys.readouterr().out
    assert "CamVid, SegNet's 11 classes; terms: non-commercial research" in told
    assert "its car holds truck, bus too" in told
    assert "train: 1 pairs; sizes 2×2: 1" in told
    assert "road 33.33%" in told  # road, sky, car and one pixel without a class
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert sheet is not None
    assert sheet.shape == (288, 256, 3)


def test_broken_files_are_told_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bdd100k(tmp_path)
    image(tmp_path / "images/10k/train/second.jpg")
    label(tmp_path / "labels/sem_seg/masks/train/second.png", [[0, 40], [0, 0]])
    assert main(["check", str(tmp_path), "--split", "train"]) == 1
    assert "broken: " in (told := capsys.readouterr().out)
    assert "holds the value 40" in told


def test_an_unpaired_file_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bdd100k(tmp_path)
    image(tmp_path / "images/10k/train/alone.jpg")
    assert main(["check", str(tmp_path), "--split", "train"]) == 1
    assert "alone.jpg has no label map" in capsys.readouterr().out


def test_raw_ids_taken_for_train_ids_are_warned_of(tmp_path: Path) -> None:
    image(tmp_path / "image/a.png")
    label(tmp_path / "label/a.png", [[7, 7], [8, 11]])
    report = check_pairs(find_source(tmp_path))
    assert any("look like raw Cityscapes label ids" in line for line in report.lines())


def test_a_folder_of_no_layout_is_told(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="has the layout of none; name one with --data-set"):
        main(["check", str(tmp_path)])


def test_a_sheet_leaves_out_what_cannot_be_read(tmp_path: Path) -> None:
    image(tmp_path / "image/a.png")
    label(tmp_path / "label/a.png", [[0, 0], [0, 0]])
    pairs = find_source(tmp_path)
    sheet = contact_sheet(pairs)
    assert sheet is not None
    np.testing.assert_array_equal(sheet[200, 100], (128, 64, 128))  # road, in blue, green and red
    (tmp_path / "label/a.png").write_bytes(b"no picture")
    assert contact_sheet(pairs) is None
