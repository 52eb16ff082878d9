"""`darkseg view` of a live node."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from darkseg_ros.classes import CITYSCAPES
from darkseg_ros.pictures.live_page import LivePage

if TYPE_CHECKING:
    from tests.ros.conftest import StartNode
    from tests.ros.probe import Probe


def test_a_live_node_is_shown_with_its_camera_its_confidence_and_its_diagnostics(
    probe: Probe, segmentation_node: StartNode
) -> None:
    from darkseg_ros.nodes.stream_viewer import StreamViewer
    from tests.ros.probe import eventually, image, scene

    segmentation_node(max_age_ms=60_000)
    with LivePage(title="live", port=0) as page:
        viewer = StreamViewer(page, class_map_topic="/segmentation_node/class_map", image_topic=None)
        camera = probe.camera()
        picture_bgr = scene((2, 200), seed=1)

        def shown() -> bool:
            camera.publish(image(picture_bgr, probe.next_stamp()))
            status = page.status()
            return bool(status["frame"] and status["confidence"] and status["values"].get("state") == "active")

        eventually(shown, within_s=60)
        status = page.status()
        mask = page.picture("mask", status["frame"])
        viewer.close()
    assert status["level"] in ("OK", "WARN")
    assert status["size"] == "128×96"
    assert [row["name"] for row in status["classes"]] == list(CITYSCAPES.names)
    assert int(status["values"]["frames_in"]) > 0
    assert mask is not None
    mask_bgr = cv2.imdecode(np.frombuffer(mask[1], np.uint8), cv2.IMREAD_COLOR)
    assert (mask_bgr == CITYSCAPES.palette_bgr[2]).all()


def test_a_node_that_is_not_there_is_told(probe: Probe) -> None:
    from darkseg_ros.nodes.stream_viewer import StreamViewer
    from tests.ros.probe import eventually

    with LivePage(title="live", port=0) as page:
        viewer = StreamViewer(page, class_map_topic="/front/class_map", image_topic=None)
        eventually(lambda: "nobody publishes /front/class_map" in page.status()["summary"])
        viewer.close()
