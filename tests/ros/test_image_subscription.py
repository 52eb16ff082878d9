from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import pytest

from darkseg_ros.errors import DarksegError, ImageMessageError
from tests.core.frames.video_streams import compressed_video, encode, ffmpeg_packet, pictures

if TYPE_CHECKING:
    from rclpy.node import Node

    from tests.ros.probe import Probe

MakeNode = Callable[..., "Node"]


@pytest.fixture
def make_node(probe: Probe) -> Iterator[MakeNode]:
    """Nodes with the parameter `transport` and remappings, as the command line gives them."""
    from rclpy.node import Node
    from rclpy.parameter import Parameter

    from darkseg_ros.nodes.overlay_node import OverlayParameters
    from darkseg_ros.nodes.parameters import declare_parameters

    nodes = []

    def make(transport: str, *remappings: str, namespace: str = "") -> Node:
        arguments = [word for remapping in remappings for word in ("-r", remapping)]
        node = Node(
            "listener",
            namespace=namespace,
            context=probe.node.context,
            cli_args=["--ros-args", *arguments],
            parameter_overrides=[Parameter("transport", value=transport)],
        )
        nodes.append(node)
        declare_parameters(node, OverlayParameters)
        return node

    yield make
    for node in nodes:
        node.destroy_node()


@pytest.mark.parametrize(
    ("transport", "remappings", "namespace", "expected"),
    [
        ("raw", ["image:=/camera/image_raw"], "", "/camera/image_raw"),
        ("compressed", [], "", "/image/compressed"),
        ("compressed", [], "/front", "/front/image/compressed"),
        ("compressed", ["image:=/camera/image_raw"], "", "/camera/image_raw/compressed"),
        ("compressed", ["image:=camera/image_raw"], "/front", "/front/camera/image_raw/compressed"),
        ("compressed", ["image/compressed:=/jpegs"], "", "/jpegs"),
        ("compressed", ["image:=/camera/image_raw", "image/compressed:=/jpegs"], "", "/jpegs"),
        ("compressed", ["image:=/cam", "image/compressed:=/cam/compressed"], "", "/cam/compressed"),
    ],
)
def test_compressed_images_follow_the_base_topic_as_with_image_transport(
    make_node: MakeNode, transport: str, remappings: list[str], namespace: str, expected: str
) -> None:
    from darkseg_ros.nodes.image_subscription import subscribe_to_images

    node = make_node(transport, *remappings, namespace=namespace)
    assert subscribe_to_images(node, lambda _: None).topic_name == expected


@pytest.mark.parametrize(
    ("transport", "package"), [("ffmpeg", "ffmpeg_image_transport_msgs"), ("foxglove", "foxglove_msgs")]
)
def test_a_video_transport_whose_messages_are_not_installed_names_the_package(
    make_node: MakeNode, transport: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    from darkseg_ros.nodes.image_subscription import subscribe_to_images

    monkeypatch.setitem(sys.modules, package, None)
    cure = package.replace("_", "-")
    with pytest.raises(DarksegError, match=rf"messages of {package} .*; install .* ros-jazzy-{cure}, and source it"):
        subscribe_to_images(make_node(transport), lambda _: None)


def test_each_video_packet_is_decoded_when_it_comes_though_its_frame_may_be_dropped() -> None:
    std_msgs = pytest.importorskip("std_msgs.msg", reason="ROS 2 messages are not installed", exc_type=ImportError)
    from darkseg_ros.frames.image_stream import ImageStream
    from darkseg_ros.nodes.image_subscription import ReceivedImage

    shown = pictures(6)
    packets = encode(shown)
    stream = ImageStream()
    messages = [ffmpeg_packet(data, index=index) for index, data in enumerate(packets) if index != 4]
    for message in messages:
        message.header = std_msgs.Header()
    images = [ReceivedImage(message, stream) for message in messages]
    assert np.abs(images[3].bgr().astype(int) - shown[3]).mean() < 8  # though nobody asked for those before
    with pytest.raises(ImageMessageError, match="1 video packet was lost"):
        images[4].bgr()
    assert stream.lost_packets == 1


def test_foxgloves_timestamp_and_frame_become_a_header() -> None:
    std_msgs = pytest.importorskip("std_msgs.msg", reason="ROS 2 messages are not installed", exc_type=ImportError)
    time = pytest.importorskip("builtin_interfaces.msg", reason="ROS 2 is not installed", exc_type=ImportError)
    from darkseg_ros.frames.image_stream import ImageStream
    from darkseg_ros.nodes.image_subscription import ReceivedImage

    message = compressed_video(encode(pictures(1))[0], index=0)
    message.timestamp = time.Time(sec=7, nanosec=8)
    image = ReceivedImage(message, ImageStream())
    assert image.header == std_msgs.Header(stamp=time.Time(sec=7, nanosec=8), frame_id="camera")
