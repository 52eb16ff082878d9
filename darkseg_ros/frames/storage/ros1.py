"""ROS 1 bags: their messages come as those of ROS 2."""

from __future__ import annotations

import bz2
from collections.abc import Collection, Iterator
from functools import partial
from pathlib import Path

import lz4.frame
from rosbags.interfaces import ConnectionExtRosbag1, QosDurability
from rosbags.rosbag1 import Reader
from rosbags.typesys import Stores, get_typestore

from darkseg_ros.errors import BagError
from darkseg_ros.frames.storage.channel import DEFAULT_QOS, MAX_BLOCK_BYTES, Channel, StoredMessage, full_type_name
from darkseg_ros.frames.storage.compression import decompress_block

ROS1_MAGIC = b"#ROSBAG V"

_COMPRESSION_OF = {bz2.decompress: "bz2", lz4.frame.decompress: "lz4"}


class Ros1Storage:
    """An open ROS 1 bag; see `Storage`. Topics of types that ROS 2 does not have are foreign.

    Args:
        path: the file.

    Raises:
        BagError: if a message cannot be turned into one of ROS 2; what rosbags raises where the file is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.foreign: dict[str, str] = {}
        self._typestore = get_typestore(Stores.ROS2_JAZZY)
        self._reader = Reader(path)
        self._reader.open()
        for position, chunk in self._reader.chunks.items():
            compression = _COMPRESSION_OF.get(chunk.decompressor, "")
            within_limits = partial(decompress_block, compression=compression, limit=MAX_BLOCK_BYTES)
            self._reader.chunks[position] = chunk._replace(decompressor=within_limits)
        self.channels = []
        for connection in self._reader.connections:
            message_type = full_type_name(connection.msgtype)
            if message_type not in self._typestore.fielddefs:
                self.foreign[connection.topic] = message_type
                continue
            latched = isinstance(connection.ext, ConnectionExtRosbag1) and connection.ext.latching
            durability = QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE
            qos = (DEFAULT_QOS._replace(durability=durability),)
            self.channels.append(Channel(connection.id, connection.topic, message_type, connection.msgcount, qos))

    def span_ns(self) -> tuple[int, int] | None:
        """See `Storage`."""
        if not self._reader.message_count:
            return None
        return self._reader.start_time, self._reader.end_time - 1  # rosbags counts to just after the last message

    def close(self) -> None:
        """See `Storage`."""
        self._reader.close()

    def messages(self, channels: Collection[int]) -> Iterator[StoredMessage]:
        """See `Storage`."""
        for connection, log_stamp_ns, data in self._reader.messages(
            [connection for connection in self._reader.connections if connection.id in channels]
        ):
            message_type = full_type_name(connection.msgtype)
            try:
                cdr = bytes(self._typestore.ros1_to_cdr(data, message_type))
            except Exception as error:  # rosbags lets through whatever a damaged message provokes
                raise BagError(f"a message of topic {connection.topic} is no {message_type}: {error}") from error
            yield StoredMessage(connection.id, log_stamp_ns, cdr)
