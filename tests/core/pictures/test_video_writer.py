from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from darkseg_ros.errors import InputError
from darkseg_ros.frames.videos import open_video
from darkseg_ros.pictures import video_writer
from darkseg_ros.pictures.video_writer import VideoWriter


def frames_of(path: Path) -> list[np.ndarray]:
    return [frame.bgr for frame in open_video(path).read_frames()]


def test_a_written_video_holds_every_frame_at_its_rate(tmp_path: Path) -> None:
    path = tmp_path / "made" / "drive.mp4"
    greys = (30, 120, 220)
    with VideoWriter(path, rate_hz=12.5) as video:
        for grey in greys:
            video.write(np.full((64, 96, 3), grey, np.uint8))
        assert not path.exists()
    assert [frame.shape for frame in frames_of(path)] == [(64, 96, 3)] * 3
    assert [round(float(frame.mean())) for frame in frames_of(path)] == pytest.approx(greys, abs=6)
    assert open_video(path).rate_hz == pytest.approx(12.5)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(("encoder", "codec"), [("libx264", "h264"), ("libvpx-vp9", "vp9")])
def test_a_video_has_a_codec_of_browsers_and_its_colours(
    tmp_path: Path, encoder: str, codec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video_writer, "_ENCODERS", {encoder: video_writer._ENCODERS[encoder]})
    colour = (200, 60, 30)
    with VideoWriter(tmp_path / "drive.mp4", rate_hz=30.0) as video:
        for _ in range(3):
            video.write(np.full((64, 64, 3), colour, np.uint8))
    assert open_video(tmp_path / "drive.mp4").codec == codec
    for frame in frames_of(tmp_path / "drive.mp4"):
        assert np.abs(frame.astype(int) - colour).max() <= 6
    # browsers read the index first: it stands before the frames
    content = (tmp_path / "drive.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")
    with av.open(str(tmp_path / "drive.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert (context.pix_fmt, context.colorspace, context.color_range) == ("yuv420p", 1, 1)


def test_an_ffmpeg_without_such_an_encoder_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_writer, "_ENCODERS", {"libnothing": {}})
    with (
        pytest.raises(InputError, match="none of the encoders libnothing"),
        VideoWriter(tmp_path / "drive.mp4", rate_hz=30.0) as video,
    ):
        video.write(np.zeros((64, 64, 3), np.uint8))
    assert list(tmp_path.iterdir()) == []


def test_frames_are_shown_at_their_own_times(tmp_path: Path) -> None:
    times_ms = [0, 120, 200, 1320, 1400]
    with VideoWriter(tmp_path / "drive.mp4", rate_hz=10.0) as video:
        for time_ms in times_ms:
            video.write(np.zeros((64, 64, 3), np.uint8), time_ns=10**18 + time_ms * 1_000_000)
    frames = list(open_video(tmp_path / "drive.mp4").read_frames())
    assert [frame.time_ns / 1e6 for frame in frames] == pytest.approx(times_ms, abs=0.02)
    with av.open(str(tmp_path / "drive.mp4")) as container:
        assert container.duration == pytest.approx(1_500_000, abs=2000)  # µs: the last frame is shown for 0.1 s


def test_a_clock_that_jumps_does_not_stop_the_video(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "drive.mp4", rate_hz=10.0) as video:
        for time_s in (0, 1, 10**9, 10**9 + 1, 5, 5):
            video.write(np.zeros((64, 64, 3), np.uint8), time_ns=time_s * 10**9)
    frames = list(open_video(tmp_path / "drive.mp4").read_frames())
    assert [round(frame.time_ns / 1e9, 3) for frame in frames] == [0, 1, 1.1, 2.1, 2.2, 2.3]


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
