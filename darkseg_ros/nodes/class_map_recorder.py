"""Keeps every class map that arrives, and when it arrived."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSHistoryPolicy, QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import Image

from darkseg_ros.errors import ImageMessageError, InputError
from darkseg_ros.frames.messages import label_map_from_image
from darkseg_ros.frames.stamps import stamp_ns_of
from darkseg_ros.nodes.image_wait_set import ImageWaitSet, NotByExecutor, WaitedImage
from darkseg_ros.nodes.librcl import serialised_form_is_known
from darkseg_ros.nodes.middleware import prepare_middleware

_DEPTH = 30


@dataclass(frozen=True)
class ClassMapRecord:
    """One class map.

    Attributes:
        stamp_ns: the camera's stamp.
        frame_id: the camera's frame.
        received_ns: when it arrived, on the clock of time.monotonic_ns().
        path: where it lies, a PNG of train ids; None when no directory was given.
    """

    stamp_ns: int
    frame_id: str
    received_ns: int
    path: Path | None


class ClassMapRecorder:
    """Records a topic of class maps and the latest diagnostics of its node, in threads of its own.

    Args:
        topic: of sensor_msgs/Image, mono8.
        directory: gets ``<stamp_ns>.png`` for each; None keeps records only.
        by_executor: take class maps as most nodes do, which costs a millisecond each and more; else a thread waits for
            them alone and takes them serialised.

    Attributes:
        records: what arrived so far, in that order.
        diagnostics: key and value of the latest diagnostics of the node that publishes the topic.

    Raises:
        DarksegError: from `close` when a class map could not be decoded or written.
    """

    def __init__(self, topic: str, directory: Path | str | None = None, *, by_executor: bool = False) -> None:
        prepare_middleware()
        self.records: list[ClassMapRecord] = []
        self.diagnostics: dict[str, str] = {}
        self._directory = None if directory is None else Path(directory)
        if self._directory is not None:
            self._directory.mkdir(parents=True, exist_ok=True)
        self._node_name = topic.rpartition("/")[0].lstrip("/")
        # encoding takes longer than a frame may: it must not delay `received_ns` of the next one
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="class_map_writer")
        self._written: list[Future[None]] = []
        self._context = Context()
        rclpy.init(context=self._context)
        self._node = Node("class_map_recorder", context=self._context, start_parameter_services=False)
        qos = QoSProfile(history=QoSHistoryPolicy.KEEP_LAST, depth=_DEPTH, reliability=QoSReliabilityPolicy.RELIABLE)
        self._closing = threading.Event()
        self._wait_set = ImageWaitSet(self._node)
        subscription = self._node.create_subscription(
            Image,
            topic,
            self._on_class_map,
            qos,
            callback_group=None if by_executor else NotByExecutor(),
            raw=not by_executor and serialised_form_is_known(),
        )
        if not by_executor:
            self._wait_set.add(subscription, self._on_waited_class_map)
        self._node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._threads = [
            threading.Thread(target=body, name=name, daemon=True)
            for name, body in (("recorder_executor", self._executor.spin), ("class_map_recorder", self._wait))
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> ClassMapRecorder:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop recording and finish writing."""
        self._closing.set()
        self._wait_set.wake()
        self._executor.shutdown()
        for thread in self._threads:
            thread.join()
        self._node.destroy_node()
        rclpy.try_shutdown(context=self._context)
        self._writer.shutdown()
        for written in self._written:
            written.result()

    def _wait(self) -> None:
        while not self._closing.is_set():
            self._wait_set.wait(None)

    def _on_waited_class_map(self, image: WaitedImage) -> None:
        if isinstance(image.message, ImageMessageError):
            unread: Future[None] = Future()
            unread.set_exception(image.message)
            self._written.append(unread)
        else:
            self._on_class_map(image.message)

    def _on_class_map(self, message: Any) -> None:
        received_ns = time.monotonic_ns()
        stamp_ns = stamp_ns_of(message.header)
        path = None if self._directory is None else self._directory / f"{stamp_ns:019d}.png"
        if path is not None:
            self._written.append(self._writer.submit(_write_class_map, path, message))
        self.records.append(ClassMapRecord(stamp_ns, message.header.frame_id, received_ns, path))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name.partition(":")[0] == self._node_name:
                self.diagnostics = {pair.key: pair.value for pair in status.values}


def _write_class_map(path: Path, message: Any) -> None:
    class_map: np.ndarray = label_map_from_image(message)
    if not cv2.imwrite(str(path), class_map):
        raise InputError(f"{path} cannot be written; choose a folder with room and permission")
