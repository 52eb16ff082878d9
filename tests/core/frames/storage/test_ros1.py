from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rosbags.interfaces import QosDurability
from rosbags.rosbag1 import Writer
from rosbags.typesys import Stores, get_typestore

from darkseg_ros.errors import BagError
from darkseg_ros.frames.bags import BagReader
from darkseg_ros.frames.source import open_frames

CUSTOM = "my_msgs/msg/Secret"


def write_ros1_bag(path: Path, *, compression: Any = None, frames: int = 3) -> Path:
    typestore = get_typestore(Stores.ROS1_NOETIC)
    typestore.register({CUSTOM: ([], [("value", (1, ("int32", 0)))])})
    types: Any = typestore.types
    writer = Writer(path)
    if compression:
        writer.set_compression(compression)
    with writer:
        image = writer.add_connection("/camera", "sensor_msgs/msg/Image", typestore=typestore)
        note = writer.add_connection("/note", "std_msgs/msg/String", typestore=typestore, latching=1)
        secret = writer.add_connection("/secret", CUSTOM, typestore=typestore)
        text = types["std_msgs/msg/String"]("hello")
        writer.write(note, 1, typestore.serialize_ros1(text, "std_msgs/msg/String"))
        writer.write(secret, 1, typestore.serialize_ros1(types[CUSTOM](7), CUSTOM))
        for index in range(frames):
            stamp = types["builtin_interfaces/msg/Time"](index, 5)
            header = types["std_msgs/msg/Header"](index, stamp, "front")
            pixels = np.full(6, 10 * index, np.uint8)
            message = types["sensor_msgs/msg/Image"](header, 2, 3, "mono8", 0, 3, pixels)
            writer.write(image, 10**9 + index, typestore.serialize_ros1(message, "sensor_msgs/msg/Image"))
    return path


@pytest.mark.parametrize("compression", [None, Writer.CompressionFormat.BZ2, Writer.CompressionFormat.LZ4])
def test_a_bag_of_ros_1_gives_the_frames_of_ros_2(tmp_path: Path, compression: Any) -> None:
    frames = list(open_frames(write_ros1_bag(tmp_path / "old.bag", compression=compression)))
    assert [frame.bgr[0, 0, 0] for frame in frames] == [0, 10, 20]
    assert [(frame.stamp_ns, frame.frame_id) for frame in frames] == [(i * 10**9 + 5, "front") for i in range(3)]


def test_its_name_does_not_matter_and_latched_topics_stay_latched(tmp_path: Path) -> None:
    write_ros1_bag(tmp_path / "old.bag").rename(tmp_path / "old.mcap")
    with BagReader(tmp_path / "old.mcap") as reader:
        durability = {name: topic.qos[0].durability for name, topic in reader.topics.items()}
        assert durability == {"/camera": QosDurability.VOLATILE, "/note": QosDurability.TRANSIENT_LOCAL}
        assert "/secret (my_msgs/msg/Secret, not read here)" in reader.contents()
        assert reader.duration_ns == 10**9 + 1
        (note,) = reader.messages(["/note"])
        assert reader.deserialize(note).data == "hello"


@pytest.mark.parametrize("kept", [0.01, 0.5, 0.95])
def test_a_bag_of_ros_1_that_is_cut_off_is_a_bag_error(tmp_path: Path, kept: float) -> None:
    path = write_ros1_bag(tmp_path / "old.bag")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    with pytest.raises(BagError, match="cut off or damaged"), BagReader(path) as reader:
        list(reader.messages())
