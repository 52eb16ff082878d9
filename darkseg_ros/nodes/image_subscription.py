"""Camera images as every node takes them: raw, compressed or video, as the parameter `transport` says."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any, NoReturn

import numpy as np
from builtin_interfaces.msg import Time
from rclpy.node import Node
from rclpy.subscription import Subscription
from std_msgs.msg import Header

from darkseg_ros.errors import DarksegError, ImageMessageError
from darkseg_ros.frames.image_stream import ImageStream
from darkseg_ros.frames.stamps import header_of, stamp_ns_of
from darkseg_ros.nodes.image_wait_set import ImageWaitSet, NotByExecutor
from darkseg_ros.nodes.librcl import serialised_form_is_known
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
        serialised_form_is_known: whether `darkseg_ros.frames.image_cdr` reads it.
    """

    package: str
    message: str
    suffix: str
    is_video: bool = False
    serialised_form_is_known: bool = False


TRANSPORTS = {
    "raw": _Transport("sensor_msgs", "Image", "", serialised_form_is_known=True),
    "compressed": _Transport("sensor_msgs", "CompressedImage", "/compressed"),
    "ffmpeg": _Transport("ffmpeg_image_transport_msgs", "FFMPEGPacket", "/ffmpeg", is_video=True),
    "foxglove": _Transport("foxglove_msgs", "CompressedVideo", "/foxglove", is_video=True),
}
"""Values of the parameter `transport`, named as image_transport's plugins."""


class ReceivedImage:
    """An image as it came from the middleware; decoded when it is needed.

    Args:
        message: what was received, or why it cannot be read.
        stream: decodes the images of this topic.
        arrived_s: seconds of the steady clock; now unless given.
        replaced: frames of its publisher before it that it replaced in the middleware, which keeps the newest.

    Attributes:
        bgr: gives the picture, (H, W, 3) uint8; raises ImageMessageError.
        lost_packets: video packets between this one and the one before it that never came.
    """

    def __init__(
        self,
        message: Any,
        stream: ImageStream,
        *,
        arrived_s: float | None = None,
        replaced: int = 0,
    ) -> None:
        self.message = message
        self.arrived_s = time.monotonic() if arrived_s is None else arrived_s
        self.replaced = replaced
        self.bgr: Callable[[], np.ndarray]
        lost_before = stream.lost_packets
        if isinstance(message, ImageMessageError):
            self._header: Any = Header()
            self.bgr = partial(_raise, message)
        else:
            self._header = header_of(message)
            self.bgr = stream.later(message)
        self.lost_packets = stream.lost_packets - lost_before

    @property
    def stamp(self) -> Any:
        """Its stamp, with the fields of a builtin_interfaces/Time."""
        return self._header.stamp

    @property
    def stamp_ns(self) -> int:
        """That in nanoseconds; 0 for a message without stamp."""
        return stamp_ns_of(self._header)

    @property
    def frame_id(self) -> str:
        """The camera's frame."""
        return str(self._header.frame_id)

    @property
    def header(self) -> Header:
        """Both, as a message has them."""
        if isinstance(self._header, Header):
            return self._header
        return Header(stamp=Time(sec=self.stamp.sec, nanosec=self.stamp.nanosec), frame_id=self.frame_id)


def _raise(error: ImageMessageError) -> NoReturn:
    raise error


def transport_choice() -> Any:
    """A field for the parameter `transport`, which a node that calls `subscribe_to_images` declares."""
    return choice(
        "raw",
        choices=tuple(TRANSPORTS),
        means="raw subscribes to image, the others to image/compressed, image/ffmpeg, image/foxglove.",
    )


def check_transport(node: Node) -> None:
    """Find out at the start what `subscribe_to_images` would say later.

    Args:
        node: has the parameter `transport`.

    Raises:
        DarksegError: if the package of the transport's messages is not installed.
    """
    _message_type(TRANSPORTS[node.get_parameter("transport").value])


def subscribe_to_images(
    node: Node,
    callback: Callable[[ReceivedImage], None],
    *,
    topic: str = "image",
    depth: int = 1,
    matched: Callable[[Any], None] | None = None,
    wait_set: ImageWaitSet | None = None,
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
        wait_set: takes the images where it waits instead of the executor, and calls `callback` there. Their pictures
            may then be views of their messages: read-only, and gone with the ReceivedImage. Not video: its packets are
            needed one by one, which a thread that is busy for seconds would let pass.

    Raises:
        DarksegError: if the package of the transport's messages is not installed.
    """
    transport = TRANSPORTS[node.get_parameter("transport").value]
    waits = wait_set is not None and not transport.is_video
    stream = ImageStream(views=waits)
    name = _remapped(node, topic, transport.suffix)
    subscription = subscribe(
        node,
        _message_type(transport),
        name,
        lambda message: callback(ReceivedImage(message, stream)),
        newest_frame(_VIDEO_DEPTH if transport.is_video else depth),
        matched=matched,
        callback_group=NotByExecutor() if waits else None,
        raw=waits and transport.serialised_form_is_known and serialised_form_is_known(),
    )
    if wait_set is not None and waits:
        wait_set.add(
            subscription,
            lambda image: callback(
                ReceivedImage(image.message, stream, arrived_s=image.arrived_s, replaced=image.replaced)
            ),
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
