"""What every storage of recorded messages offers."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, Protocol

from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2.metadata import parse_qos

from darkseg_ros.errors import BagError

MAX_BLOCK_BYTES = 2**29
"""Largest chunk or message once decompressed: twice the largest image. A larger one is taken for a bomb."""

_MAX_QOS_CHARACTERS = 2**16

_INFINITE = QosTime(9223372036, 854775807)
DEFAULT_QOS = Qos(
    history=QosHistory.KEEP_LAST,
    depth=10,
    reliability=QosReliability.RELIABLE,
    durability=QosDurability.VOLATILE,
    deadline=_INFINITE,
    lifespan=_INFINITE,
    liveliness=QosLiveliness.AUTOMATIC,
    liveliness_lease_duration=_INFINITE,
    avoid_ros_namespace_conventions=False,
)
"""Of topics that have none recorded: reliable reaches best-effort and reliable subscribers alike."""


class StoredMessage(NamedTuple):
    """A message as it was recorded: the key of its channel, nanoseconds since 1970, and the CDR."""

    channel: int
    log_stamp_ns: int
    data: bytes


@dataclass(frozen=True)
class Channel:
    """What one storage holds under one name.

    Attributes:
        key: the storage's own number of it.
        topic: its name.
        message_type: as in ``sensor_msgs/msg/Image``.
        count: messages.
        qos: what its publishers offered; empty where it was not recorded.
    """

    key: int
    topic: str
    message_type: str
    count: int
    qos: tuple[Qos, ...] = ()


class Storage(Protocol):
    """An open file of recorded messages.

    Attributes:
        channels: of ROS messages.
        foreign: topics that no ROS 2 node published, with their encoding; they are not read.
    """

    channels: list[Channel]
    foreign: dict[str, str]

    def span_ns(self) -> tuple[int, int] | None:
        """Recording times of the first and last message, None if there is none."""

    def messages(self, channels: Collection[int]) -> Iterator[StoredMessage]:
        """Messages of these channels in the order of their recording."""

    def close(self) -> None:
        """Let go of the file."""


def full_type_name(name: str) -> str:
    """``sensor_msgs/msg/Image`` also where a tool wrote ``sensor_msgs/Image``."""
    package, slash, rest = name.partition("/")
    return f"{package}/msg/{rest}" if slash and "/" not in rest else name


@lru_cache(maxsize=256)  # topics of a fleet offer the same few, and parsing YAML is slow
def qos_of(text: str) -> tuple[Qos, ...]:
    """The profiles of a channel's YAML; none where it cannot be read: they say how to play, not what was recorded."""
    if len(text) > _MAX_QOS_CHARACTERS:
        return ()
    try:
        return tuple(parse_qos(text))
    except Exception:  # rosbags lets through whatever a damaged text provokes
        return ()


def check_block(size: int, what: str) -> None:
    """Refuse what would fill the memory, before it does.

    Raises:
        BagError: if the size is too large.
    """
    if size > MAX_BLOCK_BYTES:
        raise BagError(f"{what} has {size} bytes, expected at most {MAX_BLOCK_BYTES}")
