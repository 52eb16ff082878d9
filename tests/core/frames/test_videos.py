from __future__ import annotations

import http.server
import threading
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from darkseg_ros.errors import InputError
from darkseg_ros.frames.bad_frames import BadFrames
from darkseg_ros.frames.videos import frame_time_ns, open_video
from tests.core.frames.video_files import write_video


def levels_of(path: Path, bad_frames: BadFrames | None = None) -> list[int]:
    """Which of the grey frames of `write_video` came; a level that is none of theirs fails."""
    means = [float(frame.bgr.mean()) / 20 for frame in open_video(path).read_frames(bad_frames)]
    assert np.abs(np.array(means) - np.round(means)).max(initial=0) < 0.4, means
    return [round(mean) for mean in means]


def iso_boxes(path: Path) -> list[bytes]:
    content, position, boxes = path.read_bytes(), 0, []
    while position < len(content):
        size = int.from_bytes(content[position : position + 4], "big")
        boxes.append(content[position : position + size])
        position += size
    return boxes


@pytest.mark.parametrize("name", ["drive.mp4", "drive.avi", "drive.mkv", "drive.ts"])
def test_every_frame_comes_in_order_and_again_when_read_again(tmp_path: Path, name: str) -> None:
    path = write_video(tmp_path / name, frames=12, rate_hz=10)
    video = open_video(path)
    assert video.rate_hz == 10.0
    assert video.frame_count == (12 if name.endswith(("mp4", "avi")) else None)
    for _ in range(2):
        frames = list(video.read_frames())
        assert {(frame.bgr.shape, frame.bgr.dtype) for frame in frames} == {((48, 64, 3), np.dtype(np.uint8))}
        assert [frame.index for frame in frames] == list(range(12))
        assert [frame.time_ns for frame in frames] == [index * 100_000_000 for index in range(12)]
        assert levels_of(path) == list(range(12))


def test_one_frame_is_a_video(tmp_path: Path) -> None:
    assert levels_of(write_video(tmp_path / "one.mp4", frames=1)) == [0]


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("a.mkv", None), ("a.webm", "libvpx-vp9")])
def test_frames_of_a_varying_rate_come_at_their_own_times(tmp_path: Path, name: str, codec: str | None) -> None:
    times_ms = [0, 120, 200, 320, 1320, 1400]
    path = write_video(tmp_path / name, frames=6, rate_hz=25, times_ms=times_ms, codec=codec)
    assert [frame.time_ns for frame in open_video(path).read_frames()] == [time * 1_000_000 for time in times_ms]


def test_interlaced_frames_come_whole(tmp_path: Path) -> None:
    """OpenCV 5.0.0.93 answers such frames with buffers that no decoder wrote."""
    path = write_video(
        tmp_path / "interlaced.mp4", frames=6, codec="libx264", codec_options={"x264-params": "interlaced=1"}
    )
    with av.open(str(path)) as container:
        assert next(container.decode(video=0)).interlaced_frame
    assert levels_of(path) == list(range(6))


@pytest.mark.parametrize(("rotation", "shape"), [(90, (64, 48, 3)), (180, (48, 64, 3)), (-90, (64, 48, 3))])
def test_a_rotated_video_comes_upright(tmp_path: Path, rotation: int, shape: tuple[int, int, int]) -> None:
    path = write_video(tmp_path / "phone.mp4", frames=2, rotation=rotation)
    assert [frame.bgr.shape for frame in open_video(path).read_frames()] == [shape] * 2


def test_a_quarter_turn_goes_the_way_that_the_file_says(tmp_path: Path) -> None:
    """White is above in the file; turned 90° counterclockwise it is on the left."""
    path = tmp_path / "phone.mkv"
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:24] = 255
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "bgr0"
        stream.set_display_rotation(90)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
        container.mux(stream.encode(None))
    (frame,) = open_video(path).read_frames()
    np.testing.assert_array_equal(frame.bgr, cv2.rotate(picture, cv2.ROTATE_90_COUNTERCLOCKWISE))
    assert frame.bgr[:, :24].min() == 255


def test_joined_transport_streams_give_every_frame_and_a_clock_that_goes_on(tmp_path: Path) -> None:
    for name, offset_s in (("first.ts", 0), ("second.ts", 3600), ("third.ts", 5)):
        options = {"output_ts_offset": str(offset_s)}
        write_video(tmp_path / name, frames=4, rate_hz=25, container_options=options)
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join((tmp_path / name).read_bytes() for name in ("first.ts", "second.ts", "third.ts")))
    assert levels_of(joined) == [0, 1, 2, 3] * 3
    assert [frame.time_ns for frame in open_video(joined).read_frames()] == [i * 40_000_000 for i in range(12)]


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


def test_a_video_without_pictures_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        assert isinstance(stream, av.AudioStream)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
    with pytest.raises(InputError, match="holds no pictures"):
        open_video(path)


def test_a_codec_that_is_not_known_is_named_with_the_cure(tmp_path: Path) -> None:
    content = write_video(tmp_path / "drive.mp4", frames=2, codec="libx264").read_bytes()
    (tmp_path / "odd.mp4").write_bytes(content.replace(b"avc1", b"xyzw"))
    with pytest.raises(InputError, match=r"has the codec none \(xyzw.*ffmpeg -i INPUT"):
        open_video(tmp_path / "odd.mp4")


@pytest.mark.parametrize("name", ["none.mp4", "none.avi"])
def test_a_video_without_frames_is_an_error(tmp_path: Path, name: str) -> None:
    path = write_video(tmp_path / name, frames=0)
    with pytest.raises(InputError, match=r"no frame|cannot be opened|no pictures"):
        list(open_video(path).read_frames())


def test_a_count_in_the_header_is_an_estimate(tmp_path: Path) -> None:
    """Such as dwTotalFrames of the main AVI header and of the stream, as a camera without power leaves them."""
    content = bytearray(write_video(tmp_path / "drive.avi", frames=12).read_bytes())
    for place in (content.index(b"avih") + 8 + 16, content.index(b"strh") + 8 + 32):
        assert content[place : place + 4] == (12).to_bytes(4, "little")
        content[place : place + 4] = (2**30).to_bytes(4, "little")
    content[4:8] = b"\xff\xff\xff\xff"
    (tmp_path / "unfinished.avi").write_bytes(content)
    assert open_video(tmp_path / "unfinished.avi").frame_count is None
    assert levels_of(tmp_path / "unfinished.avi") == list(range(12))


def test_bytes_behind_the_last_box_are_ignored(tmp_path: Path) -> None:
    path = write_video(tmp_path / "drive.mp4", frames=5)
    path.write_bytes(path.read_bytes() + b"GPS: 47.37 N, 8.54 E\n" * 9)
    assert levels_of(path) == list(range(5))


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.8])
def test_an_mp4_without_its_index_is_an_error(tmp_path: Path, kept: float) -> None:
    content = write_video(tmp_path / "drive.mp4", frames=20, size_hw=(480, 640)).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(InputError, match="cut off"):
        open_video(tmp_path / "cut.mp4")


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.8])
@pytest.mark.parametrize("suffix", [".avi", ".mkv"])
def test_a_video_cut_off_gives_what_is_left_and_says_so(tmp_path: Path, suffix: str, kept: float) -> None:
    content = write_video(tmp_path / f"drive{suffix}", frames=12, size_hw=(480, 640)).read_bytes()
    cut = tmp_path / f"cut{suffix}"
    cut.write_bytes(content[: int(len(content) * kept)])
    told: list[str] = []
    levels = levels_of(cut, BadFrames(tell=told.append))
    assert levels == list(range(len(levels)))
    assert 12 * kept - 2 <= len(levels) <= 12 * kept + 1
    assert any("is cut off" in line for line in told)
    with pytest.raises(InputError, match=r"cut off|cannot be decoded|damaged"):
        list(open_video(cut).read_frames())


def test_a_live_matroska_that_says_no_size_is_not_called_cut_off(tmp_path: Path) -> None:
    path = write_video(tmp_path / "drive.mkv", frames=5, container_options={"live": "1"})
    told: list[str] = []
    assert levels_of(path, BadFrames(tell=told.append)) == list(range(5))
    assert told == []


def test_a_fragmented_mp4_after_a_power_cut_gives_its_whole_frames(tmp_path: Path) -> None:
    path = write_video(
        tmp_path / "drive.mp4",
        frames=12,
        container_options={"movflags": "frag_keyframe+empty_moov"},
        codec_options={"g": "4"},
    )
    path.write_bytes(b"".join(iso_boxes(path)[:-1])[:-10])  # without mfra, and the last fragment lacks its end
    told: list[str] = []
    bad_frames = BadFrames(tell=told.append)
    levels = levels_of(path, bad_frames)
    assert levels == list(range(len(levels)))
    assert len(levels) >= 8
    assert "is cut off" in told[-1]


def test_an_mp4_that_has_its_index_but_lost_its_end_is_cut_off(tmp_path: Path) -> None:
    """Such a file states its frames in front, so FFmpeg opens what is left and merely stops early."""
    faststart = write_video(tmp_path / "drive.mp4", frames=30, container_options={"movflags": "+faststart"})
    assert iso_boxes(faststart)[-1][4:8] == b"mdat"
    faststart.write_bytes(faststart.read_bytes()[:-40])
    told: list[str] = []
    levels = levels_of(faststart, BadFrames(tell=told.append))
    assert 20 < len(levels) < 30
    assert "is cut off" in told[-1]
    with pytest.raises(InputError):
        list(open_video(faststart).read_frames())


def test_a_damaged_frame_is_counted_named_and_left_out(tmp_path: Path) -> None:
    content = bytearray(write_video(tmp_path / "drive.avi", frames=5).read_bytes())
    chunk = content.index(b"movi")
    for _ in range(3):
        chunk = content.index(b"00dc", chunk + 1)
    size = int.from_bytes(content[chunk + 4 : chunk + 8], "little")
    content[chunk + 8 : chunk + 8 + size] = bytes(size)
    (tmp_path / "drive.avi").write_bytes(content)
    told: list[str] = []
    bad_frames = BadFrames(tell=told.append)
    frames = list(open_video(tmp_path / "drive.avi").read_frames(bad_frames))
    assert [round(float(frame.bgr.mean()) / 20) for frame in frames] == [0, 1, 3, 4]
    assert [frame.index for frame in frames] == [0, 1, 3, 4]
    assert bad_frames.count == 1
    assert "the frame at 0.200 s of" in told[0]
    assert "mjpeg" in told[0]


def test_frames_keep_their_numbers_where_one_is_lost_that_is_not_decoded_in_its_turn(tmp_path: Path) -> None:
    options = {"bf": "2", "b_strategy": "0"}
    content = bytearray(write_video(tmp_path / "drive.mp4", frames=10, codec_options=options).read_bytes())
    with av.open(str(tmp_path / "drive.mp4")) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    times = [packet.pts // packet.duration for packet in packets]
    lost = next(index for index, time in enumerate(times) if time < index)  # decoded after one that is shown later
    place = packets[lost].pos
    content[place : place + packets[lost].size] = bytes(packets[lost].size)
    (tmp_path / "drive.mp4").write_bytes(content)
    told: list[str] = []
    frames = list(open_video(tmp_path / "drive.mp4").read_frames(BadFrames(tell=told.append)))
    assert [frame.index for frame in frames] == [index for index in range(10) if index != times[lost]]
    assert [frame.time_ns for frame in frames] == [frame.index * 100_000_000 for frame in frames]
    assert f"the frame at {times[lost] / 10:.3f} s of" in told[0]


def test_digits_in_the_name_are_no_series_of_pictures(tmp_path: Path) -> None:
    path = tmp_path / "frame_001.avi"
    path.write_bytes(b"not a video" * 500)
    with pytest.raises(InputError, match="cannot be opened"):
        open_video(path)


@pytest.mark.parametrize("name", ["12:30:00.mp4", "http:drive.mp4", "concat:a|b.mp4", "-i.mp4", "50%d.mp4"])
def test_a_name_is_never_an_address_or_an_option(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write_video(tmp_path / "drive.mp4", frames=3).rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert levels_of(Path(name)) == [0, 1, 2]


@pytest.mark.parametrize("name", ["list.m3u8", "list.ffconcat", "list.mp4"])
def test_a_playlist_opens_no_other_file_and_no_address(tmp_path: Path, name: str) -> None:
    requests = []

    class Listener(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append(self.path)
            self.send_error(404)

    secret = write_video(tmp_path / "secret.ts", frames=2)
    with http.server.HTTPServer(("127.0.0.1", 0), Listener) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/drive.ts"
        for target in (address, str(secret)):
            playlist = {
                "list.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{target}\n#EXT-X-ENDLIST\n",
                "list.ffconcat": f"ffconcat version 1.0\nfile '{target}'\n",
                "list.mp4": f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{target}\n#EXT-X-ENDLIST\n",
            }[name]
            (tmp_path / name).write_text(playlist)
            with pytest.raises(InputError, match="cannot be opened as a video"):
                open_video(tmp_path / name)
        server.shutdown()
    assert requests == []


def test_frames_too_large_for_the_memory_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from darkseg_ros.frames import videos

    path = write_video(tmp_path / "drive.mp4", frames=1)
    monkeypatch.setattr(videos, "MAX_IMAGE_BYTES", 48 * 64 * 3 - 1)
    with pytest.raises(InputError, match="declares frames of 64×48"):
        open_video(path)
