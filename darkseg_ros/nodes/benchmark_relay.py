"""The node of the benchmark that computes nothing: it answers each image with an empty class map of the same size.

What its answers take is what camera, middleware and rclpy take by themselves on a machine, whatever a node does.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import Image

from darkseg_ros.frames.messages import fill_image
from darkseg_ros.nodes.image_subscription import ReceivedImage, subscribe_to_images, transport_choice
from darkseg_ros.nodes.middleware import run_node
from darkseg_ros.nodes.parameters import declare_parameters
from darkseg_ros.nodes.qos import advertise, result


@dataclass(frozen=True)
class RelayParameters:
    """Its parameter."""

    transport: str = transport_choice()


class BenchmarkRelay(Node):
    """Subscribes to ``image`` and publishes ``~/class_map`` as `segmentation_node` does, in the executor's thread."""

    def __init__(self) -> None:
        super().__init__("benchmark_relay")
        declare_parameters(self, RelayParameters)
        self._publisher = advertise(self, Image, "~/class_map", result())
        subscribe_to_images(self, self._answer)

    def _answer(self, image: ReceivedImage) -> None:
        nothing = np.zeros((image.message.height, image.message.width), np.uint8)
        self._publisher.publish(fill_image(Image(), nothing, encoding="mono8", header=image.header))


if __name__ == "__main__":
    sys.exit(run_node(BenchmarkRelay))
