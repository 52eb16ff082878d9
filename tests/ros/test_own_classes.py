"""A bundle of CamVid's 11 classes through the live nodes: segmented, announced, drawn, evaluated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from darkseg_ros.classes import CITYSCAPES, ClassTable
from tests.bundles import CAMVID, write_tiny_bundle

if TYPE_CHECKING:
    from tests.ros.conftest import StartNode
    from tests.ros.probe import Probe


@pytest.fixture(scope="module")
def camvid_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("camvid"), classes=CAMVID)


@pytest.mark.parametrize("backend", ["openvino", "fake"])
def test_a_bundle_of_11_classes_runs_in_the_node_and_is_announced(
    probe: Probe, segmentation_node: StartNode, camvid_bundle: Path, backend: str
) -> None:
    from std_msgs.msg import String

    from darkseg_ros.nodes import label_info
    from tests.ros.probe import TRANSIENT_LOCAL, bgr_of, eventually, image, pixels

    segmentation_node(bundle=camvid_bundle, backend=backend)
    camera, class_maps = probe.connect()
    stamp = probe.next_stamp()
    camera.publish(image(bgr_of((21, 255, 255) if backend == "fake" else (255, 0, 0), (33, 77)), stamp))
    # the tiny model takes blue for class 10, the fake engine gives 21 mod 11
    np.testing.assert_array_equal(pixels(class_maps.of_stamp(stamp)), np.full((33, 77), 10, np.uint8))
    if label_info.LabelInfo is None:
        inbox = probe.listen(String, "/segmentation_node/label_info", durability=TRANSIENT_LOCAL)
        eventually(lambda: inbox.messages)
        announced = json.loads(inbox.messages[0].data)["class_map"]
        assert [(row["class_id"], row["class_name"]) for row in announced] == list(enumerate(CAMVID.names))
        assert [tuple(row["rgb"]) for row in announced] == [row.rgb for row in CAMVID]


def test_overlays_have_the_colours_of_the_bundle(probe: Probe, start_node: StartNode, camvid_bundle: Path) -> None:
    from tests.ros.probe import bgr_of, image, pixels
    from tests.ros.test_overlay_node import class_map_message, connect

    start_node("overlay_node", parameters={"opacity": 1.0, "bundle": str(camvid_bundle)})
    camera, class_maps, overlays = connect(probe)
    stamp = probe.next_stamp()
    camera.publish(image(bgr_of((10, 20, 30), (1, 2)), stamp))
    class_maps.publish(class_map_message(np.array([[10, 4]], np.uint8), stamp))
    # bicyclist is (0, 128, 192), pavement (60, 40, 222), in RGB
    assert pixels(overlays.of_stamp(stamp)).tolist() == [[[192, 128, 0], [222, 40, 60]]]


class Message:
    """A generated message type, as far as it is used."""

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)


@pytest.mark.parametrize("classes", [CITYSCAPES, CAMVID])
def test_label_info_is_what_nav2s_semantic_segmentation_layer_reads(
    monkeypatch: pytest.MonkeyPatch, classes: ClassTable
) -> None:
    """The layer reads class_name and class_id of each entry of class_map, and threshold."""
    pytest.importorskip("rclpy", reason="ROS 2 is not installed")
    from builtin_interfaces.msg import Time
    from rclpy.qos import DurabilityPolicy, ReliabilityPolicy

    from darkseg_ros.nodes import label_info

    sent: list[Any] = []
    offered: list[Any] = []

    def advertise(node: Any, message_type: type, topic: str, qos: Any) -> Any:
        offered.append((message_type, topic, qos))
        return Message(publish=sent.append)

    monkeypatch.setattr(label_info, "LabelInfo", Message)
    monkeypatch.setattr(label_info, "VisionClass", Message, raising=False)
    monkeypatch.setattr(label_info, "advertise", advertise)
    clock = Message(now=lambda: Message(to_msg=lambda: Time(sec=7)))
    publisher = label_info.LabelInfoPublisher(Message(get_clock=lambda: clock), "~/label_info")
    publisher.publish(classes, bundle="tiny", min_confidence=0.25)
    ((message_type, topic, qos),) = offered
    assert (message_type, topic) == (Message, "~/label_info")
    assert qos.durability is DurabilityPolicy.TRANSIENT_LOCAL
    assert qos.reliability is ReliabilityPolicy.RELIABLE
    assert [(each.class_id, each.class_name) for each in sent[0].class_map] == list(enumerate(classes.names))
    assert (sent[0].threshold, sent[0].header.stamp.sec) == (0.25, 7)
