from __future__ import annotations

import struct
from pathlib import Path

import lz4.frame
import pytest
from backports import zstd

from darkseg_ros.errors import BagError
from darkseg_ros.frames.bad_frames import BadFrames
from darkseg_ros.frames.bags import BagReader
from darkseg_ros.frames.source import open_frames
from tests.core.frames.storage.mcap_files import (
    FOOTER,
    MAGIC,
    Topic,
    chunk,
    described,
    image_cdr,
    message,
    record,
    text,
    write_mcap,
)

CAMERA = Topic("/camera")
IMAGES = [message(1, stamp_ns, image_cdr(10 * stamp_ns, stamp_ns=stamp_ns)) for stamp_ns in range(1, 5)]


def levels_of(path: Path) -> list[int]:
    return [int(frame.bgr[0, 0, 0]) for frame in open_frames(path, topic="/camera")]


@pytest.mark.parametrize("profile", ["ros2", ""])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_file_without_an_index_reads(tmp_path: Path, profile: str, chunked: bool) -> None:
    content = described([CAMERA]) + b"".join(IMAGES)
    path = write_mcap(tmp_path / "a.mcap", chunk(content) if chunked else content, profile=profile)
    assert levels_of(path) == [10, 20, 30, 40]
    with BagReader(path) as reader:
        assert reader.topics["/camera"].count == 4
        assert reader.duration_ns == 3


def test_messages_come_in_the_order_of_their_recording_whatever_their_place(tmp_path: Path) -> None:
    chunks = chunk(described([CAMERA]) + IMAGES[3] + IMAGES[0]), chunk(IMAGES[2] + IMAGES[1])
    path = write_mcap(tmp_path / "a.mcap", b"".join(chunks))
    assert levels_of(path) == [10, 20, 30, 40]


@pytest.mark.parametrize(("compression", "packed"), [("zstd", zstd.compress), ("lz4", lz4.frame.compress), ("", bytes)])
def test_packed_chunks_read(tmp_path: Path, compression: str, packed: object) -> None:
    assert callable(packed)
    content = described([CAMERA]) + b"".join(IMAGES)
    path = write_mcap(tmp_path / "a.mcap", chunk(content, packed=packed(content), compression=compression))
    assert levels_of(path) == [10, 20, 30, 40]


def test_channels_of_others_are_passed_over_but_named(tmp_path: Path) -> None:
    others = [Topic("/log", "Log", "jsonschema", "json"), Topic("/tf", "foxglove.Tf", "protobuf", "protobuf")]
    content = described([CAMERA, *others]) + message(2, 1, b"{}") + message(3, 1, b"\x08") + IMAGES[0]
    path = write_mcap(tmp_path / "a.mcap", content)
    assert [frame.bgr[0, 0, 0] for frame in open_frames(path)] == [10]
    with BagReader(path) as reader:
        assert list(reader.topics) == ["/camera"]
        assert "/log (jsonschema, not read here)" in reader.contents()
        assert [recorded.topic for recorded in reader.messages()] == ["/camera"]


def test_a_type_may_lack_its_msg(tmp_path: Path) -> None:
    topic = Topic("/camera", "sensor_msgs/Image", "")
    path = write_mcap(tmp_path / "a.mcap", described([topic]) + IMAGES[0])
    assert levels_of(path) == [10]


def test_messages_of_ros_1_are_named_as_such(tmp_path: Path) -> None:
    path = write_mcap(tmp_path / "a.mcap", described([CAMERA]), profile="ros1")
    with pytest.raises(BagError, match="profile 'ros1', expected ros2"), BagReader(path):
        pass


def test_a_message_packed_by_itself_reads(tmp_path: Path) -> None:
    path = write_mcap(tmp_path / "a.mcap", described([CAMERA]) + message(1, 5, zstd.compress(image_cdr(77))))
    assert levels_of(path) == [77]


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
@pytest.mark.parametrize("honest", [False, True])
def test_a_chunk_that_unpacks_to_gigabytes_is_refused(tmp_path: Path, compression: str, honest: bool) -> None:
    """As crafted: 66 kB that become 2 GiB. The pieces are the same, so that the test makes one and repeats it."""
    size = 2**26
    packed = {"zstd": zstd.compress, "lz4": lz4.frame.compress}[compression](bytes(size))
    stated = 2**31 if honest else 1000
    path = write_mcap(tmp_path / "a.mcap", chunk(b"", packed=packed, compression=compression, size=stated))
    with pytest.raises(BagError, match=r"expected at most|would become more than 1000 bytes"), BagReader(path):
        pass


def test_a_message_that_unpacks_to_gigabytes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from darkseg_ros.frames import bags

    monkeypatch.setattr(bags, "MAX_BLOCK_BYTES", 2**20)
    path = write_mcap(tmp_path / "a.mcap", described([CAMERA]) + message(1, 5, zstd.compress(bytes(2**21))))
    with BagReader(path) as reader, pytest.raises(BagError, match="would become more than"):
        list(reader.messages())


@pytest.mark.parametrize(
    "content",
    [
        record(0x05, b"\x01"),
        struct.pack("<BQ", 0x05, 2**62),
        struct.pack("<BQ", 0x06, 2**40) + bytes(40),
        record(0x04, struct.pack("<HH", 1, 1) + struct.pack("<I", 2**31)),
        chunk(struct.pack("<BQ", 0x05, 2**40)),
        chunk(chunk(b"")[:20]),
        chunk(b"abc", compression="rot13"),
    ],
)
def test_a_crafted_record_is_a_bag_error(tmp_path: Path, content: bytes) -> None:
    path = write_mcap(tmp_path / "a.mcap", described([CAMERA]) + content)
    with pytest.raises(BagError, match="cut off or damaged"), BagReader(path) as reader:
        list(reader.messages())


@pytest.mark.parametrize("summary_start", [1, 2**60])
def test_a_footer_that_points_elsewhere_is_a_bag_error(tmp_path: Path, summary_start: int) -> None:
    header = record(0x01, text("ros2") + text(""))
    footer = record(0x02, struct.pack("<QQI", summary_start, 0, 0))
    (tmp_path / "a.mcap").write_bytes(MAGIC + header + footer + MAGIC)
    with pytest.raises(BagError, match="points outside"), BagReader(tmp_path / "a.mcap"):
        pass
    assert len(footer + MAGIC) == len(FOOTER)


def test_qos_that_cannot_be_read_does_not_stop_the_reading(tmp_path: Path) -> None:
    path = write_mcap(tmp_path / "a.mcap", described([Topic("/camera", qos="a: [")]) + IMAGES[0])
    with BagReader(path) as reader:
        assert reader.topics["/camera"].qos == ()
        assert len(list(reader.messages())) == 1


def write_killed(path: Path, records: bytes) -> Path:
    """What a recorder leaves behind that was killed: no end, the last record cut off."""
    whole = write_mcap(path, described([CAMERA]) + records).read_bytes()
    path.write_bytes(whole[: -len(FOOTER)] + chunk(IMAGES[3])[:40])
    return path


def test_a_file_without_an_end_is_read_as_far_as_it_is_whole(tmp_path: Path) -> None:
    path = write_killed(tmp_path / "killed.mcap", chunk(IMAGES[0] + IMAGES[1]) + IMAGES[2])
    with BagReader(path) as reader:
        assert reader.topics["/camera"].count == 3
        messages = reader.messages()
        assert [next(messages).log_stamp_ns for _ in range(3)] == [1, 2, 3]
        with pytest.raises(BagError, match="its end is missing behind 3 whole messages"):
            next(messages)
    told: list[str] = []
    assert len(list(open_frames(path, bad_frames=BadFrames(tell=told.append)))) == 3
    assert "its end is missing" in told[-1]


def test_a_chunk_without_an_end_is_read_as_far_as_it_is_whole_unless_it_is_packed(tmp_path: Path) -> None:
    cut = chunk(IMAGES[0] + IMAGES[1] + IMAGES[2])
    packed = chunk(IMAGES[0] + IMAGES[1] + IMAGES[2], compression="zstd")
    path = tmp_path / "killed.mcap"
    whole = write_mcap(path, described([CAMERA])).read_bytes()[: -len(FOOTER)]
    for kept in range(len(cut)):
        path.write_bytes(whole + cut[:kept])
        messages = max(0, kept - len(cut) + len(IMAGES[0]) * 3) // len(IMAGES[0])
        if not messages:
            with pytest.raises(BagError, match="its end is missing"), BagReader(path):
                pass
            continue
        with BagReader(path) as reader:
            assert reader.topics["/camera"].count == messages
    path.write_bytes(whole + packed[:-1])
    with pytest.raises(BagError, match="its end is missing"), BagReader(path):
        pass


def test_a_file_without_an_end_and_without_a_whole_message_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BagError, match="its end is missing"), BagReader(write_killed(tmp_path / "killed.mcap", b"")):
        pass
