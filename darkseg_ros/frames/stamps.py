"""Stamps of messages in whole nanoseconds: what frames are told apart and matched by."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any


def stamp_ns_of(header: Any) -> int:
    """The stamp of a std_msgs/Header, ROS's own or one read from a bag, in nanoseconds."""
    return int(header.stamp.sec) * 1_000_000_000 + int(header.stamp.nanosec)


def stamp_text(stamp_ns: int) -> str:
    """A stamp in seconds, all nine decimals."""
    return f"{stamp_ns // 1_000_000_000}.{stamp_ns % 1_000_000_000:09d}"


def header_of(message: Any) -> Any:
    """Stamp and frame_id of an image message, whatever its type.

    Args:
        message: with a header, or a foxglove_msgs/CompressedVideo, which has a timestamp and a frame_id instead.

    Returns:
        An object with the fields of a std_msgs/Header.
    """
    if hasattr(message, "header"):
        return message.header
    return SimpleNamespace(stamp=message.timestamp, frame_id=message.frame_id)
