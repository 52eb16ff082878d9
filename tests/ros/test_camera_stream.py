from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tests.ros.probe import Probe

HW = (8, 8)


def test_an_answer_that_is_not_delivered_has_no_say_in_those_after_it(probe: Probe) -> None:
    """As when an engine was given up, and comes back while another serves the camera."""
    import rclpy
    from rclpy.lifecycle import LifecycleNode
    from rclpy.parameter import Parameter
    from sensor_msgs.msg import Image

    from darkseg_ros.frames.image_stream import ImageStream
    from darkseg_ros.model.segmenter import Segmentation
    from darkseg_ros.nodes.camera_stream import Arrival, CameraStream, ToSegment
    from darkseg_ros.nodes.image_subscription import ReceivedImage
    from darkseg_ros.nodes.parameters import declare_parameters, parameter_values
    from darkseg_ros.nodes.segmentation_parameters import SegmentationParameters
    from tests.ros.probe import eventually, pixels

    context = rclpy.Context()
    rclpy.init(context=context)
    node = LifecycleNode("camera", context=context, parameter_overrides=[Parameter("smoothing_frames", value=3)])
    declare_parameters(node, SegmentationParameters)
    in_force = parameter_values(node, SegmentationParameters)
    stream = CameraStream(node, "", live=lambda: in_force, offer=lambda arrival: arrival, report=lambda: None)
    node.trigger_configure()
    node.trigger_activate()
    inbox = probe.listen(Image, "/camera/class_map")
    eventually(lambda: node.count_subscribers("/camera/class_map") > 0)

    def answer(train_id: int, *, delivered: bool) -> None:
        segmentation = Segmentation(np.full(HW, train_id, np.uint8), np.full(HW, 200, np.uint8), HW, 1.0)
        arrival = Arrival(stream, ReceivedImage(Image(), ImageStream()), drive=0)
        frame = ToSegment(arrival, np.zeros((*HW, 3), np.uint8), camera_is_judged=False)
        deliver = stream.answer(frame, segmentation)
        if delivered:
            deliver()

    answer(2, delivered=True)
    answer(2, delivered=True)
    answer(5, delivered=False)
    answer(5, delivered=True)  # one vote against two
    answer(5, delivered=True)
    eventually(lambda: len(inbox.messages) == 4)
    assert [pixels(message)[0, 0] for message in inbox.messages] == [2, 2, 2, 5]
    node.destroy_node()
    rclpy.try_shutdown(context=context)
