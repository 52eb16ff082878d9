"""Publishes maps of a camera's frames, written straight into the message that goes out."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
from rclpy.lifecycle import LifecycleNode, LifecyclePublisher, LifecycleState
from sensor_msgs.msg import Image

from darkseg_ros.errors import one_line
from darkseg_ros.frames.image_cdr import OutgoingImage
from darkseg_ros.frames.messages import fill_image
from darkseg_ros.nodes.image_subscription import ReceivedImage
from darkseg_ros.nodes.librcl import SerialisedSender, librcl, serialised_form_is_known
from darkseg_ros.nodes.qos import advertise, result


class MapPublisher:
    """A reliable topic of images, mono8 or rgb8, each with the header of the image that it belongs to.

    The message is kept in its serialised form, and only pixels and stamp change from frame to frame. Where librcl does
    not load, rclpy publishes it as bytes; where the middleware's serialised form is not known, as an ordinary message.
    May be called from any thread.

    Args:
        node: publishes only while it is active.
        topic: of sensor_msgs/Image.
    """

    def __init__(self, node: LifecycleNode, topic: str) -> None:
        self._publisher: LifecyclePublisher = advertise(
            node, Image, topic, result(), create=node.create_lifecycle_publisher
        )
        self._lock = threading.Lock()  # a delivery that hangs goes on beside the next activation's
        self._outgoing: OutgoingImage | None = None
        self._outgoing_of: tuple[str, tuple[int, ...]] | None = None
        library = librcl()
        self._send: Callable[[np.ndarray], None] = (
            self._send_bytes if library is None else SerialisedSender(library, self._publisher).send
        )
        self._publish = self._publish_serialised if serialised_form_is_known() else self._publish_message

    @property
    def is_wanted(self) -> bool:
        """Whether anybody subscribes."""
        return bool(self._publisher.get_subscription_count())

    def silence(self, state: LifecycleState) -> None:
        """Publish nothing until the node's next activation."""
        self._publisher.on_deactivate(state)

    def publish(self, write: Callable[[np.ndarray], None], shape: tuple[int, ...], image: ReceivedImage) -> str:
        """Publish a map, unless the node is inactive.

        Args:
            write: writes the map into a C-contiguous uint8 array of that shape.
            shape: (H, W) of a mono8 map, (H, W, 3) of an rgb8 one.
            image: whose header it gets.

        Returns:
            What went wrong, or nothing.
        """
        if not self._publisher.is_activated:
            return ""
        try:
            with self._lock:
                self._publish(write, shape, image)
        except Exception as error:  # the middleware refuses one message; the next frame may pass
            return f"{type(error).__name__}: {one_line(error)}"
        return ""

    def _publish_serialised(
        self, write: Callable[[np.ndarray], None], shape: tuple[int, ...], image: ReceivedImage
    ) -> None:
        if self._outgoing is None or self._outgoing_of != (image.frame_id, shape):
            self._outgoing = OutgoingImage(frame_id=image.frame_id, encoding=_encoding(shape), shape=shape)
            self._outgoing_of = image.frame_id, shape
        write(self._outgoing.pixels)
        self._outgoing.set_stamp(image.stamp)
        self._send(self._outgoing.message)

    def _send_bytes(self, message: np.ndarray) -> None:
        self._publisher.publish(message.tobytes())

    def _publish_message(
        self, write: Callable[[np.ndarray], None], shape: tuple[int, ...], image: ReceivedImage
    ) -> None:
        pixels = np.empty(shape, np.uint8)
        write(pixels)
        self._publisher.publish(fill_image(Image(), pixels, encoding=_encoding(shape), header=image.header))


def _encoding(shape: tuple[int, ...]) -> str:
    return "mono8" if len(shape) == 2 else "rgb8"
