"""Feeds the page of `darkseg view` with what a running segmentation_node publishes."""

from __future__ import annotations

import json
import threading
import time
from contextlib import suppress
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.clock import Clock, ClockType
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.subscription import Subscription
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import String

from darkseg_ros.classes import CITYSCAPES, ClassTable, SegmentationClass
from darkseg_ros.errors import ImageMessageError
from darkseg_ros.frames.messages import bgr_from_message, label_map_from_image
from darkseg_ros.frames.stamp_matcher import StampMatcher
from darkseg_ros.frames.stamps import stamp_ns_of
from darkseg_ros.nodes.middleware import prepare_middleware
from darkseg_ros.nodes.qos import latched, newest_frame, result
from darkseg_ros.pictures.live_page import LiveFrame, LiveHealth, LivePage
from darkseg_ros.stream.monitor import HealthLevel

_LOOK_PERIOD_S = 0.5
_SILENT_AFTER_S = 3.0
_IMAGE_TYPES = {"sensor_msgs/msg/Image": Image, "sensor_msgs/msg/CompressedImage": CompressedImage}
_BUFFERED_FRAMES = 16


class StreamViewer:
    """Listens to one camera's answers, and to the camera, in a thread of its own until it is closed.

    Args:
        page: shows what comes.
        class_map_topic: of the node; `confidence` and `label_info` lie beside it.
        image_topic: of the camera; None takes the one that the node listens to.
    """

    def __init__(self, page: LivePage, *, class_map_topic: str, image_topic: str | None) -> None:
        prepare_middleware()
        self._page = page
        self._class_map_topic = class_map_topic
        self._image_topic = image_topic
        self._confidence: float | None = None
        self._classes: ClassTable = CITYSCAPES
        self._heard_s: float | None = None
        self._pairs: StampMatcher[Image | CompressedImage, Image] = StampMatcher(_BUFFERED_FRAMES)
        self._images: Subscription | None = None
        self._context = Context()
        rclpy.init(context=self._context)
        node = self._node = Node("darkseg_view", context=self._context, start_parameter_services=False)
        beside = class_map_topic.rpartition("/")[0]
        node.create_subscription(Image, class_map_topic, self._on_class_map, result(_BUFFERED_FRAMES))
        node.create_subscription(Image, f"{beside}/confidence", self._on_confidence, result())
        node.create_subscription(String, f"{beside}/label_info", self._on_label_info, latched())
        node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        node.create_timer(_LOOK_PERIOD_S, self._look, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(node)
        self._thread = threading.Thread(target=self._spin, name="stream_viewer", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Return after a signal."""
        while self._context.ok():
            time.sleep(_LOOK_PERIOD_S)

    def close(self) -> None:
        """Listen no more."""
        self._executor.shutdown()
        self._thread.join()
        self._node.destroy_node()
        rclpy.try_shutdown(context=self._context)

    def _spin(self) -> None:
        with suppress(ExternalShutdownException):  # a signal ended ROS
            self._executor.spin()

    def _look(self) -> None:
        """Subscribe to the camera once it is known, and say what is missing."""
        sources = self._node.get_publishers_info_by_topic(self._class_map_topic)
        if not sources:
            self._complain(f"nobody publishes {self._class_map_topic}; start segmentation_node, or name --class-map")
            return
        if not sources[0].node_namespace.startswith("/"):
            return  # its topic is known, the node itself not yet: the next look tells more
        if self._images is None:
            # a node listens to its images only while it is active
            heard = dict(
                self._node.get_subscriber_names_and_types_by_node(sources[0].node_name, sources[0].node_namespace)
            )
            topics = [topic for topic, types in heard.items() if set(types) & set(_IMAGE_TYPES)]
            if self._image_topic is not None:
                topics = [self._image_topic]
                heard = dict(self._node.get_topic_names_and_types())
            if len(topics) == 1:
                types = heard.get(topics[0], [])
                kind = next((_IMAGE_TYPES[name] for name in types if name in _IMAGE_TYPES), Image)
                self._images = self._node.create_subscription(kind, topics[0], self._on_image, newest_frame(5))
            elif topics:
                self._complain(f"the node has several cameras: name one with --image: {', '.join(sorted(topics))}")
                return
        if self._heard_s is None or time.monotonic() - self._heard_s > _SILENT_AFTER_S:
            self._complain(f"the node of {self._class_map_topic} says nothing on /diagnostics")

    def _complain(self, summary: str) -> None:
        self._page.tell(LiveHealth(HealthLevel.STALE.name, summary))

    def _on_image(self, image: Image | CompressedImage) -> None:
        self._show(self._pairs.put_left(stamp_ns_of(image.header), image))

    def _on_class_map(self, class_map: Image) -> None:
        self._show(self._pairs.put_right(stamp_ns_of(class_map.header), class_map))

    def _show(self, pair: tuple[Image | CompressedImage, Image] | None) -> None:
        if pair is None:
            return
        try:
            bgr, class_map = bgr_from_message(pair[0]), label_map_from_image(pair[1])
        except ImageMessageError as error:
            self._complain(f"a frame cannot be shown: {error}")
            return
        self._page.show(LiveFrame(bgr, class_map, self._confidence, self._classes))

    def _on_confidence(self, message: Image) -> None:
        try:
            self._confidence = float(label_map_from_image(message).mean()) / 255
        except ImageMessageError as error:
            self._complain(f"a confidence cannot be shown: {error}")

    def _on_label_info(self, message: String) -> None:
        rows = json.loads(message.data)["class_map"]
        self._classes = ClassTable(
            tuple(SegmentationClass(row["class_name"], row["category"], tuple(row["rgb"])) for row in rows)
        )

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        own = [status for status in message.status if self._is_of_node(status)]
        image = self._images.topic_name if self._images is not None else None
        # a node of several cameras has a status for each, which names the camera's topic
        of_camera = [status for status in own if image in (status.hardware_id, f"{status.hardware_id}/compressed")]
        for status in of_camera or own[:1]:
            self._heard_s = time.monotonic()
            values: dict[str, Any] = {pair.key: pair.value for pair in status.values}
            self._page.tell(LiveHealth(HealthLevel(status.level[0]).name, status.message, values))

    def _is_of_node(self, status: DiagnosticStatus) -> bool:
        nodes = [
            f"{source.node_namespace.rstrip('/')}/{source.node_name}".lstrip("/")
            for source in self._node.get_publishers_info_by_topic(self._class_map_topic)
        ]
        return status.name.partition(":")[0] in nodes
