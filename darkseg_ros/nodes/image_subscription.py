"""Camera images as every node takes them: raw or compressed, as the parameter `transport` says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.node import Node
from rclpy.subscription import Subscription
from sensor_msgs.msg import CompressedImage, Image

from darkseg_ros.nodes.parameters import choice
from darkseg_ros.nodes.qos import newest_frame, subscribe
from darkseg_ros.nodes.silent_topic import warn_without_publisher


def transport_choice() -> Any:
    """A field for the parameter `transport`, which a node that calls `subscribe_to_images` declares."""
    return choice(
        "raw", choices=("raw", "compressed"), means="raw subscribes to image, compressed to image/compressed."
    )


def subscribe_to_images(
    node: Node,
    callback: Callable[[Image | CompressedImage], None],
    *,
    topic: str = "image",
    depth: int = 1,
    matched: Callable[[Any], None] | None = None,
) -> Subscription:
    """Subscribe to a camera, best effort; `darkseg_ros.frames.messages.bgr_from_message` decodes what comes.

    Args:
        node: has the parameter `transport`.
        callback: takes a message.
        topic: of the raw images; compressed ones come on ``<topic>/compressed``.
        depth: frames that may wait for the callback.
        matched: called when publishers come and go.
    """
    compressed = node.get_parameter("transport").value == "compressed"
    name = f"{topic}/compressed" if compressed else topic
    subscription = subscribe(
        node, CompressedImage if compressed else Image, name, callback, newest_frame(depth), matched=matched
    )
    warn_without_publisher(node, subscription, relative_name=name)
    return subscription
