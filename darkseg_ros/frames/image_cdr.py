"""sensor_msgs/Image in its serialised form: read where it lies, and written where it is to lie.

Deserialising an image copies its pixels and makes a dozen Python objects; all that a node needs is the header and where
the pixels begin. Only little-endian plain CDR is known here, which Fast DDS sends on the machines of today.

Source: DDS-RTPS 2.5, section 10 (encapsulation); DDS-XTypes 1.3, section 7.4.1 (XCDR version 1); sensor_msgs/Image.msg.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from darkseg_ros.errors import ImageMessageError

_PREFIX = b"\x00\x01\x00\x00"  # plain CDR, little-endian, no options
_ALIGNED_FROM = len(_PREFIX)
_PIXEL_ALIGNMENT = 64

_STAMP = struct.Struct("<iI")
_LENGTH = struct.Struct("<I")
_TWO_LENGTHS = struct.Struct("<II")


@dataclass(frozen=True, slots=True)
class SerialisedStamp:
    """Fields of a builtin_interfaces/Time."""

    sec: int
    nanosec: int


@dataclass(frozen=True, slots=True)
class SerialisedHeader:
    """Fields of a std_msgs/Header; bytes of `frame_id` that are no UTF-8 are kept by ``surrogateescape``."""

    stamp: SerialisedStamp
    frame_id: str


@dataclass(frozen=True, slots=True)
class SerialisedImage:
    """Fields of a sensor_msgs/Image; `data` is a view of the serialised message."""

    header: SerialisedHeader
    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: memoryview


def is_little_endian_cdr(serialised: memoryview) -> bool:
    """Whether `parse_image` knows the form of a serialised message."""
    return bytes(serialised[:2]) == _PREFIX[:2]


def parse_image(serialised: memoryview) -> SerialisedImage:
    """Find the fields of a serialised sensor_msgs/Image; nothing outside the buffer is looked at.

    Args:
        serialised: of bytes, the whole message.

    Raises:
        ImageMessageError: if the message ends before its fields do, or is no little-endian plain CDR.
    """
    if not is_little_endian_cdr(serialised):
        raise ImageMessageError(f"no little-endian CDR: it begins with {bytes(serialised[:4]).hex() or 'nothing'}")
    try:
        sec, nanosec = _STAMP.unpack_from(serialised, _ALIGNED_FROM)
        frame_id, at = _text(serialised, _ALIGNED_FROM + _STAMP.size)
        at = _aligned(at)
        height, width = _TWO_LENGTHS.unpack_from(serialised, at)
        encoding, at = _text(serialised, at + _TWO_LENGTHS.size)
        is_bigendian = serialised[at]
        at = _aligned(at + 1)
        step, size = _TWO_LENGTHS.unpack_from(serialised, at)
    except (struct.error, IndexError):
        raise ImageMessageError(
            f"the serialised image of {len(serialised)} bytes ends within its header; check the publisher"
        ) from None
    at += _TWO_LENGTHS.size
    if size > len(serialised) - at:
        raise ImageMessageError(
            f"the serialised image declares {size} bytes of pixels and has {len(serialised) - at}; check the publisher"
        )
    return SerialisedImage(
        header=SerialisedHeader(SerialisedStamp(sec, nanosec), frame_id),
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=is_bigendian,
        step=step,
        data=serialised[at : at + size],
    )


class OutgoingImage:
    """A serialised sensor_msgs/Image whose pixels and stamp are written in place, one frame after the other.

    Args:
        frame_id: of the header.
        encoding: mono8 or another of as many bytes a pixel as `shape` says.
        shape: (H, W), or (H, W, channels).

    Attributes:
        pixels: uint8 of that shape, C-contiguous and zero at first.
        message: (bytes,) uint8, the whole message; shares its memory with `pixels`.
    """

    def __init__(self, *, frame_id: str, encoding: str, shape: tuple[int, ...]) -> None:
        height, width, *channels = shape
        size = int(np.prod(shape))
        before = bytearray(_PREFIX + _STAMP.pack(0, 0))
        _append_text(before, frame_id)
        _align(before)
        before += _TWO_LENGTHS.pack(height, width)
        _append_text(before, encoding)
        before += b"\0"
        _align(before)
        before += _TWO_LENGTHS.pack(width * (channels[0] if channels else 1), size)
        memory = np.zeros(len(before) + size + _PIXEL_ALIGNMENT, np.uint8)
        begins = -(memory.ctypes.data + len(before)) % _PIXEL_ALIGNMENT
        self.message: np.ndarray = memory[begins : begins + len(before) + size]
        self.message[: len(before)] = np.frombuffer(before, np.uint8)
        self.pixels: np.ndarray = self.message[len(before) :].reshape(shape)

    def set_stamp(self, stamp: Any) -> None:
        """Write the stamp of the next message: `sec` and `nanosec` of a builtin_interfaces/Time."""
        _STAMP.pack_into(self.message, _ALIGNED_FROM, stamp.sec, stamp.nanosec)


def _aligned(at: int) -> int:
    return at + (_ALIGNED_FROM - at) % 4


def _text(serialised: memoryview, at: int) -> tuple[str, int]:
    """A string, and where it ends; the zero that ends it counts as one of its bytes."""
    at = _aligned(at)
    (size,) = _LENGTH.unpack_from(serialised, at)
    at += _LENGTH.size
    if size > len(serialised) - at:
        raise IndexError
    text = bytes(serialised[at : at + size]).partition(b"\0")[0]
    return text.decode("utf-8", "surrogateescape"), at + size


def _append_text(message: bytearray, text: str) -> None:
    _align(message)
    encoded = text.encode("utf-8", "surrogateescape") + b"\0"
    message += _LENGTH.pack(len(encoded)) + encoded


def _align(message: bytearray) -> None:
    message += bytes(_aligned(len(message)) - len(message))
