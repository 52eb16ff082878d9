from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from rclpy.node import Node

    from tests.ros.probe import Inbox, Probe


@pytest.fixture
def warnings(probe: Probe) -> Inbox:
    """What nodes log."""
    from rcl_interfaces.msg import Log

    return probe.listen(Log, "/rosout")


@pytest.fixture
def node(probe: Probe, monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    """A node with the parameter `transport`, spun with the probe, whose patience is short."""
    from rclpy.node import Node

    from darkseg_ros.nodes import silent_topic
    from darkseg_ros.nodes.overlay_node import OverlayParameters
    from darkseg_ros.nodes.parameters import declare_parameters

    monkeypatch.setattr(silent_topic, "_SILENT_AFTER_S", 2.0)
    node = Node("listener", context=probe.node.context)
    declare_parameters(node, OverlayParameters)
    probe.node.executor.add_node(node)
    yield node
    probe.node.executor.remove_node(node)
    node.destroy_node()


def lines(inbox: Inbox) -> list[str]:
    return [message.msg for message in list(inbox.messages) if message.name == "listener"]


def test_a_topic_without_publisher_is_named_with_the_image_topics_there_are(
    probe: Probe, node: Node, warnings: Inbox
) -> None:
    from sensor_msgs.msg import CompressedImage, Image

    from darkseg_ros.nodes.image_subscription import subscribe_to_images
    from tests.ros.probe import eventually

    probe.publisher(Image, "/camera/image_raw")
    probe.publisher(CompressedImage, "/camera/image_raw/compressed")
    node.create_publisher(Image, "~/own_answer", 1)
    eventually(lambda: node.count_publishers("/camera/image_raw/compressed"))
    subscribe_to_images(node, lambda _: None)
    eventually(lambda: lines(warnings))
    assert lines(warnings) == [
        "nobody publishes /image (raw); image topics here are raw: /camera/image_raw; "
        "compressed: /camera/image_raw/compressed; remap with -r image:=TOPIC, in launch files image:=TOPIC"
    ]


def test_nothing_is_said_of_a_topic_with_a_publisher_or_a_subscription_that_ended(
    probe: Probe, node: Node, warnings: Inbox
) -> None:
    from sensor_msgs.msg import Image

    from darkseg_ros.nodes.image_subscription import subscribe_to_images
    from tests.ros.probe import eventually

    probe.publisher(Image, "/camera/image_raw")
    eventually(lambda: node.count_publishers("/camera/image_raw"))
    subscribe_to_images(node, lambda _: None, topic="/camera/image_raw")
    node.destroy_subscription(subscribe_to_images(node, lambda _: None, topic="/unknown"))
    subscribe_to_images(node, lambda _: None, topic="/nobody")  # judged after the two
    eventually(lambda: lines(warnings))
    assert [line.split()[2] for line in lines(warnings)] == ["/nobody"]
