"""Class maps laid over the camera image, for people to look at; off the hot path.

| direction | name | type | QoS |
|---|---|---|---|
| sub | ``image`` | sensor_msgs/Image | best effort, depth 5 |
| sub | ``image/compressed`` (``transport:=compressed``) | …/CompressedImage | best effort, depth 5 |
| sub | ``class_map`` | sensor_msgs/Image, mono8 | reliable, depth 5 |
| pub | ``~/overlay`` | sensor_msgs/Image, bgr8, the camera's header | reliable, depth 1 |

It subscribes only while somebody looks at ``~/overlay``. Image and class map belong together by their stamp.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

from rclpy.node import Node
from rclpy.subscription import Subscription
from sensor_msgs.msg import Image

from darkseg_ros.classes import CITYSCAPES
from darkseg_ros.errors import ImageMessageError
from darkseg_ros.frames.messages import fill_image, label_map_from_image
from darkseg_ros.frames.stamp_matcher import StampMatcher
from darkseg_ros.frames.stamps import stamp_ns_of
from darkseg_ros.model.bundle import load_classes
from darkseg_ros.nodes.command_line import node_main
from darkseg_ros.nodes.image_subscription import ReceivedImage, check_transport, subscribe_to_images, transport_choice
from darkseg_ros.nodes.parameters import check_choices, declare_parameters, integer, number, parameter_values, text
from darkseg_ros.nodes.qos import advertise, result, subscribe
from darkseg_ros.pictures.overlay import draw_overlay

_INPUT_DEPTH = 5  # a picture takes longer to draw than two frames to arrive
_LOG_PERIOD_S = 5.0


@dataclass(frozen=True)
class OverlayParameters:
    """The parameters of overlay_node."""

    transport: str = transport_choice()
    bundle: str = text(
        "",
        values="folder",
        means="Model bundle that the class maps come from, for its class table; empty: Cityscapes' 19 classes.",
    )
    opacity: float = number(0.5, low=0.0, high=1.0, live=True, means="Share of the class colour in each pixel.")
    buffered_images: int = integer(
        16, low=1, high=300, means="Images kept until their class map comes: at least camera rate × inference time."
    )


class OverlayNode(Node):
    """Draws a picture for each class map whose image it still has.

    Raises:
        DarksegError: if a parameter is none of its choices, `bundle` no bundle, or the messages of `transport` are not
            installed.
    """

    def __init__(self) -> None:
        super().__init__("overlay_node")
        declare_parameters(self, OverlayParameters)
        check_choices(self._in_force)
        check_transport(self)
        bundle = self._in_force.bundle
        self._classes = load_classes(bundle) if bundle else CITYSCAPES
        self._matcher = self._new_matcher()
        self._subscriptions_to_inputs: list[Subscription] = []
        self._publisher = advertise(self, Image, "~/overlay", result(), matched=self._on_audience_changed)
        self.get_logger().info(f"ready: draws while somebody looks at {self._publisher.topic_name}")

    def _new_matcher(self) -> StampMatcher[ReceivedImage, Image]:
        return StampMatcher(self._in_force.buffered_images)

    @property
    def _in_force(self) -> OverlayParameters:
        return parameter_values(self, OverlayParameters)

    def _on_audience_changed(self, _: Any) -> None:
        watched = self._publisher.get_subscription_count() > 0
        if watched and not self._subscriptions_to_inputs:
            self._subscriptions_to_inputs = [
                subscribe_to_images(self, self._on_image, depth=_INPUT_DEPTH),
                subscribe(self, Image, "class_map", self._on_class_map, result(_INPUT_DEPTH)),
            ]
        elif not watched:
            for subscription in self._subscriptions_to_inputs:
                self.destroy_subscription(subscription)
            self._subscriptions_to_inputs = []
            self._matcher = self._new_matcher()

    def _on_image(self, image: ReceivedImage) -> None:
        self._draw(self._matcher.put_left(stamp_ns_of(image.header), image))

    def _on_class_map(self, class_map: Image) -> None:
        self._draw(self._matcher.put_right(stamp_ns_of(class_map.header), class_map))

    def _draw(self, pair: tuple[ReceivedImage, Image] | None) -> None:
        if pair is None:
            return
        image, class_map = pair
        try:
            overlay_bgr = draw_overlay(
                image.bgr(),
                label_map_from_image(class_map),
                self._classes,
                opacity=self._in_force.opacity,
            )
        except (ImageMessageError, ValueError) as error:
            self.get_logger().warning(f"no overlay for a frame: {error}", throttle_duration_sec=_LOG_PERIOD_S)
            return
        self._publisher.publish(fill_image(Image(), overlay_bgr, encoding="bgr8", header=image.header))


def main() -> int:
    """Entry point of ``ros2 run darkseg_ros overlay_node``."""
    return node_main("overlay_node", OverlayNode, OverlayParameters, about=__doc__)


if __name__ == "__main__":
    sys.exit(main())
