from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from tests.ros.probe import Probe


def writing(values: np.ndarray) -> Callable[[np.ndarray], None]:
    def write(into: np.ndarray) -> None:
        into[:] = values

    return write


@pytest.mark.parametrize("way", ["librcl", "bytes", "message"])
def test_maps_arrive_with_the_cameras_header_whatever_way_they_are_sent(
    probe: Probe, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rclpy.lifecycle import LifecycleNode
    from sensor_msgs.msg import Image

    from darkseg_ros.frames.image_stream import ImageStream
    from darkseg_ros.frames.messages import fill_image
    from darkseg_ros.nodes import map_publisher
    from darkseg_ros.nodes.image_subscription import ReceivedImage
    from tests.ros.probe import eventually, header

    if way == "bytes":
        monkeypatch.setattr(map_publisher, "librcl", lambda: None)
    elif way == "message":
        monkeypatch.setattr(map_publisher, "serialised_form_is_known", lambda: False)
    node = LifecycleNode("maps", context=probe.node.context)
    maps = map_publisher.MapPublisher(node, "~/class_map")
    assert not maps.is_wanted
    inbox = probe.listen(Image, "/maps/class_map")
    eventually(lambda: maps.is_wanted)

    def publish(number: int, shape: tuple[int, ...], frame_id: str = "front") -> Image:
        values = np.random.default_rng(number).integers(0, 256, shape).astype(np.uint8)
        image = ReceivedImage(Image(header=header(number, frame_id)), ImageStream())
        assert maps.publish(writing(values), shape, image) == ""
        encoding = "mono8" if len(shape) == 2 else "rgb8"
        return fill_image(Image(), values, encoding=encoding, header=image.header)

    publish(1, (2, 3))  # an inactive node says nothing
    node.trigger_configure()
    node.trigger_activate()
    expected = [publish(2, (2, 3)), publish(3, (2, 3)), publish(4, (3, 2)), publish(5, (3, 2), "rear")]
    expected.append(publish(6, (2, 2, 3), "rear"))
    eventually(lambda: len(inbox.messages) == 5)
    assert inbox.messages == expected
    node.destroy_node()


def test_a_map_that_cannot_be_sent_is_told_and_the_next_one_goes_out(probe: Probe) -> None:
    from rclpy.lifecycle import LifecycleNode
    from sensor_msgs.msg import Image

    from darkseg_ros.frames.image_stream import ImageStream
    from darkseg_ros.nodes.image_subscription import ReceivedImage
    from darkseg_ros.nodes.map_publisher import MapPublisher

    node = LifecycleNode("maps", context=probe.node.context)
    maps = MapPublisher(node, "~/class_map")
    node.trigger_configure()
    node.trigger_activate()
    image = ReceivedImage(Image(), ImageStream())

    def fail(into: np.ndarray) -> None:
        raise ValueError("no such map")

    assert maps.publish(fail, (2, 3), image) == "ValueError: no such map"
    assert maps.publish(writing(np.zeros((2, 3))), (2, 3), image) == ""
    node.destroy_node()
