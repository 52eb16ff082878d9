"""overlay_node in its own process."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from tests.ros.conftest import StartNode
    from tests.ros.probe import Inbox, Probe


def connect(probe: Probe, *, compressed: bool = False) -> tuple[Any, Any, Inbox]:
    """Camera, publisher of class maps, and the overlays after a first one came through."""
    from sensor_msgs.msg import CompressedImage, Image

    from tests.ros.probe import BEST_EFFORT, RELIABLE, bgr_of, eventually, image, jpeg

    overlays = probe.listen(Image, "/overlay_node/overlay")
    if compressed:
        camera, message = probe.publisher(CompressedImage, "/image/compressed"), jpeg
    else:
        camera, message = probe.publisher(Image, "/image", reliability=BEST_EFFORT), image
    class_maps = probe.publisher(Image, "/class_map", reliability=RELIABLE)

    def drawn() -> bool:
        stamp = probe.next_stamp()
        camera.publish(message(bgr_of((10, 20, 30), (4, 6)), stamp))
        class_maps.publish(class_map_message(np.zeros((4, 6), np.uint8), stamp))
        return bool(overlays.messages)

    eventually(drawn, what="a first overlay")
    return camera, class_maps, overlays


def class_map_message(class_map: np.ndarray, stamp: int) -> Any:
    from sensor_msgs.msg import Image

    from darkseg_ros.frames.messages import fill_image
    from tests.ros.probe import header

    return fill_image(Image(), class_map, encoding="mono8", header=header(stamp))


@pytest.mark.parametrize("class_map_first", [False, True])
def test_overlay_mixes_image_and_class_colour_of_one_stamp(
    probe: Probe, start_node: StartNode, class_map_first: bool
) -> None:
    from tests.ros.probe import bgr_of, image, pixels

    start_node("overlay_node", parameters={"opacity": 0.5})
    camera, class_maps, overlays = connect(probe)
    class_map = np.array([[0, 255]], np.uint8)  # road is (128, 64, 128); 255 stays the image
    stamp = probe.next_stamp()
    messages = [
        (camera, image(bgr_of((10, 20, 30), (1, 2)), stamp, "cam")),
        (class_maps, class_map_message(class_map, stamp)),
    ]
    for publisher, message in reversed(messages) if class_map_first else messages:
        publisher.publish(message)
    overlay = overlays.of_stamp(stamp)
    assert (overlay.encoding, overlay.header.frame_id) == ("bgr8", "cam")
    assert pixels(overlay).tolist() == [[[69, 42, 79], [10, 20, 30]]]


def test_opacity_takes_effect_without_a_restart(probe: Probe, start_node: StartNode) -> None:
    from tests.ros.probe import bgr_of, image, pixels

    start_node("overlay_node")
    camera, class_maps, overlays = connect(probe)
    assert probe.set_parameter("opacity", 1.0, "/overlay_node").successful
    stamp = probe.next_stamp()
    camera.publish(image(bgr_of((10, 20, 30), (1, 1)), stamp))
    class_maps.publish(class_map_message(np.array([[13]], np.uint8), stamp))
    assert pixels(overlays.of_stamp(stamp)).tolist() == [[[142, 0, 0]]]


def test_it_subscribes_only_while_somebody_looks(probe: Probe, start_node: StartNode) -> None:
    from sensor_msgs.msg import Image

    from tests.ros.probe import eventually

    start_node("overlay_node")
    camera = probe.publisher(Image, "/image")
    eventually(lambda: probe.node.count_publishers("/overlay_node/overlay"))
    assert camera.get_subscription_count() == 0
    with probe.listening(Image, "/overlay_node/overlay"):
        eventually(camera.get_subscription_count)
    eventually(lambda: camera.get_subscription_count() == 0)


def test_bad_and_mismatched_frames_are_survived(probe: Probe, start_node: StartNode) -> None:
    from tests.ros.probe import bgr_of, eventually, image

    process = start_node("overlay_node")
    camera, class_maps, overlays = connect(probe)
    for hw, encoding in (((3, 3), "bgr8"), ((1, 1), "plaid8")):
        stamp = probe.next_stamp()
        message = image(bgr_of((1, 2, 3), hw), stamp)
        message.encoding = encoding
        camera.publish(message)
        class_maps.publish(class_map_message(np.array([[0]], np.uint8), stamp))
    stamp = probe.next_stamp()
    camera.publish(image(bgr_of((1, 2, 3), (1, 1)), stamp))
    class_maps.publish(class_map_message(np.array([[0]], np.uint8), stamp))
    overlays.of_stamp(stamp)
    eventually(lambda: "no overlay for a frame" in process.log)


def test_compressed_images_are_drawn_with_compressed_transport(probe: Probe, start_node: StartNode) -> None:
    from tests.ros.probe import bgr_of, jpeg, pixels

    start_node("overlay_node", parameters={"transport": "compressed"})
    camera, class_maps, overlays = connect(probe, compressed=True)
    stamp = probe.next_stamp()
    camera.publish(jpeg(bgr_of((128, 128, 128), (8, 8)), stamp))
    class_maps.publish(class_map_message(np.full((8, 8), 255, np.uint8), stamp))
    assert (pixels(overlays.of_stamp(stamp)) == 128).all()


@pytest.mark.skipif(find_spec("ffmpeg_image_transport_msgs") is not None, reason="its messages are installed here")
def test_a_transport_whose_messages_are_not_installed_is_told_at_the_start(start_node: StartNode) -> None:
    process = start_node("overlay_node", parameters={"transport": "ffmpeg"})
    assert process.process.wait(timeout=20) == 1
    assert "install that package of your ROS distribution, such as ros-jazzy-ffmpeg-image-transport-msgs" in process.log
    assert "ready" not in process.log


def test_a_transport_that_does_not_exist_is_one_line(start_node: StartNode) -> None:
    process = start_node("overlay_node", parameters={"transport": "pigeon"})
    assert process.process.wait(timeout=20) == 1
    assert (
        process.log.splitlines()[-1]
        == "overlay_node: transport must be one of raw, compressed, ffmpeg, foxglove, got 'pigeon'"
    )
