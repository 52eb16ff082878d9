"""Camera images as every node takes them: raw, compressed or video, as the parameter `transport` says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from rclpy.node import Node
from rclpy.subscription import Subscription
from std_msgs.msg import Header

from darkseg_ros.errors import DarksegError
from darkseg_ros.frames.image_stream import ImageStream
from darkseg_ros.frames.stamps import header_of
from darkseg_ros.nodes.parameters import choice
from darkseg_ros.nodes.qos import newest_frame, subscribe
from darkseg_ros.nodes.silent_topic import warn_without_publisher

_VIDEO_DEPTH = 30
"""Video packets that may wait: one that is lost costs all frames up to the next keyframe."""


@dataclass(frozen=True)
class _Transport:
    """A way in which image_transport sends images.

    Attributes:
        package: of the messages.
        message: name of their type.
        suffix: of the topic, behind that of the raw images.
        is_video: whether a message needs those before it.
    """

    package: str
    message: str
    suffix: str
    is_video: bool = False


TRANSPORTS = {
    "raw": _Transport("sensor_msgs", "Image", ""),
    "compressed": _Transport("sensor_msgs", "CompressedImage", "/compressed"),
    "ffmpeg": _Transport("ffmpeg_image_transport_msgs", "FFMPEGPacket", "/ffmpeg", is_video=True),
    "foxglove": _Transport("foxglove_msgs", "CompressedVideo", "/foxglove", is_video=True),
}
"""Values of the parameter `transport`, named as image_transport's plugins."""


class ReceivedImage:
    """An image as it came from the middleware; decoded when it is needed.

    Attributes:
        header: a std_msgs/Header.
        message: what was received.
        bgr: gives the picture, (H, W, 3) uint8; raises ImageMessageError.
    """

    def __init__(self, message: Any, stream: ImageStream) -> None:
        header = header_of(message)
        self.header: Header = (
            header if isinstance(header, Header) else Header(stamp=header.stamp, frame_id=header.frame_id)
        )
        self.message = message
        self.bgr: Callable[[], np.ndarray] = stream.later(message)


def transport_choice() -> Any:
    """A field for the parameter `transport`, which a node that calls `subscribe_to_images` declares."""
    return choice(
        "raw",
        choices=tuple(TRANSPORTS),
        means="raw subscribes to image, the others to image/compressed, image/ffmpeg, image/foxglove.",
    )


def subscribe_to_images(
    node: Node,
    callback: Callable[[ReceivedImage], None],
    *,
    topic: str = "image",
    depth: int = 1,
    matched: Callable[[Any], None] | None = None,
) -> Subscription:
    """Subscribe to a camera, best effort.

    As with image_transport, the topic of a transport follows that of the raw images: ``-r image:=/camera/image_raw``
    leads to ``/camera/image_raw/compressed``. Where that topic itself is remapped, this counts.

    Args:
        node: has the parameter `transport`.
        callback: takes an image. Each video packet is decoded before, in order.
        topic: of the raw images.
        depth: frames that may wait for the callback, unless they are video packets.
        matched: called when publishers come and go.

    Raises:
        DarksegError: if the package of the transport's messages is not installed.
    """
    transport = TRANSPORTS[node.get_parameter("transport").value]
    stream = ImageStream()
    name = _remapped(node, topic, transport.suffix)
    subscription = subscribe(
        node,
        _message_type(transport),
        name,
        lambda message: callback(ReceivedImage(message, stream)),
        newest_frame(_VIDEO_DEPTH if transport.is_video else depth),
        matched=matched,
    )
    types = {each: f"{way.package}/msg/{way.message}" for each, way in TRANSPORTS.items()}
    warn_without_publisher(node, subscription, relative_name=f"{topic}{transport.suffix}", image_types=types)
    return subscription


def _remapped(node: Node, topic: str, suffix: str) -> str:
    own = f"{topic}{suffix}"
    if not suffix or node.resolve_topic_name(own) != node.resolve_topic_name(own, only_expand=True):
        return own
    return f"{node.resolve_topic_name(topic)}{suffix}"


def _message_type(transport: _Transport) -> Any:
    try:
        return getattr(import_module(f"{transport.package}.msg"), transport.message)
    except ImportError as error:
        raise DarksegError(
            f"this transport needs the messages of {transport.package} ({error}); install that package of your ROS "
            f"distribution, such as ros-jazzy-{transport.package.replace('_', '-')}, and source it"
        ) from error
