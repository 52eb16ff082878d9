"""Serialised messages taken into memory that is kept, and published from it: librcl, called by ctypes.

rclpy (Jazzy, Kilted) takes a serialised message as new ``bytes`` and publishes only ``bytes``: two copies and two
allocations of a whole image for each frame. librcl's own functions take and give a buffer. What reaches past rclpy's
public interface on the way of images is here and in `darkseg_ros.nodes.image_wait_set`, and nowhere else;
tests/ros/test_librcl.py fails when either changes.

Source: rcl/subscription.h, rcl/publisher.h, rmw/types.h and rcutils/types/uint8_array.h of ROS 2 Jazzy.
"""

from __future__ import annotations

import ctypes
import struct
import weakref
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import rclpy
from rclpy.publisher import Publisher
from rclpy.subscription import Subscription

from darkseg_ros.errors import DarksegError

_RCL_RET_OK = 0
_RCL_RET_SUBSCRIPTION_TAKE_FAILED = 401
_MIDDLEWARE = "rmw_fastrtps_cpp"
"""Whose serialised messages are known to be plain CDR; others are taken as ordinary messages."""

# source and received timestamp, publication and reception number, the publisher's gid behind a pointer
_MESSAGE_INFO = struct.Struct("@qqQQP16s")
_MESSAGE_INFO_BYTES = 256  # room for later fields


class LibrclError(DarksegError):
    """librcl refused a call."""


class _Allocator(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in ("allocate", "deallocate", "reallocate", "zero_allocate", "state")]


class _ByteArray(ctypes.Structure):
    """rcutils_uint8_array_t, which is rcl_serialized_message_t."""

    _fields_ = [
        ("buffer", ctypes.c_void_p),
        ("buffer_length", ctypes.c_size_t),
        ("buffer_capacity", ctypes.c_size_t),
        ("allocator", _Allocator),
    ]


class _ErrorString(ctypes.Structure):
    _fields_ = [("text", ctypes.c_char * 1024)]


class Librcl:
    """The functions of librcl and librcutils that are used here.

    Raises:
        OSError: if the libraries do not load by their names.
        AttributeError: if they lack a function.
    """

    def __init__(self) -> None:
        rcl, rcutils = ctypes.CDLL("librcl.so"), ctypes.CDLL("librcutils.so")
        self.take = rcl.rcl_take_serialized_message
        self.take.argtypes = [ctypes.c_void_p] * 4
        self.publish = rcl.rcl_publish_serialized_message
        self.publish.argtypes = [ctypes.c_void_p] * 3
        self.release = rcutils.rcutils_uint8_array_fini
        self.release.argtypes = [ctypes.c_void_p]
        self._error_string = rcutils.rcutils_get_error_string
        self._error_string.restype = _ErrorString
        self._reset_error = rcutils.rcutils_reset_error
        self._reset_error.restype = None
        allocator = rcutils.rcutils_get_default_allocator
        allocator.restype = _Allocator
        self.allocator: _Allocator = allocator()

    def error(self, what: str, status: int) -> LibrclError:
        """What the last call of this thread went wrong by; librcl forgets it."""
        text = self._error_string().text.decode("utf-8", "replace")
        self._reset_error()
        return LibrclError(f"{what} failed with status {status}: {text}")

    def forget_error(self) -> None:
        """Of a call whose failure is an answer."""
        self._reset_error()


def serialised_form_is_known() -> bool:
    """Whether the middleware's serialised messages are those of `darkseg_ros.frames.image_cdr`."""
    return rclpy.get_rmw_implementation_identifier() == _MIDDLEWARE


@lru_cache(maxsize=1)
def librcl() -> Librcl | None:
    """The library, or None where it does not load by its name: rclpy's own ways remain."""
    try:
        return Librcl()
    except (OSError, AttributeError):
        return None


@dataclass(frozen=True, slots=True)
class Taken:
    """A message, and what the middleware says of it.

    Attributes:
        message: serialised, or a message of the topic's type.
        number: that its publisher gave it; 0 where the middleware tells none.
        publisher: tells it from others; empty where rclpy does not tell.
        received_ns: wall clock when it reached this machine; 0 where the middleware does not tell.
    """

    message: Any
    number: int
    publisher: bytes
    received_ns: int


class _Buffer:
    """Memory for one serialised message, which librcl enlarges when it needs to."""

    def __init__(self, library: Librcl) -> None:
        self._library = library
        self.array = _ByteArray(allocator=library.allocator)
        self._shown: weakref.ref[Any] | None = None

    @property
    def in_use(self) -> bool:
        """Whether a view of what was taken last is alive."""
        return self._shown is not None and self._shown() is not None

    def view(self) -> memoryview:
        memory = (ctypes.c_ubyte * self.array.buffer_length).from_address(self.array.buffer)
        memory.owner = self  # the views keep `memory` alive, and it keeps the buffer
        self._shown = weakref.ref(memory)
        return memoryview(memory).cast("B")

    def __del__(self) -> None:
        self._library.release(ctypes.byref(self.array))


class SerialisedTaker:
    """Takes serialised messages of one subscription into a few buffers. Not thread-safe.

    A message's bytes stay as they are for as long as a view of them is alive; then its buffer is used again.
    """

    def __init__(self, library: Librcl, subscription: Subscription) -> None:
        self._library = library
        self._subscription = subscription
        self._buffers: list[_Buffer] = []
        self._info = ctypes.create_string_buffer(_MESSAGE_INFO_BYTES)

    def take(self) -> Taken | None:
        """The next message, a memoryview; None where none waits.

        Raises:
            LibrclError: if librcl refuses.
        """
        buffer = next((each for each in self._buffers if not each.in_use), None)
        if buffer is None:
            buffer = _Buffer(self._library)
            self._buffers.append(buffer)
        with self._subscription.handle:
            status = self._library.take(self._subscription.handle.pointer, ctypes.byref(buffer.array), self._info, None)
        if status == _RCL_RET_SUBSCRIPTION_TAKE_FAILED:
            self._library.forget_error()
            return None
        if status != _RCL_RET_OK:
            raise self._library.error("rcl_take_serialized_message", status)
        _, received_ns, number, _, _, publisher = _MESSAGE_INFO.unpack_from(self._info)
        return Taken(buffer.view(), number, publisher, received_ns)


class SerialisedSender:
    """Publishes serialised messages from where they lie."""

    def __init__(self, library: Librcl, publisher: Publisher) -> None:
        self._library = library
        self._publisher = publisher

    def send(self, message: np.ndarray) -> None:
        """Publish (bytes,) uint8, contiguous.

        Raises:
            LibrclError: if librcl refuses.
        """
        array = _ByteArray(message.ctypes.data, message.size, message.size, self._library.allocator)
        with self._publisher.handle:
            status = self._library.publish(self._publisher.handle.pointer, ctypes.byref(array), None)
        if status != _RCL_RET_OK:
            raise self._library.error("rcl_publish_serialized_message", status)
