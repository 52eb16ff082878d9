from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from darkseg_ros.errors import InputError
from darkseg_ros.pictures.video_writer import VideoWriter


def frames_of(path: Path) -> list[np.ndarray]:
    capture = cv2.VideoCapture(str(path))
    frames = []
    while (answer := capture.read())[0]:
        frames.append(answer[1])
    capture.release()
    return frames


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_a_written_video_holds_every_frame_at_its_rate(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "made" / f"drive{suffix}"
    greys = (30, 120, 220)
    with VideoWriter(path, rate_hz=12.5) as video:
        for grey in greys:
            video.write(np.full((64, 96, 3), grey, np.uint8))
        assert not path.exists()
    assert [frame.shape for frame in frames_of(path)] == [(64, 96, 3)] * 3
    assert [round(float(frame.mean())) for frame in frames_of(path)] == pytest.approx(greys, abs=6)
    capture = cv2.VideoCapture(str(path))
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(12.5)
    capture.release()
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_webm_holds_a_codec_of_browsers(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "drive.webm", rate_hz=30.0) as video:
        video.write(np.zeros((64, 64, 3), np.uint8))
    content = (tmp_path / "drive.webm").read_bytes()
    assert content.startswith(b"\x1a\x45\xdf\xa3")  # EBML, RFC 8794
    assert b"V_VP8" in content


@pytest.mark.parametrize(("size_hw", "expected_hw"), [((63, 65), (64, 66)), ((1, 1), (2, 2))])
def test_odd_sizes_get_a_row_or_column_more(
    tmp_path: Path, size_hw: tuple[int, int], expected_hw: tuple[int, int]
) -> None:
    with VideoWriter(tmp_path / "odd.mp4", rate_hz=30.0) as video:
        video.write(np.full((*size_hw, 3), 200, np.uint8))
    (frame,) = frames_of(tmp_path / "odd.mp4")
    assert frame.shape[:2] == expected_hw
    assert abs(frame.astype(int) - 200).max() < 8


def fail_on_the_way(path: Path) -> None:
    with VideoWriter(path, rate_hz=30.0) as video:
        video.write(np.zeros((64, 64, 3), np.uint8))
        raise RuntimeError


def test_after_an_error_nothing_remains(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        fail_on_the_way(tmp_path / "drive.mp4")
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_video_survives_a_failed_one(tmp_path: Path) -> None:
    (tmp_path / "drive.mp4").write_bytes(b"earlier")
    with pytest.raises(RuntimeError):
        fail_on_the_way(tmp_path / "drive.mp4")
    assert (tmp_path / "drive.mp4").read_bytes() == b"earlier"


def test_frames_of_another_size_are_refused(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "drive.mp4", rate_hz=30.0) as video:
        video.write(np.zeros((32, 64, 3), np.uint8))
        with pytest.raises(InputError, match="began with frames of 64×32, frame 1 is 32×64"):
            video.write(np.zeros((64, 32, 3), np.uint8))


def test_a_video_without_frames_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="0 frames"), VideoWriter(tmp_path / "drive.mp4", rate_hz=30.0):
        pass
