"""segmentation_node in this process, its image callback called by hand: millions of frames without a middleware."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import rclpy
from rclpy.executors import SingleThreadedExecutor

from darkseg_ros.frames.image_stream import ImageStream
from darkseg_ros.nodes.image_subscription import ReceivedImage
from darkseg_ros.nodes.segmentation_node import SegmentationNode
from darkseg_ros.stream.monitor import StreamFigures

WITHIN_S = 30.0


class DrivenNode:
    """The node as it is, but for the subscription: `give` takes its place."""

    def __init__(self) -> None:
        self.node = SegmentationNode()
        (self._stream,) = self.node._streams
        self._images = ImageStream()
        self._dealt_with = threading.Event()
        for name in ("_publish", "drop"):
            self._notify_after(name)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._executor.spin)
        self._thread.start()
        deadline_s = time.monotonic() + WITHIN_S
        while not self._stream.subscribed:
            assert time.monotonic() < deadline_s, self.node._idle_health
            time.sleep(0.01)

    def _notify_after(self, name: str) -> None:
        method = getattr(self._stream, name)

        def notifying(*args: Any, **keywords: Any) -> None:
            method(*args, **keywords)
            self._dealt_with.set()

        setattr(self._stream, name, notifying)

    def give(self, message: Any) -> None:
        """Hand in a message and wait until the node is done with it."""
        self._dealt_with.clear()
        self.give_and_go_on(message)
        assert self._dealt_with.wait(WITHIN_S), "neither published nor dropped"

    def give_and_go_on(self, message: Any) -> None:
        """Hand in a message as the executor does."""
        self._stream._on_image(ReceivedImage(message, self._images))

    @property
    def figures(self) -> StreamFigures:
        return self._stream._monitor.figures(now_s=time.monotonic())

    def close(self) -> None:
        self._executor.shutdown()
        self._thread.join()
        self.node.destroy_node()


@contextmanager
def driven_node(bundle: Path, **parameters: Any) -> Iterator[DrivenNode]:
    """An active node with the fake engine and these parameters."""
    arguments = ["--ros-args", "--log-level", "fatal"]
    for name, value in {"bundle": bundle, "backend": "fake", "stale_after_ms": 0, **parameters}.items():
        arguments += ["-p", f"{name}:={value}"]
    rclpy.init(args=arguments)
    try:
        driven = DrivenNode()
        try:
            yield driven
        finally:
            driven.close()
    finally:
        rclpy.try_shutdown()
