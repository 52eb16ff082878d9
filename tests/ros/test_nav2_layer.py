"""What Nav2's semantic_segmentation_layer (kiwicampus, a70cf6e) takes for granted of the three topics that it reads.

| the layer | where in its source |
|---|---|
| subscribes masks and confidence as sensor data (best effort, depth 50), labels latched | `onInitialize` |
| joins mask, confidence and cloud by exactly equal stamps | `ExactSync3` |
| reads pixel (u, v) at ``data[v * width + u]``: no padding, confidence of the mask's size | `bufferSegmentation` |
| skips pixels whose value no label has, as 255 | `hasClassId` |
| takes masks only after labels | `isClassIdCostMapEmpty` |

The content of `LabelInfo` is tested in test_own_classes.py, and live in test_foreign_messages.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from tests.ros.conftest import StartNode
    from tests.ros.probe import Probe


def test_mask_confidence_and_labels_are_as_the_layer_reads_them(probe: Probe, segmentation_node: StartNode) -> None:
    pytest.importorskip("rclpy", reason="ROS 2 is not installed")
    from rclpy.qos import qos_profile_sensor_data
    from sensor_msgs.msg import Image
    from std_msgs.msg import String

    from darkseg_ros.nodes import label_info
    from tests.ros.probe import BEST_EFFORT, TRANSIENT_LOCAL, eventually, image, scene

    assert qos_profile_sensor_data.reliability == BEST_EFFORT
    segmentation_node(min_confidence=0.5, stale_after_ms=0)
    masks = probe.listen(Image, "/segmentation_node/class_map", reliability=BEST_EFFORT)
    confidences = probe.listen(Image, "/segmentation_node/confidence", reliability=BEST_EFFORT)
    labels_type = String if label_info.LabelInfo is None else label_info.LabelInfo
    labels = probe.listen(labels_type, "/segmentation_node/label_info", durability=TRANSIENT_LOCAL)
    eventually(lambda: labels.messages, what="labels before any mask")
    assert masks.messages == []

    camera, _ = probe.connect()
    for hw in ((33, 77), (64, 128), (1, 5)):  # 77 is no multiple of any alignment
        bgr = scene((3, 200), hw, seed=1)
        bgr[:, 0, 1] = 20  # the fake engine's confidence is the green channel
        stamp = probe.next_stamp()
        camera.publish(image(bgr, stamp, frame_id="front_left"))
        mask, confidence = masks.of_stamp(stamp), confidences.of_stamp(stamp)
        assert mask.header == confidence.header
        assert mask.header.frame_id == "front_left"
        for each in (mask, confidence):
            assert (each.height, each.width, each.step, each.encoding) == (*hw, hw[1], "mono8")
            assert len(each.data) == hw[0] * hw[1]
        sure = np.frombuffer(confidence.data, np.uint8) >= 128
        np.testing.assert_array_equal(np.frombuffer(mask.data, np.uint8), np.where(sure, 3, 255))
        assert sure.any()
