from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from darkseg_ros.errors import InputError
from darkseg_ros.frames.videos import frame_time_ns, open_video
from tests.core.frames.video_files import write_video


@pytest.mark.parametrize("name", ["drive.mp4", "drive.avi"])
def test_every_frame_comes_in_order_and_again_when_read_again(tmp_path: Path, name: str) -> None:
    video = open_video(write_video(tmp_path / name, frames=12, rate_hz=10))
    assert (video.frame_count, video.rate_hz) == (12, 10.0)
    for _ in range(2):
        frames = list(video.read_frames())
        assert len(frames) == 12
        for index, bgr in enumerate(frames):
            assert bgr.shape == (48, 64, 3)
            assert bgr.dtype == np.uint8
            assert abs(bgr.mean() - 20 * index) < 8


def test_one_frame_is_a_video(tmp_path: Path) -> None:
    assert len(list(open_video(write_video(tmp_path / "one.mp4", frames=1)).read_frames())) == 1


def test_frame_times_are_the_nearest_whole_nanoseconds() -> None:
    assert [frame_time_ns(i, rate_hz=30.0) for i in range(4)] == [0, 33_333_333, 66_666_667, 100_000_000]
    # 30000/1001 Hz: frame 30 000 comes after exactly 1001 s
    assert frame_time_ns(30_000, rate_hz=30_000 / 1001) == 1_001_000_000_000


@pytest.mark.parametrize("content", [b"", b"not a video" * 500, b"\x00\x00\x00\x18ftypmp42" + bytes(12)])
def test_what_is_no_video_is_an_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "fake.mp4"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"fake\.mp4"):
        open_video(path)


def test_a_missing_video_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a file"):
        open_video(tmp_path / "missing.mp4")


@pytest.mark.parametrize("name", ["none.mp4", "none.avi"])
def test_a_video_without_frames_is_an_error(tmp_path: Path, name: str) -> None:
    path = write_video(tmp_path / name, frames=0)
    with pytest.raises(InputError, match=r"no frame|cannot be opened"):
        list(open_video(path).read_frames())


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.8])
@pytest.mark.parametrize("name", ["drive.mp4", "drive.avi"])
def test_a_video_cut_off_is_an_error(tmp_path: Path, name: str, kept: float) -> None:
    content = write_video(tmp_path / name, frames=60).read_bytes()
    cut = tmp_path / f"cut{Path(name).suffix}"
    cut.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(InputError, match="cut off"):
        list(open_video(cut).read_frames())


def test_an_mp4_that_has_its_index_but_lost_its_end_is_cut_off(tmp_path: Path) -> None:
    """Such a file states its frames in front, so OpenCV opens what is left and merely stops early."""
    content = write_video(tmp_path / "drive.mp4", frames=30).read_bytes()
    boxes = {}
    position = 0
    while position < len(content):
        size = int.from_bytes(content[position : position + 4], "big")
        boxes[content[position + 4 : position + 8]] = content[position : position + size]
        position += size
    faststart = tmp_path / "faststart.mp4"
    faststart.write_bytes(boxes[b"ftyp"] + boxes[b"moov"] + boxes[b"mdat"][:-40])
    with pytest.raises(InputError, match="is cut off"):
        open_video(faststart)


def test_digits_in_the_name_are_no_series_of_pictures(tmp_path: Path) -> None:
    path = tmp_path / "frame_001.avi"
    path.write_bytes(b"not a video" * 500)
    with pytest.raises(InputError, match="cannot be opened"):
        open_video(path)
