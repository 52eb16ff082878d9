from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from darkseg_ros.commands import view
from darkseg_ros.commands.cli import main
from darkseg_ros.frames.source import open_frames
from darkseg_ros.model.segmenter import Segmenter
from darkseg_ros.pictures.live_page import LivePage
from tests.bundles import write_tiny_bundle

HW = (64, 128)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Three uniform pictures, which the fake engine takes for the class of their blue value."""
    folder = tmp_path / "images"
    folder.mkdir()
    for train_id in range(3):
        cv2.imwrite(str(folder / f"{train_id}.png"), np.full((*HW, 3), (train_id, 128, 0), np.uint8))
    return folder


def test_a_file_is_shown_frame_by_frame_with_its_figures(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(view, "_FOLDER_RATE_HZ", 1000.0)
    segmenter = Segmenter.open(write_tiny_bundle(tmp_path / "bundle", HW), backend="fake")
    with LivePage(title="images", port=0) as page:
        view.show_file(open_frames(images), segmenter, page)
        status = page.status()
        shown = page.picture("mask", 3)
    segmenter.close()
    assert (status["frame"], status["level"]) == (3, "OK")
    assert status["summary"] == "images has ended"
    assert (status["values"]["frames_published"], status["values"]["bundle"]) == ("3", segmenter.bundle.name)
    assert 0 < status["confidence"] < 1
    assert shown is not None
    mask_bgr = cv2.imdecode(np.frombuffer(shown[1], np.uint8), cv2.IMREAD_COLOR)
    assert (mask_bgr == segmenter.bundle.classes.palette_bgr[2]).all()


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["view", str(tmp_path / "none.mp4")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "none.mp4 does not exist" in line


def test_ctrl_c_is_the_way_to_end_it(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(view, "show_file", interrupted)
    bundle = write_tiny_bundle(tmp_path / "bundle", HW)
    options = ["--port", "0", "--bundle", str(bundle), "--backend", "fake"]
    assert main(["view", str(images), *options]) == 0
