"""Stamps of messages in whole nanoseconds: what frames are told apart and matched by."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from darkseg_ros.errors import ImageMessageError

STAMP_END_NS = 2**31 * 1_000_000_000
"""Stamps in nanoseconds lie before."""


def stamp_ns_of(header: Any) -> int:
    """The stamp of a std_msgs/Header, ROS's own or one read from a bag, in nanoseconds."""
    return int(header.stamp.sec) * 1_000_000_000 + int(header.stamp.nanosec)


def stamp_ns_to_write(header: Any) -> int:
    """The stamp of a message that another one is to bear.

    Raises:
        ImageMessageError: if it lies before 1970 or after 2038, which no stamp can say that is normalised.
    """
    stamp_ns = stamp_ns_of(header)
    if not 0 <= stamp_ns < STAMP_END_NS:
        raise ImageMessageError(
            f"its stamp is {stamp_text(stamp_ns)} s, expected 0…2³¹ s since 1970; set the clock of its publisher"
        )
    return stamp_ns


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
