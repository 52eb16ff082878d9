"""MCAP files record by record, for tests: also such as no recorder writes."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from rosbags.typesys import Stores, get_typestore

from darkseg_ros.frames.bags import IMAGE_TYPE
from darkseg_ros.frames.messages import fill_image

MAGIC = b"\x89MCAP0\r\n"
FOOTER = b"\x02" + struct.pack("<QQQI", 20, 0, 0, 0) + MAGIC


@dataclass(frozen=True)
class Topic:
    """A channel with its schema."""

    name: str
    type_name: str = IMAGE_TYPE
    schema_encoding: str = "ros2msg"
    encoding: str = "cdr"
    qos: str = ""


def image_cdr(level: int, *, stamp_ns: int = 0, size: int = 4) -> bytes:
    """A grey sensor_msgs/Image of one level."""
    sec, nanosec = divmod(stamp_ns, 10**9)
    header = SimpleNamespace(stamp=SimpleNamespace(sec=sec, nanosec=nanosec), frame_id="camera")
    message = fill_image(SimpleNamespace(), np.full((size, size), level, np.uint8), encoding="mono8", header=header)
    message.data = np.frombuffer(message.data, np.uint8)
    return bytes(get_typestore(Stores.ROS2_JAZZY).serialize_cdr(message, IMAGE_TYPE))


def text(value: str) -> bytes:
    """A string of the format."""
    return struct.pack("<I", len(value.encode())) + value.encode()


def record(kind: int, content: bytes) -> bytes:
    """A record of the format."""
    return struct.pack("<BQ", kind, len(content)) + content


def described(topics: Sequence[Topic]) -> bytes:
    """The schema and channel records of topics, numbered from 1."""
    records = b""
    for key, topic in enumerate(topics, start=1):
        schema = struct.pack("<H", key) + text(topic.type_name) + text(topic.schema_encoding) + text("")
        qos = text("offered_qos_profiles") + text(topic.qos) if topic.qos else b""
        channel = struct.pack("<HH", key, key) + text(topic.name) + text(topic.encoding)
        records += record(0x03, schema) + record(0x04, channel + struct.pack("<I", len(qos)) + qos)
    return records


def message(channel: int, log_stamp_ns: int, data: bytes) -> bytes:
    """A message record."""
    return record(0x05, struct.pack("<HIQQ", channel, 0, log_stamp_ns, log_stamp_ns) + data)


def chunk(content: bytes, *, packed: bytes | None = None, compression: str = "", size: int | None = None) -> bytes:
    """A chunk record around other records.

    Args:
        content: the records.
        packed: the same compressed.
        compression: how.
        size: what the chunk says that its content has, in the place of the truth.
    """
    stored = content if packed is None else packed
    start = struct.pack("<QQQI", 0, 0, len(content) if size is None else size, 0)
    return record(0x06, start + text(compression) + struct.pack("<Q", len(stored)) + stored)


def write_mcap(path: Path, records: bytes, *, profile: str = "ros2") -> Path:
    """Write a file without an index, as a streaming recorder does."""
    path.write_bytes(MAGIC + record(0x01, text(profile) + text("test")) + records + FOOTER)
    return path
