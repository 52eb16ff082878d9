"""evaluation_node in its own process."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from darkseg_ros.commands.cli import main
from darkseg_ros.frames.bags import IMAGE_TOPIC, LABEL_TOPIC, START_STAMP_NS, BagWriter
from tests.core.frames.recorded_bags import Recorded, write_recorded_bag

if TYPE_CHECKING:
    from tests.ros.conftest import StartNode
    from tests.ros.probe import Inbox, Probe

HW = (4, 6)
ROAD, SIDEWALK, SKY = (np.full(HW, train_id, np.uint8) for train_id in (0, 1, 10))


class Drive:
    """Publishes the parts of frames, once a first camera image has arrived."""

    def __init__(self, probe: Probe, inbox: Inbox, *, confidence: bool = True) -> None:
        from sensor_msgs.msg import Image

        from tests.ros.probe import RELIABLE, eventually

        topics = ("/image", "/label", "/class_map", *(["/confidence"] if confidence else []))
        self._publishers = [probe.publisher(Image, topic, reliability=RELIABLE, depth=50) for topic in topics]
        for publisher in self._publishers:
            eventually(publisher.get_subscription_count, what="evaluation_node's subscriptions")
        self._probe = probe

        def arrived() -> bool:
            self.publish_image()
            time.sleep(0.5)
            return bool(figures_of(inbox)["frames_in"])

        # best effort: what is sent before both sides know of each other is lost
        eventually(lambda: inbox.messages)
        eventually(arrived, what="a first camera image")

    def publish(self, label_map: np.ndarray, class_map: np.ndarray) -> None:
        """One frame, of full confidence."""
        from tests.ros.probe import bgr_of, image

        stamp = self._probe.next_stamp()
        messages = [image(bgr_of((9, 9, 9), HW), stamp), mono8(label_map, stamp), mono8(class_map, stamp)]
        messages.append(mono8(np.full(HW, 255, np.uint8), stamp))
        for publisher, message in zip(self._publishers, messages, strict=False):
            publisher.publish(message)

    def publish_image(self) -> None:
        """A frame that gets no class map."""
        from tests.ros.probe import bgr_of, image

        self._publishers[0].publish(image(bgr_of((9, 9, 9), HW), self._probe.next_stamp()))


def mono8(values: np.ndarray, stamp: int) -> Any:
    from sensor_msgs.msg import Image

    from darkseg_ros.frames.messages import fill_image
    from tests.ros.probe import header

    return fill_image(Image(), values, encoding="mono8", header=header(stamp))


def listen(probe: Probe) -> Inbox:
    from std_msgs.msg import String

    return probe.listen(String, "/evaluation_node/metrics")


def figures_of(inbox: Inbox) -> dict[str, Any]:
    """The latest figures."""
    return json.loads(inbox.messages[-1].data)


def figures_with(inbox: Inbox, **expected: Any) -> dict[str, Any]:
    """The first figures that have these values."""
    from tests.ros.probe import eventually

    def find() -> dict[str, Any]:
        found = [json.loads(message.data) for message in list(inbox.messages)]
        return next((figures for figures in found if expected.items() <= figures.items()), {})

    try:
        return eventually(find)
    except AssertionError:
        raise AssertionError(f"none with {expected}; the last: {[m.data for m in inbox.messages[-1:]]}") from None


def call_write_report(probe: Probe) -> Any:
    from std_srvs.srv import Trigger

    return probe.call(Trigger, "/evaluation_node/write_report", Trigger.Request())


def test_running_figures_are_those_worked_by_hand(probe: Probe, start_node: StartNode) -> None:
    start_node("evaluation_node")
    inbox = listen(probe)
    drive = Drive(probe, inbox)
    assert figures_with(inbox, class_maps=0)["miou_present"] is None
    for class_map in (ROAD, ROAD, ROAD, SIDEWALK):  # of four frames of road
        drive.publish(ROAD, class_map)
    figures = figures_with(inbox, images=4)
    assert figures["iou.road"] == figures["miou_present"] == figures["pixel_accuracy"] == pytest.approx(3 / 4)
    assert figures["miou"] == pytest.approx(3 / 8)
    assert figures["ece"] == pytest.approx(1 / 4)  # certain everywhere
    assert figures["flicker"] == figures["flicker_static"] == pytest.approx(1 / 3)  # one change of three
    assert figures["iou.sky"] is None
    assert (figures["class_maps"], figures["label_maps"], figures["dropped"], figures["unusable"]) == (4, 4, 0, 0)
    assert 0 < figures["latency_p50_ms"] <= figures["latency_p99_ms"] < 20_000


def test_maps_that_do_not_fit_are_counted_and_survived(probe: Probe, start_node: StartNode) -> None:
    process = start_node("evaluation_node", parameters={"with_confidence": False})
    inbox = listen(probe)
    drive = Drive(probe, inbox, confidence=False)
    drive.publish(ROAD, np.zeros((2, 2), np.uint8))  # another size
    drive.publish(np.full(HW, 33, np.uint8), ROAD)  # no train id
    drive.publish(ROAD, ROAD)
    figures = figures_with(inbox, unusable=2, images=1)
    assert figures["miou"] == 1.0
    assert figures["ece"] is None
    assert "not scored: the frame of stamp" in process.log


def test_frames_that_wait_in_vain_make_room_and_are_counted(probe: Probe, start_node: StartNode) -> None:
    start_node("evaluation_node", parameters={"buffered_frames": 2})
    inbox = listen(probe)
    drive = Drive(probe, inbox)
    for _ in range(5):
        drive.publish_image()
    drive.publish(SKY, SKY)
    figures = figures_with(inbox, images=1)
    assert figures["dropped"] == figures["frames_in"] - 2  # one was answered, one still waits
    assert figures["dropped"] >= 4
    assert figures["miou"] == 1.0


def test_the_service_writes_the_report_while_it_runs(probe: Probe, start_node: StartNode, tmp_path: Path) -> None:
    out = tmp_path / "report"
    process = start_node("evaluation_node", parameters={"output": out})
    inbox = listen(probe)
    drive = Drive(probe, inbox)
    answer = call_write_report(probe)
    assert not answer.success
    assert "0 class maps of /class_map and 0 label maps of /label came" in answer.message
    drive.publish(ROAD, ROAD)
    figures_with(inbox, images=1)
    answer = call_write_report(probe)
    assert answer.success, answer.message
    assert answer.message == f"1 frames scored, report in {out / 'report.html'}"
    assert json.loads((out / "metrics.json").read_text())["miou"] == 1.0
    assert "data:image/" in (out / "report.html").read_text(encoding="utf-8")
    assert process.alive


def test_without_an_output_nothing_is_written(probe: Probe, start_node: StartNode) -> None:
    process = start_node("evaluation_node")
    answer = call_write_report(probe)
    assert not answer.success
    assert "the parameter output is empty" in answer.message
    assert process.end(signal.SIGINT)[0] == 0, process.log


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_writes_the_report_and_ends_it_with_status_0(
    probe: Probe, start_node: StartNode, tmp_path: Path, number: signal.Signals
) -> None:
    process = start_node("evaluation_node", parameters={"output": tmp_path / "report", "with_confidence": True})
    inbox = listen(probe)
    drive = Drive(probe, inbox, confidence=False)
    drive.publish(ROAD, ROAD)  # waits for its confidence until the end
    figures_with(inbox, class_maps=1)
    status, seconds = process.end(number)
    assert (status, process.log.count("Traceback")) == (0, 0), process.log
    assert seconds < 10
    assert "1 frames scored, report in" in process.log
    assert json.loads((tmp_path / "report" / "metrics.json").read_text())["images"] == 1


def test_a_missed_threshold_is_told_and_makes_the_exit_status_3(
    probe: Probe, start_node: StartNode, tmp_path: Path
) -> None:
    process = start_node(
        "evaluation_node",
        parameters={"output": tmp_path / "report", "at_least": "[miou=0.4]", "at_most": "[label_maps=0]"},
    )
    inbox = listen(probe)
    drive = Drive(probe, inbox)
    drive.publish(ROAD, ROAD)
    figures_with(inbox, images=1)
    assert process.end(signal.SIGINT)[0] == 3, process.log
    assert "threshold missed: label_maps is 1, must be at most 0" in process.log
    thresholds = json.loads((tmp_path / "report" / "metrics.json").read_text())["thresholds"]
    assert [(one["figure"], one["passed"]) for one in thresholds] == [("miou", True), ("label_maps", False)]


@pytest.mark.parametrize("parameter", ["output", "at_least"])
def test_where_nothing_was_scored_the_exit_status_is_1(
    probe: Probe, start_node: StartNode, tmp_path: Path, parameter: str
) -> None:
    given = {"output": {"output": tmp_path / "report"}, "at_least": {"at_least": "[miou=0.4]"}}[parameter]
    process = start_node("evaluation_node", parameters=given)
    call_write_report(probe)  # it is there
    assert process.end(signal.SIGINT)[0] == 1, process.log


def test_a_threshold_on_no_figure_is_one_line(start_node: StartNode) -> None:
    process = start_node("evaluation_node", parameters={"at_least": "[beauty=0.4]"})
    assert process.process.wait(timeout=30) == 1
    assert "evaluation_node: at_least and at_most: there is no figure 'beauty'" in process.log
    assert "Traceback" not in process.log


def test_a_report_that_cannot_be_written_is_one_line(probe: Probe, start_node: StartNode, tmp_path: Path) -> None:
    process = start_node("evaluation_node", parameters={"output": tmp_path / "report"})
    inbox = listen(probe)
    drive = Drive(probe, inbox)
    drive.publish(ROAD, ROAD)
    figures_with(inbox, images=1)
    (tmp_path / "report").touch()  # while it runs
    answer = call_write_report(probe)
    assert not answer.success
    assert "report cannot be written: File exists; choose a folder with room and permission" in answer.message
    status, _ = process.end(signal.SIGINT)
    assert (status, process.log.count("Traceback")) == (1, 0), process.log


def test_an_output_that_is_a_file_ends_it_before_the_drive(start_node: StartNode, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    process = start_node("evaluation_node", parameters={"output": tmp_path / "file" / "report"})
    assert process.process.wait(timeout=20) == 1
    line = f"evaluation_node: {tmp_path / 'file'} is a file; name a folder to write to"
    assert process.log.splitlines()[-1] == line


def test_a_transport_that_does_not_exist_is_one_line(start_node: StartNode) -> None:
    process = start_node("evaluation_node", parameters={"transport": "pigeon"})
    assert process.process.wait(timeout=20) == 1
    assert (
        process.log.splitlines()[-1]
        == "evaluation_node: transport must be one of raw, compressed, ffmpeg, foxglove, got 'pigeon'"
    )


def test_live_figures_are_those_of_the_recorded_bag(
    probe: Probe, segmentation_node: StartNode, start_node: StartNode, tmp_path: Path
) -> None:
    from sensor_msgs.msg import Image

    from darkseg_ros.nodes.bag_player import play_bag
    from tests.ros.probe import eventually, pixels, stamp_ns

    rng = np.random.default_rng(3)
    frames = 12
    pictures = [rng.integers(0, 256, (64, 128, 3), np.uint8) for _ in range(frames)]
    label_maps = [rng.integers(0, 12, (64, 128), np.uint8) for _ in range(frames)]
    stamps = [START_STAMP_NS + index * 150_000_000 for index in range(frames)]
    maps = {name: probe.listen(Image, f"/segmentation_node/{name}") for name in ("class_map", "confidence")}
    segmentation_node()
    live = start_node(
        "evaluation_node",
        parameters={"output": tmp_path / "live"},
        remappings={"class_map": "segmentation_node/class_map"},
    )
    inbox = listen(probe)
    for name in maps:
        eventually(lambda name=name: probe.node.count_subscribers(f"/segmentation_node/{name}") == 2)
    eventually(lambda: inbox.messages)

    with BagWriter(tmp_path / "played") as bag:
        for stamp, bgr, label_map in zip(stamps, pictures, label_maps, strict=True):
            bag.write_image("/image", bgr, stamp_ns=stamp, frame_id="camera")
            bag.write_image("/label", label_map, stamp_ns=stamp, frame_id="camera", encoding="mono8")
    play_bag(tmp_path / "played", wait_for_subscribers=20.0, wait_for_nodes=("/segmentation_node", "/evaluation_node"))
    eventually(
        lambda: figures_of(inbox)["class_maps"] == len(maps["class_map"].messages) == len(maps["confidence"].messages)
    )
    assert live.end(signal.SIGINT)[0] == 0, live.log

    recorded = [Recorded(IMAGE_TOPIC, stamp, bgr, stamp + 1) for stamp, bgr in zip(stamps, pictures, strict=True)]
    recorded += [
        Recorded(LABEL_TOPIC, stamp, truth, stamp + 2) for stamp, truth in zip(stamps, label_maps, strict=True)
    ]
    recorded += [
        Recorded(f"/segmentation_node/{name}", stamp_ns(message), pixels(message), stamp_ns(message) + 9)
        for name, received in maps.items()
        for message in received.messages
    ]
    bag_of_all = write_recorded_bag(tmp_path / "recorded", sorted(recorded, key=lambda message: message.recorded_ns))
    assert main(["evaluate", str(bag_of_all), "--out", str(tmp_path / "offline")]) == 0
    ours, theirs = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("live", "offline"))
    # best effort: on a busy machine the node may miss an image that the bag holds
    own = {"input", "frames_in", "dropped", "dropped_share", *(key for key in ours if key.startswith("latency"))}
    assert {key: ours[key] for key in ours.keys() - own} == {key: theirs[key] for key in theirs.keys() - own}
    assert frames / 2 < ours["images"] == ours["class_maps"] <= frames
    assert ours["latency_from"] == "image"  # the stamps are years old


def test_in_lockstep_the_figures_are_those_of_every_frame_twice_and_offline(
    start_node: StartNode, segmentation_node: StartNode, tiny_bundle: Path, tmp_path: Path
) -> None:
    """Played as fast as the node answers; two seconds long, so that the second time is a new drive."""
    from darkseg_ros.nodes.bag_player import Lockstep, play_bag

    rng = np.random.default_rng(5)
    frames = 40
    with BagWriter(tmp_path / "bag") as bag:
        for index in range(frames):
            stamp_ns = START_STAMP_NS + index * 50_000_000
            bgr, label_map = rng.integers(0, 256, (64, 128, 3), np.uint8), rng.integers(0, 12, (64, 128), np.uint8)
            bag.write_image("/image", bgr, stamp_ns=stamp_ns, frame_id="camera")
            bag.write_image("/label", label_map, stamp_ns=stamp_ns, frame_id="camera", encoding="mono8")
    segmentation_node()
    for name in ("once", "again"):
        evaluation = start_node(
            "evaluation_node",
            parameters={"output": tmp_path / name},
            remappings={"class_map": "segmentation_node/class_map", "__node": f"evaluation_{name}"},
        )
        report = play_bag(
            tmp_path / "bag",
            topics=("/image", "/label"),
            wait_for_subscribers=60.0,
            wait_for_nodes=("/segmentation_node", f"/evaluation_{name}"),
            lockstep=Lockstep("/image", f"/evaluation_{name}/taken"),
        )
        assert (report.messages, report.unanswered) == (2 * frames, 0)
        assert evaluation.end(signal.SIGINT)[0] == 0, evaluation.log
    fake = ["--bundle", str(tiny_bundle), "--backend", "fake"]
    topics = ["--image-topic", "/image", "--label-topic", "/label"]
    assert main(["evaluate", str(tmp_path / "bag"), *topics, *fake, "--out", str(tmp_path / "offline")]) == 0
    once, again, offline = (
        json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("once", "again", "offline")
    )
    assert once["images"] == frames
    shared = [
        key for key in ("miou", "miou_present", "accuracy", "iou", "ece", "uiou", "fwiou", "flicker") if key in once
    ]
    assert len(shared) >= 5
    assert {key: once[key] for key in shared} == {key: again[key] for key in shared}
    assert {key: once[key] for key in shared} == {key: offline[key] for key in shared}
