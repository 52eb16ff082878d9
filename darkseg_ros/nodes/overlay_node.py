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
from typing import Any

from rclpy.node import Node
from rclpy.subscription import Subscription
from sensor_msgs.msg import CompressedImage, Image

from darkseg_ros.errors import DarksegError, ImageMessageError
from darkseg_ros.frames.messages import bgr_from_message, fill_image, label_map_from_image
from darkseg_ros.frames.stamp_matcher import StampMatcher
from darkseg_ros.frames.stamps import stamp_ns_of
from darkseg_ros.nodes.image_subscription import TRANSPORT_CHOICES, TRANSPORT_PARAMETER, subscribe_to_images
from darkseg_ros.nodes.middleware import run_node
from darkseg_ros.nodes.parameters import check_choices, fixed_integer, live_number
from darkseg_ros.nodes.qos import advertise, result, subscribe
from darkseg_ros.pictures.overlay import draw_overlay

_INPUT_DEPTH = 5  # a picture takes longer to draw than two frames to arrive
_LOG_PERIOD_S = 5.0


class OverlayNode(Node):
    """Draws a picture for each class map whose image it still has.

    Raises:
        DarksegError: if a parameter is none of its choices.
    """

    def __init__(self) -> None:
        super().__init__("overlay_node")
        self.declare_parameter(*TRANSPORT_PARAMETER)
        self.declare_parameter(
            "opacity", 0.5, live_number("Share of the class colour in each pixel.", low=0.0, high=1.0)
        )
        self.declare_parameter(
            "buffered_images",
            16,
            fixed_integer("Images kept until their class map comes: rate × inference time.", low=1, high=300),
        )
        check_choices(self, TRANSPORT_CHOICES)
        self._matcher = self._new_matcher()
        self._subscriptions_to_inputs: list[Subscription] = []
        self._publisher = advertise(self, Image, "~/overlay", result(), matched=self._on_audience_changed)

    def _new_matcher(self) -> StampMatcher[Image | CompressedImage, Image]:
        return StampMatcher(self.get_parameter("buffered_images").value)

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

    def _on_image(self, image: Image | CompressedImage) -> None:
        self._draw(self._matcher.put_left(stamp_ns_of(image.header), image))

    def _on_class_map(self, class_map: Image) -> None:
        self._draw(self._matcher.put_right(stamp_ns_of(class_map.header), class_map))

    def _draw(self, pair: tuple[Image | CompressedImage, Image] | None) -> None:
        if pair is None:
            return
        image, class_map = pair
        try:
            overlay_bgr = draw_overlay(
                bgr_from_message(image),
                label_map_from_image(class_map),
                opacity=self.get_parameter("opacity").value,
            )
        except (ImageMessageError, ValueError) as error:
            self.get_logger().warning(f"no overlay for a frame: {error}", throttle_duration_sec=_LOG_PERIOD_S)
            return
        self._publisher.publish(fill_image(Image(), overlay_bgr, encoding="bgr8", header=image.header))


def main() -> int:
    """Entry point of ``ros2 run darkseg_ros overlay_node``."""
    try:
        return run_node(OverlayNode)
    except DarksegError as error:
        print(f"overlay_node: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
