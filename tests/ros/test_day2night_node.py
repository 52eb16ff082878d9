"""day2night_node in its own process."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from darkseg_ros.night.day_to_night import NightSettings, open_day_to_night
from tests.bundles import write_tiny_translator

if TYPE_CHECKING:
    from tests.ros.conftest import StartNode
    from tests.ros.probe import Inbox, Probe

HW = (48, 80)


@pytest.fixture(scope="module")
def translator_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_translator(tmp_path_factory.mktemp("bundles"), HW)


def day(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*HW, 3)).astype(np.uint8)


def connect(probe: Probe, *, compressed: bool = False) -> tuple[Any, Inbox]:
    """A camera and the night frames, after a first frame made its way through."""
    from sensor_msgs.msg import CompressedImage, Image

    from tests.ros.probe import eventually, image, jpeg

    nights = probe.listen(Image, "/day2night_node/night")
    if compressed:
        camera, message = probe.camera("/image/compressed", CompressedImage), jpeg
    else:
        camera, message = probe.camera("/image"), image

    def answered() -> bool:
        camera.publish(message(day(0), probe.next_stamp()))
        return bool(nights.messages)

    eventually(answered, what="a first night frame")
    return camera, nights


def send(camera: Any, nights: Inbox, message: Any) -> Any:
    """The night frame of a message."""
    from tests.ros.probe import stamp_ns

    camera.publish(message)
    return nights.of_stamp(stamp_ns(message))


@pytest.mark.parametrize("size_hw", [HW, (33, 57)])
def test_a_night_frame_has_the_header_and_size_of_the_day_frame(
    probe: Probe, start_node: StartNode, translator_bundle: Path, size_hw: tuple[int, int]
) -> None:
    from tests.ros.probe import bgr_of, image, pixels

    start_node("day2night_node", parameters={"bundle": translator_bundle, "backend": "onnxruntime"})
    camera, nights = connect(probe)
    night = send(camera, nights, image(bgr_of((10, 20, 30), size_hw), probe.next_stamp(), "front_left"))
    assert (night.encoding, night.header.frame_id) == ("bgr8", "front_left")
    assert pixels(night).shape == (*size_hw, 3)
    assert (pixels(night) == (245, 235, 225)).all()


def test_without_a_model_a_restart_and_lost_frames_change_no_pixel(probe: Probe, start_node: StartNode) -> None:
    from tests.ros.probe import image, pixels

    stamp = probe.next_stamp() + 10**10
    expected = open_day_to_night(NightSettings(seed=7, noise=6.0))(day(1), stamp_ns=stamp)
    for frames_before in (0, 5):
        node = start_node("day2night_node", parameters={"seed": 7, "noise": 6.0})
        camera, nights = connect(probe)
        for _ in range(frames_before):
            camera.publish(image(day(2), probe.next_stamp()))
        nights.messages.clear()
        np.testing.assert_array_equal(pixels(send(camera, nights, image(day(1), stamp))), expected)
        assert node.end(signal.SIGINT)[0] == 0
        probe.node.destroy_publisher(camera)


def test_labels_are_passed_on_with_their_night_frame_only(probe: Probe, start_node: StartNode) -> None:
    from sensor_msgs.msg import Image

    from darkseg_ros.frames.messages import fill_image
    from tests.ros.probe import RELIABLE, eventually, header, image, pixels

    start_node("day2night_node", parameters={"pass_labels": True})
    camera, nights = connect(probe)
    passed = probe.listen(Image, "/day2night_node/label")
    labels = probe.publisher(Image, "/label", reliability=RELIABLE)
    eventually(labels.get_subscription_count)
    eventually(lambda: probe.node.count_publishers("/day2night_node/label"))

    def label(value: int, stamp: int) -> Any:
        return fill_image(Image(), np.full(HW, value, np.uint8), encoding="mono8", header=header(stamp, "cam"))

    alone, label_first, image_first = (probe.next_stamp() for _ in range(3))
    labels.publish(label(1, alone))
    labels.publish(label(2, label_first))
    send(camera, nights, image(day(1), label_first))
    first = passed.of_stamp(label_first)
    send(camera, nights, image(day(1), image_first))
    labels.publish(label(3, image_first))
    second = passed.of_stamp(image_first)
    assert passed.stamps == [label_first, image_first]
    assert (pixels(first) == 2).all()
    assert (pixels(second) == 3).all()
    assert (second.encoding, second.header.frame_id) == ("mono8", "cam")


def test_labels_are_left_alone_unless_asked_for(probe: Probe, start_node: StartNode) -> None:
    start_node("day2night_node")
    connect(probe)
    assert probe.node.count_subscribers("/label") == 0
    assert probe.node.count_publishers("/day2night_node/label") == 0


def test_compressed_frames_are_darkened_with_compressed_transport(
    probe: Probe, start_node: StartNode, translator_bundle: Path
) -> None:
    from tests.ros.probe import bgr_of, jpeg, pixels

    start_node("day2night_node", parameters={"transport": "compressed", "bundle": translator_bundle})
    camera, nights = connect(probe, compressed=True)
    night = send(camera, nights, jpeg(bgr_of((128, 128, 128), HW), probe.next_stamp()))
    assert (pixels(night) == 127).all()


def test_faulty_frames_are_survived_and_counted(probe: Probe, start_node: StartNode) -> None:
    from tests.ros.probe import image, pixels

    start_node("day2night_node")
    camera, nights = connect(probe)
    broken = image(day(1), probe.next_stamp())
    broken.encoding = "plaid8"
    camera.publish(broken)
    status = probe.status(lambda status: status.number("dropped_undecodable") == 1)
    assert "plaid8" in status.values["last_error"]
    good = image(day(1), probe.next_stamp())
    night = send(camera, nights, good)
    camera.publish(good)
    status = probe.status(lambda status: status.number("dropped_duplicate_stamp") == 1)
    assert status.number("frames_in") == status.number("frames_published") + status.dropped
    assert pixels(night).shape == (*HW, 3)


def test_frames_that_all_fail_are_an_error_of_the_node(probe: Probe, start_node: StartNode) -> None:
    from diagnostic_msgs.msg import DiagnosticArray

    from tests.ros.probe import eventually, image

    start_node("day2night_node", parameters={"stale_after_ms": 500})
    camera, _ = connect(probe)

    def reported() -> bool:
        broken = image(day(1), probe.next_stamp())
        broken.encoding = "plaid8"
        camera.publish(broken)
        time.sleep(0.05)
        return any("no night frame leaves: undecodable" in message for message in summaries())

    def summaries() -> list[str]:
        return [status.message for array in list(diagnostics.messages) for status in array.status]

    diagnostics = probe.listen(DiagnosticArray, "/diagnostics")
    eventually(reported)


def test_diagnostics_name_the_night_and_the_silence(probe: Probe, start_node: StartNode) -> None:
    start_node("day2night_node", parameters={"seed": 3, "stale_after_ms": 500})
    connect(probe)
    status = probe.status(lambda status: status.level == 3)
    assert status.message == "no image any more"
    assert status.values["night"] == "generated night, seed 3"


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"bundle": "SEGMENTER"}, "is a bundle for 'semantic segmentation', expected one for 'day to night"),
        ({"bundle": "nowhere"}, "nowhere is no model bundle"),
        ({"night_images": "nowhere"}, "nowhere is not a folder"),
        ({"transport": "pigeon"}, "transport must be one of raw, compressed, ffmpeg, foxglove, got 'pigeon'"),
        ({"strength": 1.5}, "strength"),
    ],
)
def test_what_cannot_work_ends_the_node_with_one_line(
    start_node: StartNode, tiny_bundle: Path, parameters: dict[str, Any], message: str
) -> None:
    values = {name: tiny_bundle if value == "SEGMENTER" else value for name, value in parameters.items()}
    node = start_node("day2night_node", parameters=values)
    assert node.process.wait(timeout=30) == 1
    assert message in node.log
    assert "Traceback" not in node.log


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_it_properly(probe: Probe, start_node: StartNode, number: signal.Signals) -> None:
    node = start_node("day2night_node")
    connect(probe)
    status, seconds = node.end(number)
    assert status == 0, node.log
    assert seconds < 5


_ENDLESS_TRANSLATION = """
import sys, threading
from darkseg_ros.nodes import day2night_node

class Endless:
    name = "endless"
    def __call__(self, day_bgr, *, stamp_ns):
        print("busy", flush=True)
        threading.Event().wait()
    def close(self):
        pass

day2night_node.open_day_to_night = lambda settings: Endless()
sys.exit(day2night_node.main())
"""


@pytest.mark.usefixtures("ros_domain")
def test_a_signal_in_the_middle_of_a_frame_does_not_wait_for_it(probe: Probe) -> None:
    from tests.ros.probe import image

    with subprocess.Popen([sys.executable, "-c", _ENDLESS_TRANSLATION], stdout=subprocess.PIPE, text=True) as process:
        try:
            camera = probe.camera("/image")
            for _ in range(20):  # best effort: the first ones may be lost
                camera.publish(image(day(0), probe.next_stamp()))
                time.sleep(0.05)
            assert process.stdout is not None
            assert process.stdout.readline() == "busy\n"
            started_s = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=15) == 0
            assert time.monotonic() - started_s < 3  # 0.5 s on an idle machine
        finally:
            process.kill()
