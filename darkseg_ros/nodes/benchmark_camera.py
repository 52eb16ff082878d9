"""The camera of the benchmark: publishes prepared frames at a fixed rate, and tells when."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from types import TracebackType

import numpy as np
import rclpy
from builtin_interfaces.msg import Time
from rclpy.context import Context
from rclpy.node import Node
from rclpy.publisher import Publisher
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from darkseg_ros.frames.image_cdr import OutgoingImage
from darkseg_ros.frames.messages import fill_image
from darkseg_ros.nodes.librcl import Librcl, SerialisedSender, librcl, serialised_form_is_known
from darkseg_ros.nodes.middleware import prepare_middleware
from darkseg_ros.nodes.qos import newest_frame

_FRAME_ID = "benchmark_camera"
_SETTLE_S = 1.0
_POLL_S = 0.05


@dataclass(frozen=True)
class SentFrame:
    """A frame that was published.

    Attributes:
        stamp_ns: its stamp.
        published_ns: time.monotonic_ns() before it was handed to the middleware.
    """

    stamp_ns: int
    published_ns: int


class BenchmarkCamera:
    """Publishes bgr8 images, best effort, as cameras do.

    The messages are made and serialised once, and go from where they lie, so that little of what a frame takes is the
    camera's. Where librcl does not load, or the middleware's serialised form is not known, they are ordinary ones.

    Args:
        topic: of sensor_msgs/Image.
        frames: (N, H, W, 3) uint8 BGR, published in turn.
    """

    def __init__(self, topic: str, frames: Sequence[np.ndarray] | np.ndarray) -> None:
        prepare_middleware()
        self._frames = frames
        self._next = 0
        self._context = Context()
        rclpy.init(context=self._context)
        self._node = Node("benchmark_camera", context=self._context, start_parameter_services=False)
        self._publisher = self._node.create_publisher(Image, topic, newest_frame())
        library = librcl() if serialised_form_is_known() else None
        self._lean = (
            self._ordinary_messages if library is None else _SerialisedMessages(library, self._publisher, frames)
        )

    def __enter__(self) -> BenchmarkCamera:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._node.destroy_node()
        rclpy.try_shutdown(context=self._context)

    def wait_for_subscriber(self, *, within_s: float) -> bool:
        """Wait for somebody to listen; whether anybody does."""
        deadline_s = time.monotonic() + within_s
        while not self._publisher.get_subscription_count():
            if time.monotonic() > deadline_s:
                return False
            time.sleep(_POLL_S)
        # the subscriber learns of the publisher later than the other way round, and best effort repeats nothing
        time.sleep(_SETTLE_S)
        return True

    @cached_property
    def _ordinary_messages(self) -> _OrdinaryMessages:
        return _OrdinaryMessages(self._publisher, self._frames)

    def publish(self, *, rate_hz: float, count: int, ordinary: bool = False) -> list[SentFrame]:
        """Publish at fixed times. What is late by half a period is left out: a camera sends no two frames at once.

        Args:
            rate_hz: > 0.
            count: of times, ≥ 1.
            ordinary: as messages of rclpy, which most nodes publish.

        Returns:
            The frames published, fewer than `count` where this process could not keep up.
        """
        messages = self._ordinary_messages if ordinary else self._lean
        sent: list[SentFrame] = []
        period_ns = 1e9 / rate_hz
        started_ns = time.monotonic_ns()
        for index in range(count):
            due_ns = started_ns + round(index * period_ns)
            if (wait_ns := due_ns - time.monotonic_ns()) > 0:
                time.sleep(wait_ns / 1e9)
            if time.monotonic_ns() - due_ns > period_ns / 2:
                continue
            index, self._next = self._next % len(self._frames), self._next + 1
            stamp_ns = time.time_ns()
            stamp = Time()
            stamp.sec, stamp.nanosec = divmod(stamp_ns, 1_000_000_000)
            published_ns = time.monotonic_ns()
            messages.publish(index, stamp)
            sent.append(SentFrame(stamp_ns, published_ns))
        return sent


class _OrdinaryMessages:
    """Frames as messages of rclpy."""

    def __init__(self, publisher: Publisher, frames: Sequence[np.ndarray] | np.ndarray) -> None:
        self._publisher = publisher
        self._messages = [
            fill_image(Image(), bgr, encoding="bgr8", header=Header(frame_id=_FRAME_ID)) for bgr in frames
        ]

    def publish(self, index: int, stamp: Time) -> None:
        self._messages[index].header.stamp = stamp
        self._publisher.publish(self._messages[index])


class _SerialisedMessages:
    """The same frames, serialised before."""

    def __init__(self, library: Librcl, publisher: Publisher, frames: Sequence[np.ndarray] | np.ndarray) -> None:
        self._sender = SerialisedSender(library, publisher)
        self._messages = []
        for bgr in frames:
            message = OutgoingImage(frame_id=_FRAME_ID, encoding="bgr8", shape=bgr.shape)
            message.pixels[:] = bgr
            self._messages.append(message)

    def publish(self, index: int, stamp: Time) -> None:
        self._messages[index].set_stamp(stamp)
        self._sender.send(self._messages[index].message)
