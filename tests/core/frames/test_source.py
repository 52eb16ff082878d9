from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from darkseg_ros.errors import BagError, InputError
from darkseg_ros.frames import bags
from darkseg_ros.frames.bad_frames import BadFrames
from darkseg_ros.frames.bags import IMAGE_TYPE, BagMessage, BagReader, BagWriter, write_bag_from_video
from darkseg_ros.frames.source import FRAME_ID, FrameSelection, open_frames, read_image
from tests.core.frames import video_streams
from tests.core.frames.video_files import write_video


def picture(seed: int, *, height: int = 5, width: int = 7) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def write_picture(path: Path, pixels: np.ndarray) -> Path:
    assert cv2.imwrite(str(path), pixels)
    return path


@pytest.mark.parametrize("name", ["street.png", "street.PNG", "street.bmp", "street.tiff", "street.ppm"])
def test_an_image_file_is_one_exact_frame(tmp_path: Path, name: str) -> None:
    source = open_frames(write_picture(tmp_path / name, picture(0)))
    assert (source.kind, source.count, source.rate_hz) == ("image", 1, None)
    (frame,) = source
    np.testing.assert_array_equal(frame.bgr, picture(0))
    assert (frame.name, frame.stamp_ns, frame.frame_id) == ("street", 0, FRAME_ID)


def test_a_grey_16_bit_image_becomes_bgr_of_8_bits(tmp_path: Path) -> None:
    path = write_picture(tmp_path / "deep.png", np.full((2, 3), 200 * 256 + 9, np.uint16))
    assert (read_image(path) == 200).all()
    assert read_image(path).shape == (2, 3, 3)


def test_a_folder_comes_in_the_order_of_its_names_and_of_any_sizes(tmp_path: Path) -> None:
    for name, seed, size in (("b.png", 1, 3), ("a.bmp", 0, 9), ("c.PNG", 2, 1)):
        write_picture(tmp_path / name, picture(seed, height=size, width=size))
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "._a.png").write_bytes(b"left by another system")
    (tmp_path / "folder.png").mkdir()
    source = open_frames(str(tmp_path))
    assert (source.kind, source.count) == ("folder", 3)
    for _ in range(2):  # every iteration starts anew
        frames = list(source)
        assert [frame.name for frame in frames] == ["a", "b", "c"]
        assert [frame.bgr.shape[0] for frame in frames] == [9, 3, 1]


@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.95])
@pytest.mark.parametrize("name", ["broken.jpg", "broken.png"])
def test_a_broken_image_in_a_folder_is_named_when_its_turn_comes(tmp_path: Path, name: str, kept: float) -> None:
    write_picture(tmp_path / "a.png", picture(0))
    content = write_picture(tmp_path / name, picture(1, height=40, width=40)).read_bytes()
    (tmp_path / name).write_bytes(content[: int(len(content) * kept)])
    frames = iter(open_frames(tmp_path))
    assert next(frames).name == "a"
    with pytest.raises(InputError, match=r"broken\.(jpg|png) cannot be decoded"):
        next(frames)


@pytest.mark.parametrize("name", ["fake.bmp", "fake.tif", "fake.webp"])
@pytest.mark.parametrize("content", [b"", b"not an image"])
def test_what_is_no_image_is_an_error(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match="cannot be decoded"):
        list(open_frames(tmp_path / name))


def test_two_images_of_one_stem_are_told_apart_before_anything_is_overwritten(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", picture(0))
    write_picture(tmp_path / "a.bmp", picture(0))
    with pytest.raises(InputError, match="share a stem"):
        open_frames(tmp_path)


def test_a_folder_without_images_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(InputError, match=r"holds no images; expected files ending in \.jpg"):
        open_frames(tmp_path)


def test_a_missing_input_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist; expected an image, a folder"):
        open_frames(tmp_path / "missing.mp4")


def test_a_video_is_stamped_from_its_start(tmp_path: Path) -> None:
    source = open_frames(write_video(tmp_path / "drive.mp4", frames=4, rate_hz=30))
    assert (source.kind, source.count, source.rate_hz) == ("video", 4, 30.0)
    frames = list(source)
    assert [frame.stamp_ns for frame in frames] == [0, 33_333_333, 66_666_667, 100_000_000]
    assert [frame.name for frame in frames] == [f"drive_{index:06d}" for index in range(4)]
    assert {frame.frame_id for frame in frames} == {FRAME_ID}


def test_a_time_beyond_the_end_is_an_error(tmp_path: Path) -> None:
    video = write_video(tmp_path / "drive.mp4", frames=4, rate_hz=10)
    with pytest.raises(InputError, match=r"drive\.mp4 has no frame 0\.4 s or more after its first one; begin earlier"):
        list(open_frames(video, selection=FrameSelection(start_s=0.4)))
    assert len(list(open_frames(video, selection=FrameSelection(start_s=0.3)))) == 1


def test_a_video_cut_off_is_an_error_unless_bad_frames_are_collected(tmp_path: Path) -> None:
    content = write_video(tmp_path / "drive.avi", frames=60).read_bytes()
    (tmp_path / "cut.avi").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError):
        list(open_frames(tmp_path / "cut.avi"))
    told: list[str] = []
    assert 10 < len(list(open_frames(tmp_path / "cut.avi", bad_frames=BadFrames(tell=told.append)))) < 50
    assert "cut off" in told[-1]


def test_a_broken_image_in_a_folder_is_left_out_and_counted(tmp_path: Path) -> None:
    for seed, name in enumerate(("a.png", "b.png", "c.png")):
        write_picture(tmp_path / name, picture(seed))
    (tmp_path / "b.png").write_bytes((tmp_path / "b.png").read_bytes()[:-20])
    told: list[str] = []
    bad_frames = BadFrames(tell=told.append)
    assert [frame.name for frame in open_frames(tmp_path, bad_frames=bad_frames)] == ["a", "c"]
    assert bad_frames.count == 1
    assert "b.png cannot be decoded" in told[0]


def test_a_folder_of_broken_images_is_an_error(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(InputError, match="none of the 2 images"):
        list(open_frames(tmp_path, bad_frames=BadFrames(tell=lambda _: None)))


def test_the_only_image_that_is_broken_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    for path in (tmp_path, tmp_path / "a.png"):
        told: list[str] = []
        with pytest.raises(InputError, match=r"a\.png cannot be decoded"):
            list(open_frames(path, bad_frames=BadFrames(tell=told.append)))
        assert told == []


def test_a_still_picture_in_boxes_is_whole(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "street.avif"), picture(3))
    told: list[str] = []
    assert len(list(open_frames(tmp_path / "street.avif", bad_frames=BadFrames(tell=told.append)))) == 1
    assert told == []


@pytest.mark.parametrize("name", ["street", "street.mp4", "street.jpg", "street.mcap"])
def test_an_image_is_known_by_its_content(tmp_path: Path, name: str) -> None:
    write_picture(tmp_path / "street.png", picture(3)).rename(tmp_path / name)
    source = open_frames(tmp_path / name)
    assert source.kind == "image"
    (frame,) = source
    np.testing.assert_array_equal(frame.bgr, picture(3))


@pytest.mark.parametrize("name", ["drive", "drive.png", "drive.bag", "drive.mcap", "drive.db3"])
def test_a_video_is_known_by_its_content(tmp_path: Path, name: str) -> None:
    write_video(tmp_path / "drive.mp4", frames=3).rename(tmp_path / name)
    source = open_frames(tmp_path / name)
    assert source.kind == "video"
    assert len(list(source)) == 3


def test_a_file_of_unknown_kind_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no video")
    with pytest.raises(InputError, match="cannot be opened as a video"):
        open_frames(tmp_path / "notes.txt")


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_bag_gives_its_stamps_and_frame_ids(tmp_path: Path, storage: str) -> None:
    with BagWriter(tmp_path / "drive", storage) as writer:
        for index in range(3):
            stamp_ns = 1_600_000_000_000_000_007 + index * 50_000_000
            writer.write_image("/front", picture(index), stamp_ns=stamp_ns, frame_id=f"front_{index}")
    source = open_frames(tmp_path / "drive")
    assert (source.kind, source.count, source.rate_hz) == ("bag", 3, 20.0)
    frames = list(source)
    assert [frame.stamp_ns for frame in frames] == [1_600_000_000_000_000_007 + i * 50_000_000 for i in range(3)]
    assert [frame.frame_id for frame in frames] == ["front_0", "front_1", "front_2"]
    assert [frame.name for frame in frames] == ["drive_000000", "drive_000001", "drive_000002"]
    for index, frame in enumerate(frames):
        np.testing.assert_array_equal(frame.bgr, picture(index))
    storage_file = next(path for path in (tmp_path / "drive").iterdir() if path.suffix in (".mcap", ".db3"))
    assert len(list(open_frames(storage_file))) == 3


def test_a_bag_made_from_a_video_holds_the_same_frames(tmp_path: Path) -> None:
    video = write_video(tmp_path / "drive.mp4", frames=4)
    write_bag_from_video(video, tmp_path / "raw", start_stamp_ns=0)
    write_bag_from_video(video, tmp_path / "jpeg", start_stamp_ns=0, compressed=True)
    for expected, raw, jpeg in zip(
        open_frames(video), open_frames(tmp_path / "raw"), open_frames(tmp_path / "jpeg"), strict=True
    ):
        np.testing.assert_array_equal(raw.bgr, expected.bgr)
        assert raw.stamp_ns == jpeg.stamp_ns == expected.stamp_ns
        assert raw.frame_id == jpeg.frame_id == expected.frame_id
        assert np.abs(jpeg.bgr.astype(int) - expected.bgr).max() <= 4


def test_one_of_several_camera_topics_is_chosen_by_name(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "drive") as writer:
        for seed, topic in enumerate(("/left", "/right")):
            writer.write_image(topic, picture(seed), stamp_ns=5, frame_id=topic)
    with pytest.raises(BagError, match="name the one to take"):
        open_frames(tmp_path / "drive")
    with pytest.raises(BagError, match="no topic /rear; it has /left"):
        open_frames(tmp_path / "drive", topic="/rear")
    (frame,) = open_frames(tmp_path / "drive", topic="/right")
    assert (frame.frame_id, frame.stamp_ns) == ("/right", 5)


def test_an_input_that_may_not_be_read_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(path: Path, *arguments: Any) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    image = write_picture(tmp_path / "a.png", picture(0))
    video = write_video(tmp_path / "drive.mp4", frames=1)
    monkeypatch.setattr(Path, "iterdir", deny)
    monkeypatch.setattr(Path, "open", deny)
    monkeypatch.setattr(Path, "read_bytes", deny)
    for path in (tmp_path, image, video):
        with pytest.raises(InputError, match="cannot be read: Permission denied"):
            list(open_frames(path))


def test_a_topic_makes_sense_for_bags_only(tmp_path: Path) -> None:
    path = write_picture(tmp_path / "a.png", picture(0))
    with pytest.raises(InputError, match="not a bag; leave the topic out"):
        open_frames(path, topic="/camera")


def test_a_message_that_cannot_be_decoded_names_topic_and_position(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with BagWriter(tmp_path / "drive") as writer:
        for index in range(2):
            writer.write_image("/front", picture(index), stamp_ns=index, frame_id="")
    deserialize = BagReader.deserialize

    def deserialize_with_unknown_encoding(reader: BagReader, recorded: BagMessage) -> Any:
        message = deserialize(reader, recorded)
        assert message.__msgtype__ == IMAGE_TYPE
        if recorded.log_stamp_ns == 1:
            message.encoding = "32FC1"
        return message

    monkeypatch.setattr(BagReader, "deserialize", deserialize_with_unknown_encoding)
    frames = iter(open_frames(tmp_path / "drive"))
    next(frames)
    with pytest.raises(InputError, match=r"message 1 of topic /front .*encoding '32FC1'"):
        next(frames)


@pytest.mark.parametrize("name", ["drive", "drive.mp4", "drive.bag", "drive.db3"])
def test_a_bag_is_known_by_its_content(tmp_path: Path, name: str) -> None:
    with BagWriter(tmp_path / "bag") as writer:
        writer.write_image("/front", picture(0), stamp_ns=1, frame_id="")
    (tmp_path / "bag" / "bag.mcap").rename(tmp_path / name)
    source = open_frames(tmp_path / name)
    assert source.kind == "bag"
    assert len(list(source)) == 1


@pytest.mark.parametrize("kind", ["foxglove_msgs/msg/CompressedVideo", "ffmpeg_image_transport_msgs/msg/FFMPEGPacket"])
def test_video_in_a_bag_comes_from_its_first_keyframe_on(tmp_path: Path, kind: str) -> None:
    make: Any = video_streams.compressed_video if kind.startswith("foxglove") else video_streams.ffmpeg_packet
    expected = video_streams.pictures(12)
    packets = [make(data, index=index) for index, data in enumerate(video_streams.encode(expected))]
    with BagWriter(tmp_path / "drive") as writer:
        for index, packet in enumerate(packets[5:]):  # the recording began between keyframes, which come each 8
            packet.data = np.frombuffer(packet.data, np.uint8)
            writer.copy(BagMessage("/camera/video", kind, 10**18 + index, serialize(packet, kind)))
    bad_frames = BadFrames(tell=lambda _: None)
    frames = list(open_frames(tmp_path / "drive", bad_frames=bad_frames))
    assert bad_frames.count == 3
    assert [frame.name for frame in frames] == [f"drive_{index:06d}" for index in range(3, 7)]
    assert frames[0].stamp_ns == 100 * 10**9 + 8 * 33_333_333
    assert frames[0].frame_id == "camera"
    for frame, bgr in zip(frames, expected[8:], strict=True):
        assert np.abs(frame.bgr.astype(int) - bgr).mean() < 6


@pytest.mark.parametrize("kind", ["foxglove_msgs/msg/CompressedVideo", "ffmpeg_image_transport_msgs/msg/FFMPEGPacket"])
@pytest.mark.parametrize("codec", ["h264", "h265"])
def test_packets_that_a_bag_lacks_are_counted(tmp_path: Path, kind: str, codec: str) -> None:
    packets: list[Any] = []
    for index, data in enumerate(video_streams.encode(video_streams.pictures(12), codec=codec)):
        if kind.startswith("foxglove"):
            packets.append(video_streams.compressed_video(data, index=index, codec=codec))
        else:
            packets.append(video_streams.ffmpeg_packet(data, index=index, encoding=codec))
    with BagWriter(tmp_path / "drive") as writer:
        for index, packet in enumerate(packets):
            packet.data = np.frombuffer(packet.data, np.uint8)
            if index not in (2, 3, 9):
                writer.copy(BagMessage("/camera/video", kind, 10**18 + index, serialize(packet, kind)))
    bad_frames = BadFrames(tell=lambda _: None)
    assert len(list(open_frames(tmp_path / "drive", bad_frames=bad_frames))) == 3  # 0, 1 and keyframe 8
    assert (bad_frames.count, bad_frames.lost_packets) == (6, 3)


def serialize(message: Any, kind: str) -> bytes:
    return bytes(bags._image_types().serialize_cdr(message, kind))


def test_a_bag_damaged_on_the_way_gives_the_frames_before_and_a_word(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "drive") as writer:
        for index in range(3):  # each larger than a chunk
            writer.write_image("/front", picture(index, height=640, width=640), stamp_ns=index, frame_id="")
    (file,) = (tmp_path / "drive").glob("*.mcap")
    content = bytearray(file.read_bytes())
    place = content.index(picture(1, height=640, width=640).tobytes()[:64]) - 120
    content[place : place + 110] = b"\xff" * 110
    file.write_bytes(content)
    told: list[str] = []
    frames = list(open_frames(tmp_path / "drive", bad_frames=BadFrames(tell=told.append)))
    assert [frame.name for frame in frames] == ["drive_000000"]
    assert "is cut off or damaged" in told[-1]
    with pytest.raises(InputError, match="is cut off or damaged"):
        list(open_frames(tmp_path / "drive"))
