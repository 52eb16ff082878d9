"""segmentation_node in its own process, over real middleware; the fake engine answers from the pixels."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from tests.ros.conftest import StartNode
    from tests.ros.probe import Probe

WARN, ERROR, STALE = 1, 2, 3


def test_class_map_has_the_cameras_size_and_the_engines_classes(probe: Probe, segmentation_node: StartNode) -> None:
    from tests.ros.probe import image, pixels

    segmentation_node()
    camera, class_maps = probe.connect()
    # four quarters of a frame twice the network's size: blue is the class
    bgr = np.zeros((128, 256, 3), np.uint8)
    bgr[:64, :128, 0], bgr[:64, 128:, 0], bgr[64:, :128, 0], bgr[64:, 128:, 0] = 3, 7, 18, 19
    stamp = probe.next_stamp()
    camera.publish(image(bgr, stamp))
    answer = class_maps.of_stamp(stamp)
    assert (answer.encoding, answer.height, answer.width, answer.step) == ("mono8", 128, 256, 256)
    class_map = pixels(answer)
    for rows, columns, train_id in ((0, 0, 3), (0, 128, 7), (64, 0, 18), (64, 128, 0)):
        # one network pixel beside each edge is a mixture
        quarter = class_map[rows + 2 : rows + 62, columns + 2 : columns + 126]
        assert (quarter == train_id).all()


@pytest.mark.parametrize("hw", [(1, 1), (3, 5), (97, 131)])
def test_odd_sizes_keep_their_size(probe: Probe, segmentation_node: StartNode, hw: tuple[int, int]) -> None:
    from tests.ros.probe import bgr_of, image, pixels

    segmentation_node()
    camera, class_maps = probe.connect()
    stamp = probe.next_stamp()
    camera.publish(image(bgr_of((5, 9, 0), hw), stamp))
    np.testing.assert_array_equal(pixels(class_maps.of_stamp(stamp)), np.full(hw, 5, np.uint8))


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_real_backends_answer_through_the_node_and_end_cleanly(
    probe: Probe, segmentation_node: StartNode, backend: str
) -> None:
    from tests.ros.probe import bgr_of, image, pixels

    pytest.importorskip(backend, reason=f"{backend} is not installed")
    process = segmentation_node(backend=backend, threads=1)
    camera, class_maps = probe.connect()
    stamp = probe.next_stamp()
    camera.publish(image(bgr_of((255, 0, 0), (33, 77)), stamp))  # the tiny model takes blue for sky
    np.testing.assert_array_equal(pixels(class_maps.of_stamp(stamp)), np.full((33, 77), 10, np.uint8))
    # the status of a moment before the engine was open names none
    probe.status(lambda status: status.level <= WARN and backend in status.values["engine"].lower())
    status, _ = process.end(signal.SIGINT)
    assert status == 0, process.log


def test_the_shipped_model_runs_within_its_memory(probe: Probe, start_node: StartNode) -> None:
    from tests.ros.probe import eventually, image

    process = start_node("segmentation_node")
    camera, class_maps = probe.connect()
    bgr = np.random.default_rng(0).integers(0, 255, (512, 1024, 3)).astype(np.uint8)
    for _ in range(30):
        stamp = probe.next_stamp()
        camera.publish(image(bgr, stamp))
        eventually(lambda stamp=stamp: stamp in class_maps.stamps, what="a class map")
    status = Path(f"/proc/{process.process.pid}/status").read_text(encoding="ascii")
    peak_mb = int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1000
    assert peak_mb <= 400


def test_the_header_is_copied_bit_exact(probe: Probe, segmentation_node: StartNode) -> None:
    from tests.ros.probe import bgr_of, image

    segmentation_node()
    camera, class_maps = probe.connect()
    message = image(bgr_of((4, 0, 0)), probe.next_stamp(), frame_id="ns/caméra_0 left")
    message.header.stamp.nanosec = 999_999_999
    camera.publish(message)
    answer = class_maps.of_stamp(message.header.stamp.sec * 1_000_000_000 + 999_999_999)
    assert answer.header == message.header


def test_confidence_comes_only_while_somebody_subscribes(probe: Probe, segmentation_node: StartNode) -> None:
    from sensor_msgs.msg import Image

    from tests.ros.probe import bgr_of, eventually, image, pixels

    segmentation_node()
    camera, class_maps = probe.connect()
    topic = "/segmentation_node/confidence"

    def serve(green: int) -> int:
        stamp = probe.next_stamp()
        camera.publish(image(bgr_of((4, green, 0)), stamp))
        class_maps.of_stamp(stamp)
        return stamp

    serve(10)
    with probe.listening(Image, topic) as confidences:
        eventually(lambda: serve(77) and confidences.messages)
        confidence = confidences.messages[-1]
        class_maps.of_stamp(confidence.header.stamp.sec * 1_000_000_000 + confidence.header.stamp.nanosec)
        assert confidence.encoding == "mono8"
        assert (pixels(confidence) == 77).all()
        assert len(confidences.messages) < len(class_maps.messages)


def test_the_color_mask_has_the_colours_of_the_classes_and_comes_only_while_somebody_subscribes(
    probe: Probe, segmentation_node: StartNode
) -> None:
    from sensor_msgs.msg import Image

    from darkseg_ros.classes import CITYSCAPES
    from tests.ros.probe import bgr_of, eventually, image

    segmentation_node()
    camera, class_maps = probe.connect()

    def serve() -> int:
        stamp = probe.next_stamp()
        camera.publish(image(bgr_of((4, 200, 0)), stamp))
        class_maps.of_stamp(stamp)
        return stamp

    serve()
    with probe.listening(Image, "/segmentation_node/color_mask") as masks:
        eventually(lambda: serve() and masks.messages)
        mask = masks.messages[-1]
        assert (mask.encoding, mask.step, mask.header.frame_id) == ("rgb8", mask.width * 3, "camera")
        rgb = np.frombuffer(mask.data, np.uint8).reshape(mask.height, mask.width, 3)
        assert (rgb == CITYSCAPES.rows[4].rgb).all()
        assert len(masks.messages) < len(class_maps.messages)


def test_compressed_images_are_served_with_compressed_transport(probe: Probe, segmentation_node: StartNode) -> None:
    from tests.ros.probe import bgr_of, jpeg, pixels

    segmentation_node(transport="compressed")
    camera, class_maps = probe.connect(compressed=True)
    stamp = probe.next_stamp()
    camera.publish(jpeg(bgr_of((128, 128, 128), (50, 70)), stamp, frame_id="rear"))
    answer = class_maps.of_stamp(stamp)
    assert answer.header.frame_id == "rear"
    # grey 128 survives JPEG exactly; 128 = 6 · 19 + 14
    np.testing.assert_array_equal(pixels(answer), np.full((50, 70), 14, np.uint8))


def test_label_info_reaches_those_who_come_later(probe: Probe, segmentation_node: StartNode) -> None:
    pytest.importorskip("std_msgs")
    from std_msgs.msg import String

    from darkseg_ros.nodes import label_info
    from tests.ros.probe import TRANSIENT_LOCAL, eventually

    if label_info.LabelInfo is not None:
        pytest.skip("vision_msgs is installed: label_info is no JSON here")
    segmentation_node(min_confidence=0.25)
    probe.connect()  # long after it was published
    inbox = probe.listen(String, "/segmentation_node/label_info", durability=TRANSIENT_LOCAL)
    eventually(lambda: inbox.messages)
    content = json.loads(inbox.messages[0].data)
    assert (content["bundle"], content["threshold"], content["unlabelled_id"]) == ("tiny", 0.25, 255)
    assert len(content["class_map"]) == 19
    assert content["class_map"][13] == {
        "class_id": 13,
        "class_name": "car",
        "label_id": 26,
        "category": "vehicle",
        "rgb": [0, 0, 142],
    }


def test_min_confidence_takes_effect_without_a_restart(probe: Probe, segmentation_node: StartNode) -> None:
    from tests.ros.probe import image, pixels

    segmentation_node()
    camera, class_maps = probe.connect()
    bgr = np.zeros((64, 128, 3), np.uint8)
    bgr[..., 0] = 6
    bgr[:, :64, 1], bgr[:, 64:, 1] = 100, 200

    def serve() -> Any:
        stamp = probe.next_stamp()
        camera.publish(image(bgr, stamp))
        return pixels(class_maps.of_stamp(stamp))

    assert (serve() == 6).all()
    assert probe.set_parameter("min_confidence", 0.5).successful  # 127.5 of 255
    half = serve()
    assert (half[:, :64] == 255).all()
    assert (half[:, 64:] == 6).all()


def test_parameters_are_held_to_their_range_and_read_only_mark(probe: Probe, segmentation_node: StartNode) -> None:
    segmentation_node()
    probe.camera()
    for value in (1.5, -0.1, float("nan")):
        answer = probe.set_parameter("min_confidence", value)
        assert not answer.successful
        assert "range" in answer.reason
    answer = probe.set_parameter("threads", 2)
    assert not answer.successful
    assert "read-only" in answer.reason


def test_deactivate_stops_and_activate_resumes_class_maps(probe: Probe, segmentation_node: StartNode) -> None:
    from tests.ros.probe import bgr_of, eventually, image

    segmentation_node()
    camera, class_maps = probe.connect()
    assert probe.change_state("deactivate")
    assert probe.status(lambda status: status.message == "inactive").level == WARN
    eventually(lambda: camera.get_subscription_count() == 0, what="no subscriber while inactive")
    before = len(class_maps.messages)
    assert probe.change_state("activate")
    eventually(camera.get_subscription_count)
    stamp = probe.next_stamp()
    camera.publish(image(bgr_of((2, 0, 0)), stamp))
    class_maps.of_stamp(stamp)
    assert len(class_maps.messages) == before + 1
    assert probe.change_state("deactivate")
    assert probe.change_state("cleanup")
    assert probe.status(lambda status: status.values["state"] == "unconfigured").message == "not configured"
    assert probe.change_state("configure")
    assert probe.change_state("activate")
    probe.status(lambda status: status.message == "waiting for the first image")


def test_without_autostart_it_waits_to_be_configured(probe: Probe, segmentation_node: StartNode) -> None:
    segmentation_node(autostart=False)
    status = probe.status(lambda status: status.values["state"] == "unconfigured")
    assert (status.level, status.message) == (WARN, "not configured")


def test_a_parameter_of_a_wrong_type_is_one_line(segmentation_node: StartNode) -> None:
    process = segmentation_node(threads="many")
    assert process.process.wait(timeout=20) == 1
    assert "threads" in process.log
    assert "Traceback" not in process.log


@pytest.mark.parametrize(
    ("parameters", "complaint"),
    [
        ({"bundle": "/nowhere/at/all"}, "/nowhere/at/all"),
        ({"bundle": r'"/nowhere\n  at all"'}, "/nowhere at all"),
        ({"backend": "abacus"}, "abacus"),
        ({"transport": "pigeon"}, "transport must be one of raw, compressed, ffmpeg, foxglove, got 'pigeon'"),
    ],
)
def test_what_cannot_be_configured_is_said_on_diagnostics_and_the_process_stays(
    probe: Probe, segmentation_node: StartNode, parameters: dict[str, str], complaint: str
) -> None:
    process = segmentation_node(**parameters)
    status = probe.status(lambda status: status.level == ERROR)
    assert status.message.startswith("cannot configure: ")
    assert complaint in status.message
    assert "\n" not in status.message
    assert status.values["state"] == "unconfigured"
    probe.status(lambda status: status.level == ERROR)  # not only once
    assert process.alive
    assert complaint in process.log


def test_namespace_and_remapping_move_the_topics(probe: Probe, start_node: StartNode, tiny_bundle: Path) -> None:
    from sensor_msgs.msg import Image

    from tests.ros.probe import bgr_of, eventually, image

    start_node(
        "segmentation_node",
        parameters={"bundle": tiny_bundle, "backend": "fake"},
        remappings={"__ns": "/front", "image": "/camera/image_raw"},
    )
    class_maps = probe.listen(Image, "/front/segmentation_node/class_map")
    camera = probe.camera("/camera/image_raw")

    def answered() -> bool:
        camera.publish(image(bgr_of((2, 0, 0)), probe.next_stamp()))
        return bool(class_maps.messages)

    eventually(answered)


def test_a_subscriber_that_cannot_be_served_is_named(probe: Probe, segmentation_node: StartNode) -> None:
    from sensor_msgs.msg import Image

    from tests.ros.probe import TRANSIENT_LOCAL, eventually

    process = segmentation_node()
    probe.camera()
    probe.listen(Image, "/segmentation_node/class_map", durability=TRANSIENT_LOCAL)
    line = eventually(
        lambda: next((line for line in process.log.splitlines() if "no messages on" in line), ""),
        what="a warning of incompatible QoS",
    )
    assert "no messages on /segmentation_node/class_map from /segmentation_node (reliable, volatile)" in line
    assert "to /probe (reliable, transient_local): ERROR: Volatile publisher and transient local" in line


def test_qos_can_be_overridden_and_a_publisher_that_does_not_fit_is_named(
    probe: Probe, segmentation_node: StartNode
) -> None:
    from sensor_msgs.msg import Image

    from tests.ros.probe import eventually

    process = segmentation_node(**{"qos_overrides./image.subscription.reliability": "reliable"})
    probe.publisher(Image, "/image")
    line = eventually(
        lambda: next((line for line in process.log.splitlines() if "no messages on" in line), ""),
        what="a warning of incompatible QoS",
    )
    assert "no messages on /image from /probe (best_effort, volatile)" in line
    assert "to /segmentation_node (reliable, volatile): ERROR: Best effort publisher and reliable" in line
