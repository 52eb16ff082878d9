"""The camera of the benchmark: publishes prepared frames at a fixed rate, and tells when."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType

import numpy as np
import rclpy
from rclpy.context import Context
from rclpy.node import Node
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from darkseg_ros.frames.messages import fill_image
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

    The messages are made once: to publish one of 1024×512 takes 0.6 ms then (two shared cores, 2026-11-22), whether as
    a message or as bytes that were serialised before.

    Args:
        topic: of sensor_msgs/Image.
        frames: (N, H, W, 3) uint8 BGR, published in turn.
    """

    def __init__(self, topic: str, frames: Sequence[np.ndarray] | np.ndarray) -> None:
        prepare_middleware()
        self._messages = [
            fill_image(Image(), bgr, encoding="bgr8", header=Header(frame_id=_FRAME_ID)) for bgr in frames
        ]
        self._next = 0
        self._context = Context()
        rclpy.init(context=self._context)
        self._node = Node("benchmark_camera", context=self._context, start_parameter_services=False)
        self._publisher = self._node.create_publisher(Image, topic, newest_frame())

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

    def publish(self, *, rate_hz: float, count: int) -> list[SentFrame]:
        """Publish at fixed times. What is late by half a period is left out: a camera sends no two frames at once.

        Args:
            rate_hz: > 0.
            count: of times, ≥ 1.

        Returns:
            The frames published, fewer than `count` where this process could not keep up.
        """
        sent: list[SentFrame] = []
        period_ns = 1e9 / rate_hz
        started_ns = time.monotonic_ns()
        for index in range(count):
            due_ns = started_ns + round(index * period_ns)
            if (wait_ns := due_ns - time.monotonic_ns()) > 0:
                time.sleep(wait_ns / 1e9)
            if time.monotonic_ns() - due_ns > period_ns / 2:
                continue
            message = self._messages[self._next % len(self._messages)]
            self._next += 1
            stamp_ns = time.time_ns()
            message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, 1_000_000_000)
            published_ns = time.monotonic_ns()
            self._publisher.publish(message)
            sent.append(SentFrame(stamp_ns, published_ns))
        return sent
