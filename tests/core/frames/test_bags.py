from __future__ import annotations

import contextlib
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rosbags.highlevel import AnyReader
from rosbags.interfaces import QosDurability
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from darkseg_ros.errors import BagError, InputError
from darkseg_ros.frames.bags import (
    COMPRESSED_TOPIC,
    FRAME_ID,
    IMAGE_TOPIC,
    LABEL_TOPIC,
    START_STAMP_NS,
    BagMessage,
    BagReader,
    BagWriter,
    write_bag_from_video,
)
from darkseg_ros.frames.messages import bgr_from_compressed_image, bgr_from_image, label_map_from_image
from darkseg_ros.frames.storage.channel import DEFAULT_QOS
from tests.core.frames.video_files import write_video

STORAGES = pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
STAMP_NS = 1_600_000_000_123_456_789


def picture(seed: int, *, height: int = 5, width: int = 7) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def write_drive(path: Path, *, storage: str = "mcap", frames: int = 3, size: int = 8) -> Path:
    with BagWriter(path, storage) as writer:
        for index in range(frames):
            stamp_ns = STAMP_NS + index * 100_000_000
            bgr = picture(index, height=size, width=size)
            writer.write_image(IMAGE_TOPIC, bgr, stamp_ns=stamp_ns, frame_id="front")
            class_map = np.full((size, size), index, np.uint8)
            writer.write_image(LABEL_TOPIC, class_map, stamp_ns=stamp_ns, frame_id="front", encoding="mono8")
    return path


def storage_file(bag: Path) -> Path:
    (path,) = [entry for entry in bag.iterdir() if entry.suffix in (".mcap", ".db3")]
    return path


@STORAGES
@pytest.mark.parametrize("by_file", [False, True])
def test_what_was_written_is_read_back_exactly(tmp_path: Path, storage: str, by_file: bool) -> None:
    bag = write_drive(tmp_path / "drive", storage=storage)
    with BagReader(storage_file(bag) if by_file else bag) as reader:
        assert {name: (t.message_type, t.count) for name, t in reader.topics.items()} == {
            IMAGE_TOPIC: ("sensor_msgs/msg/Image", 3),
            LABEL_TOPIC: ("sensor_msgs/msg/Image", 3),
        }
        assert reader.duration_ns == 200_000_000
        recorded = list(reader.messages([IMAGE_TOPIC]))
        messages = [reader.deserialize(message) for message in recorded]
        labels = [reader.deserialize(message) for message in reader.messages([LABEL_TOPIC])]
        assert len(list(reader.messages())) == 6
    assert [message.log_stamp_ns - STAMP_NS for message in recorded] == [0, 100_000_000, 200_000_000]
    for index, message in enumerate(messages):
        np.testing.assert_array_equal(bgr_from_image(message), picture(index, height=8, width=8))
        assert message.header.frame_id == "front"
    assert (messages[1].header.stamp.sec, messages[1].header.stamp.nanosec) == (1_600_000_000, 223_456_789)
    assert [int(label_map_from_image(label)[0, 0]) for label in labels] == [0, 1, 2]


@STORAGES
def test_compressed_images_are_read_back_within_jpeg_loss(tmp_path: Path, storage: str) -> None:
    bgr = np.full((16, 24, 3), (30, 80, 160), np.uint8)
    with BagWriter(tmp_path / "bag", storage) as writer:
        writer.write_compressed_image(COMPRESSED_TOPIC, bgr, stamp_ns=STAMP_NS, frame_id="front")
    with BagReader(tmp_path / "bag") as reader:
        topic = reader.image_topic()
        (message,) = [reader.deserialize(message) for message in reader.messages([topic.name])]
    assert message.format == "bgr8; jpeg compressed bgr8"
    assert np.abs(bgr_from_compressed_image(message).astype(int) - bgr).max() <= 3


@STORAGES
def test_a_bag_says_all_that_rosbag2_wants_to_know(tmp_path: Path, storage: str) -> None:
    bag = write_drive(tmp_path / "drive", storage=storage)
    metadata = (bag / "metadata.yaml").read_text("utf-8")
    suffix = {"mcap": "mcap", "sqlite3": "db3"}[storage]
    for line in (
        "version: 9",
        f"storage_identifier: {storage}",
        f"- drive.{suffix}",
        "message_count: 6",
        f"nanoseconds_since_epoch: {STAMP_NS}",
        "nanoseconds: 200000000",
        "serialization_format: cdr",
        "reliability: reliable",
        "durability: volatile",
        "history: keep_last",
    ):
        assert line in metadata, line
    # the embedded definitions must parse, and hash to the types' published RIHS01 hashes
    with AnyReader([bag]) as reader:
        definitions = {c.topic: c.msgdef.data for c in reader.connections}
        hashes = {c.digest for c in reader.connections}
    assert "uint8[] data" in definitions[IMAGE_TOPIC]
    assert "MSG: std_msgs/Header" in definitions[IMAGE_TOPIC]
    assert hashes == {"RIHS01_d31d41a9a4c4bc8eae9be757b0beed306564f7526c88ea6a4588fb9582527d47"}


# rclpy's own dependency lark imports sre_parse
@pytest.mark.filterwarnings("ignore:module 'sre_:DeprecationWarning")
def test_the_bytes_are_those_of_a_real_ros_message(tmp_path: Path) -> None:
    serialization = pytest.importorskip("rclpy.serialization", reason="rclpy is not installed", exc_type=ImportError)
    sensor_msgs = pytest.importorskip(
        "sensor_msgs.msg", reason="ROS 2 messages are not installed", exc_type=ImportError
    )
    bag = write_drive(tmp_path / "drive", frames=1)
    with BagReader(bag) as reader:
        (recorded,) = reader.messages([IMAGE_TOPIC])
    message = serialization.deserialize_message(recorded.data, sensor_msgs.Image)
    np.testing.assert_array_equal(bgr_from_image(message), picture(0, height=8, width=8))
    assert message.header.frame_id == "front"
    assert message.header.stamp.sec * 10**9 + message.header.stamp.nanosec == STAMP_NS


def test_nothing_is_at_the_path_until_the_bag_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "drive"
    with BagWriter(path) as writer:
        writer.write_image(IMAGE_TOPIC, picture(0), stamp_ns=0, frame_id="")
        assert not path.exists()
    assert [entry.name for entry in path.parent.iterdir()] == ["drive"]
    assert sorted(entry.name for entry in path.iterdir()) == ["drive.mcap", "metadata.yaml"]


@STORAGES
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_exception_leaves_nothing_behind(tmp_path: Path, storage: str, error: type[BaseException]) -> None:
    def write_half() -> None:
        with BagWriter(tmp_path / "drive", storage) as writer:
            writer.write_image(IMAGE_TOPIC, picture(0), stamp_ns=0, frame_id="")
            raise error

    with pytest.raises(error):
        write_half()
    assert list(tmp_path.iterdir()) == []


def test_an_existing_path_is_not_overwritten(tmp_path: Path) -> None:
    bag = write_drive(tmp_path / "drive")
    before = storage_file(bag).read_bytes()
    with pytest.raises(BagError, match="exists already"), BagWriter(bag):
        pass
    assert storage_file(bag).read_bytes() == before


def test_a_place_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BagError, match="cannot be written"), BagWriter(tmp_path / "file" / "drive"):
        pass


def test_an_unknown_storage_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BagError, match="one of mcap, sqlite3, got 'rosbag'"):
        BagWriter(tmp_path / "drive", "rosbag")


def test_a_topic_has_one_type(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "drive") as writer:
        writer.write_image("/a", picture(0), stamp_ns=0, frame_id="")
        with pytest.raises(BagError, match="has type sensor_msgs/msg/Image, got sensor_msgs/msg/Compressed"):
            writer.write_compressed_image("/a", picture(0), stamp_ns=0, frame_id="")


@pytest.mark.parametrize("stamp_ns", [-1, 2**31 * 10**9])
def test_a_stamp_that_no_header_can_hold_is_refused(tmp_path: Path, stamp_ns: int) -> None:
    with (
        pytest.raises(BagError, match="a stamp must be within"),
        BagWriter(tmp_path / "drive") as writer,
    ):
        writer.write_image("/a", picture(0), stamp_ns=stamp_ns, frame_id="")


def test_the_only_camera_topic_is_found_beside_labels(tmp_path: Path) -> None:
    with BagReader(write_drive(tmp_path / "drive")) as reader:
        assert reader.image_topic().name == IMAGE_TOPIC
        assert reader.image_topic(LABEL_TOPIC).name == LABEL_TOPIC


def test_what_the_nodes_publish_for_an_image_is_no_camera(tmp_path: Path) -> None:
    names = (IMAGE_TOPIC, LABEL_TOPIC, "/front/segmentation_node/class_map", "/overlay_node/overlay", "/a/confidence")
    with BagWriter(tmp_path / "drive") as writer:
        for name in names:
            writer.write_image(name, np.zeros((4, 6, 3), np.uint8), stamp_ns=STAMP_NS, frame_id="camera")
    with BagReader(tmp_path / "drive") as reader:
        assert reader.image_topic().name == IMAGE_TOPIC


def test_several_camera_topics_must_be_told_apart(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "drive") as writer:
        for topic in ("/left/image", "/right/image"):
            writer.write_image(topic, picture(0), stamp_ns=0, frame_id="")
    with BagReader(tmp_path / "drive") as reader:
        with pytest.raises(BagError, match="name the one to take: /left/image, /right/image"):
            reader.image_topic()
        assert reader.image_topic("/right/image").name == "/right/image"


def test_a_topic_that_is_not_there_is_answered_with_those_that_are(tmp_path: Path) -> None:
    with BagReader(write_drive(tmp_path / "drive")) as reader:
        with pytest.raises(BagError, match=r"no topic /front; it has /camera/image_raw \(sensor_msgs/msg/Image, 3\)"):
            reader.image_topic("/front")
        with pytest.raises(BagError, match="no topic /front; it has /camera/image_raw"):
            list(reader.messages(["/front"]))


def write_string_bag(path: Path, text: str) -> Path:
    typestore = get_typestore(Stores.ROS2_JAZZY)
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection("/chatter", "std_msgs/msg/String", typestore=typestore)
        string: Any = typestore.types["std_msgs/msg/String"]
        writer.write(connection, 5, typestore.serialize_cdr(string(text), "std_msgs/msg/String"))
    return path


def test_a_bag_without_images_says_what_it_has(tmp_path: Path) -> None:
    with BagReader(write_string_bag(tmp_path / "talk", "hello")) as reader:
        with pytest.raises(BagError, match=r"no topic with camera images; it has /chatter \(std_msgs/msg/String, 1\)"):
            reader.image_topic()
        with pytest.raises(BagError, match=r"topic /chatter of .* holds no images"):
            reader.image_topic("/chatter")
        (message,) = reader.messages()
        assert reader.deserialize(message).data == "hello"


def test_an_empty_bag_says_so(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "empty"):
        pass
    with BagReader(tmp_path / "empty") as reader:
        assert list(reader.messages()) == []
        with pytest.raises(BagError, match="it is empty"):
            reader.image_topic()


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=60), message_type=st.sampled_from(["sensor_msgs/msg/Image", "my_msgs/msg/Secret"]))
def test_bytes_that_are_no_message_raise_bag_error(data: bytes, message_type: str) -> None:
    with contextlib.suppress(BagError):
        BagReader("anywhere").deserialize(BagMessage("/a", message_type, 0, data))


@STORAGES
@pytest.mark.parametrize("by_file", [False, True])
@pytest.mark.parametrize("kept", [0.0, 0.0005, 0.01, 0.3, 0.5, 0.9, 0.999])
def test_a_bag_cut_off_is_an_error_with_cause_and_cure(
    tmp_path: Path, storage: str, by_file: bool, kept: float
) -> None:
    bag = write_drive(tmp_path / "drive", storage=storage, frames=20, size=64)
    file = storage_file(bag)
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * kept)])

    def read_all() -> None:
        with BagReader(file if by_file else bag) as reader:
            for message in reader.messages():
                reader.deserialize(message)

    with pytest.raises(BagError, match=r"cut off or damaged: .*copy it again"):
        read_all()


@STORAGES
def test_a_changed_byte_reads_or_raises_bag_error(tmp_path: Path, storage: str) -> None:
    bag = write_drive(tmp_path / "drive", storage=storage, frames=2, size=4)
    file = storage_file(bag)
    whole = file.read_bytes()

    @settings(max_examples=100, deadline=None)
    @given(position=st.integers(0, len(whole) - 1), value=st.integers(0, 255))
    def change(position: int, value: int) -> None:
        file.write_bytes(whole[:position] + bytes([value]) + whole[position + 1 :])
        with contextlib.suppress(BagError), BagReader(bag) as reader:
            for message in reader.messages():
                reader.deserialize(message)

    change()


def test_a_recording_that_was_not_finished_is_named_as_such(tmp_path: Path) -> None:
    bag = write_drive(tmp_path / "drive")
    (bag / "metadata.yaml").unlink()
    with pytest.raises(BagError, match=r"no metadata\.yaml.*ros2 bag reindex .*itself: .*drive\.mcap$"), BagReader(bag):
        pass
    with BagReader(storage_file(bag)) as reader:
        assert len(list(reader.messages())) == 6


@pytest.mark.parametrize("metadata", ["", "a: [", "[]", "rosbag2_bagfile_information: {version: 99}"])
def test_damaged_metadata_is_an_error(tmp_path: Path, metadata: str) -> None:
    bag = write_drive(tmp_path / "drive")
    (bag / "metadata.yaml").write_text(metadata)
    with pytest.raises(BagError, match=r"metadata\.yaml is damaged .*; run `ros2 bag reindex .*`"), BagReader(bag):
        pass


def test_a_bag_whose_storage_file_is_gone_is_an_error(tmp_path: Path) -> None:
    bag = write_drive(tmp_path / "drive")
    storage_file(bag).rename(bag / "renamed.mcap")
    cure = r"drive\.mcap, which .*metadata\.yaml names, is missing.*renamed, run `ros2 bag reindex"
    with pytest.raises(BagError, match=cure), BagReader(bag):
        pass


def test_what_is_no_bag_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(b"")
    for path, part_of_error in (
        (tmp_path / "missing", "does not exist"),
        (tmp_path, "is not a bag"),
        (tmp_path / "picture.png", "is not a bag"),
    ):
        with pytest.raises(BagError, match=part_of_error), BagReader(path):
            pass


@STORAGES
def test_a_video_becomes_a_bag_with_exact_stamps(tmp_path: Path, storage: str) -> None:
    video = write_video(tmp_path / "drive.mp4", frames=5, rate_hz=30)
    assert write_bag_from_video(video, tmp_path / "bag", storage=storage) == 5
    with BagReader(tmp_path / "bag") as reader:
        assert reader.image_topic().name == IMAGE_TOPIC
        recorded = list(reader.messages())
        messages = [reader.deserialize(message) for message in recorded]
    offsets = [message.log_stamp_ns - START_STAMP_NS for message in recorded]
    assert offsets == [0, 33_333_333, 66_666_667, 100_000_000, 133_333_333]
    for index, message in enumerate(messages):
        stamp = message.header.stamp
        assert stamp.sec * 10**9 + stamp.nanosec == recorded[index].log_stamp_ns
        assert (message.header.frame_id, message.encoding) == (FRAME_ID, "bgr8")
        assert abs(bgr_from_image(message).mean() - 20 * index) < 8


def test_a_video_of_a_varying_rate_keeps_its_times(tmp_path: Path) -> None:
    times_ms = [0, 120, 200, 320, 1320]
    video = write_video(tmp_path / "drive.mkv", frames=5, rate_hz=25, times_ms=times_ms)
    write_bag_from_video(video, tmp_path / "bag")
    with BagReader(tmp_path / "bag") as reader:
        offsets = [message.log_stamp_ns - START_STAMP_NS for message in reader.messages()]
    assert offsets == [time * 1_000_000 for time in times_ms]


def test_topic_frame_start_and_rate_can_be_chosen(tmp_path: Path) -> None:
    video = write_video(tmp_path / "drive.mp4", frames=3, rate_hz=30)
    frames = write_bag_from_video(
        video,
        tmp_path / "bag",
        compressed=True,
        topic="/front/image/compressed",
        frame_id="front",
        start_stamp_ns=7,
        rate_hz=2,
    )
    assert frames == 3
    with BagReader(tmp_path / "bag") as reader:
        assert reader.image_topic().message_type == "sensor_msgs/msg/CompressedImage"
        recorded = list(reader.messages(["/front/image/compressed"]))
        assert reader.deserialize(recorded[0]).header.frame_id == "front"
    assert [message.log_stamp_ns for message in recorded] == [7, 500_000_007, 1_000_000_007]


@pytest.mark.parametrize("compressed", [False, True])
def test_the_same_video_gives_the_same_messages(tmp_path: Path, compressed: bool) -> None:
    video = write_video(tmp_path / "drive.mp4", frames=4)
    recordings = []
    for name in ("one", "two"):
        write_bag_from_video(video, tmp_path / name, compressed=compressed)
        with BagReader(tmp_path / name) as reader:
            recordings.append(list(reader.messages()))
    assert recordings[0] == recordings[1]
    assert recordings[0][0].topic == (COMPRESSED_TOPIC if compressed else IMAGE_TOPIC)


@pytest.mark.parametrize("frames_kept", [(0, 1.0), (60, 0.5), (60, 0.0)])
@pytest.mark.parametrize("name", ["drive.mp4", "drive.avi"])
def test_a_broken_video_leaves_no_bag_behind(tmp_path: Path, name: str, frames_kept: tuple[int, float]) -> None:
    frames, kept = frames_kept
    video = write_video(tmp_path / name, frames=frames)
    content = video.read_bytes()
    video.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(InputError, match=name):
        write_bag_from_video(video, tmp_path / "bag")
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("rate_hz", [0, -1, math.nan, math.inf])
def test_a_rate_must_be_positive(tmp_path: Path, rate_hz: float) -> None:
    video = write_video(tmp_path / "drive.mp4", frames=2)
    with pytest.raises(InputError, match="positive number"):
        write_bag_from_video(video, tmp_path / "bag", rate_hz=rate_hz)


@STORAGES
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("reliability: reliable", "reliability: best_effort"),
        ("durability: volatile", "durability: transient_local"),
        ("storage_identifier: mcap", "storage_identifier: ''"),
        ("storage_identifier: sqlite3", "storage_identifier: ''"),
        ("type: sensor_msgs/msg/Image", "type: sensor_msgs/Image"),
        ("serialization_format: cdr", "serialization_format: ''"),
    ],
)
def test_metadata_edited_by_hand_does_not_hide_a_topic(tmp_path: Path, storage: str, old: str, new: str) -> None:
    bag = write_drive(tmp_path / "drive", storage=storage)
    metadata = (bag / "metadata.yaml").read_text("utf-8").replace(old, new)
    (bag / "metadata.yaml").write_text(metadata, "utf-8")
    with BagReader(bag) as reader:
        assert {name: topic.count for name, topic in reader.topics.items()} == {IMAGE_TOPIC: 3, LABEL_TOPIC: 3}
        assert len(list(reader.messages())) == 6


@STORAGES
def test_a_bag_that_lost_one_message_is_not_whole(tmp_path: Path, storage: str) -> None:
    bag = write_drive(tmp_path / "drive", storage=storage)
    metadata = (bag / "metadata.yaml").read_text("utf-8")
    assert metadata.count("message_count: 3") == 2
    (bag / "metadata.yaml").write_text(metadata.replace("message_count: 3", "message_count: 4", 1), "utf-8")
    with BagReader(bag) as reader, pytest.raises(BagError, match="1 recorded messages are missing"):
        list(reader.messages())


@STORAGES
def test_a_split_bag_comes_in_the_order_of_its_recording(tmp_path: Path, storage: str) -> None:
    suffix = {"mcap": "mcap", "sqlite3": "db3"}[storage]
    folder = tmp_path / "split"
    folder.mkdir()
    for part in (0, 1):
        with BagWriter(tmp_path / f"part{part}", storage) as writer:
            for index in range(2):
                stamp_ns = STAMP_NS + (2 * part + index) * 100
                writer.write_image(IMAGE_TOPIC, picture(2 * part + index), stamp_ns=stamp_ns, frame_id="")
        storage_file(tmp_path / f"part{part}").rename(folder / f"split_{9 - part}.{suffix}")
    metadata = (tmp_path / "part0" / "metadata.yaml").read_text("utf-8")
    metadata = metadata.replace(f"- part0.{suffix}", f"- split_8.{suffix}\n  - split_9.{suffix}")
    (folder / "metadata.yaml").write_text(metadata.replace("message_count: 2", "message_count: 4"), "utf-8")
    with BagReader(folder) as reader:
        stamps = [message.log_stamp_ns - STAMP_NS for message in reader.messages()]
        assert reader.duration_ns == 300
    assert stamps == [0, 100, 200, 300]


def test_what_is_copied_keeps_its_quality_of_service(tmp_path: Path) -> None:
    latched = DEFAULT_QOS._replace(durability=QosDurability.TRANSIENT_LOCAL, depth=1)
    typestore = get_typestore(Stores.ROS2_JAZZY)
    string: Any = typestore.types["std_msgs/msg/String"]
    with Writer(tmp_path / "from", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection(
            "/info", "std_msgs/msg/String", typestore=typestore, offered_qos_profiles=[latched]
        )
        writer.write(connection, 5, typestore.serialize_cdr(string("hello"), "std_msgs/msg/String"))
    with BagReader(tmp_path / "from") as reader, BagWriter(tmp_path / "to") as copy:
        for message in reader.messages():
            copy.copy(message, qos=reader.topics[message.topic].qos)
    with BagReader(tmp_path / "to") as reader:
        assert reader.topics["/info"].qos == (latched,)


def test_huge_metadata_is_refused_before_it_is_read(tmp_path: Path) -> None:
    bag = write_drive(tmp_path / "drive")
    with (bag / "metadata.yaml").open("ab") as file:
        file.truncate(2**22)
    with pytest.raises(BagError, match=r"metadata\.yaml has 4194304 bytes"), BagReader(bag):
        pass


@pytest.mark.parametrize("name", ["/etc/hostname", "../../drive.mcap", "drive.mcap/../../other"])
def test_metadata_names_no_file_outside_of_the_bag(tmp_path: Path, name: str) -> None:
    bag = write_drive(tmp_path / "drive")
    storage_file(bag).rename(tmp_path / "drive.mcap")
    metadata = (bag / "metadata.yaml").read_text("utf-8")
    (bag / "metadata.yaml").write_text(metadata.replace("- drive.mcap", f"- {name}"), "utf-8")
    with pytest.raises(BagError, match="is missing"), BagReader(bag):
        pass


def test_a_pipe_in_a_bag_is_never_opened(tmp_path: Path) -> None:
    bag = write_drive(tmp_path / "drive")
    storage_file(bag).unlink()
    os.mkfifo(bag / "drive.mcap")
    os.mkfifo(tmp_path / "lonely.mcap")
    with pytest.raises(BagError, match="no regular file"), BagReader(bag):
        pass
    with pytest.raises(BagError, match="is not a bag"), BagReader(tmp_path / "lonely.mcap"):
        pass
