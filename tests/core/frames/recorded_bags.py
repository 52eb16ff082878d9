"""Bags as a recorder writes them: each message some time after its stamp."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from darkseg_ros.frames.bags import IMAGE_TYPE
from darkseg_ros.frames.messages import fill_image


@dataclass(frozen=True)
class Recorded:
    """An image message: (H, W) uint8 becomes mono8, (H, W, 3) bgr8."""

    topic: str
    stamp_ns: int
    pixels: np.ndarray
    recorded_ns: int


def write_recorded_bag(path: Path, messages: Iterable[Recorded]) -> Path:
    """Write an mcap bag."""
    typestore = get_typestore(Stores.ROS2_JAZZY)
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connections = {}
        for recorded in messages:
            if recorded.topic not in connections:
                connections[recorded.topic] = writer.add_connection(recorded.topic, IMAGE_TYPE, typestore=typestore)
            sec, nanosec = divmod(recorded.stamp_ns, 10**9)
            header = SimpleNamespace(stamp=SimpleNamespace(sec=sec, nanosec=nanosec), frame_id="camera")
            encoding = "mono8" if recorded.pixels.ndim == 2 else "bgr8"
            message = fill_image(SimpleNamespace(), recorded.pixels, encoding=encoding, header=header)
            message.data = np.frombuffer(message.data, np.uint8)
            data = typestore.serialize_cdr(message, IMAGE_TYPE)
            writer.write(connections[recorded.topic], recorded.recorded_ns, data)
    return path
