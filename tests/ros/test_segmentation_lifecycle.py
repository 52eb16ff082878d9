"""The lifecycle of segmentation_node: opening takes time, closing gives memory back, nothing waits for ever."""

from __future__ import annotations

import re
import shutil
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.ros.reliability import RowOfFault

if TYPE_CHECKING:
    from tests.ros.conftest import NodeProcess, StartNode
    from tests.ros.probe import Probe

OK, WARN, ERROR, STALE = 0, 1, 2, 3
YELLOW = (0, 255, 255)
ACTIVATE_BY_ID = 3
HOURS_MS = "3600000"


def hang(probe: Probe) -> None:
    """Send the engine the frame it never answers."""
    from tests.ros.probe import bgr_of, image

    camera, _ = probe.connect()
    camera.publish(image(bgr_of(YELLOW), probe.next_stamp()))
    probe.status(lambda status: status.level == ERROR and "has not answered" in status.message, fresh=True)


def resident_mb(process: NodeProcess) -> float:
    status = Path(f"/proc/{process.process.pid}/status").read_text(encoding="ascii")
    return sum(int(re.search(rf"{kind}:\s+(\d+) kB", status)[1]) for kind in ("RssAnon", "RssFile")) / 1000


def test_while_the_engine_opens_the_topics_exist_the_node_answers_and_says_that_it_builds(
    probe: Probe, segmentation_node: StartNode
) -> None:
    segmentation_node(environment={"DARKSEG_FAKE_ENGINE_OPENING_MS": HOURS_MS})
    status = probe.status(lambda status: float(status.values["building_s"] or 0) > 1)
    assert (status.level, status.message) == (WARN, "BUILDING: opening the engine")
    assert status.values["state"] == "configuring"
    assert probe.state() == "configuring"
    assert probe.set_parameter("min_confidence", 0.5).successful
    topics = {name for name, _ in probe.node.get_topic_names_and_types()}
    assert {"/segmentation_node/class_map", "/segmentation_node/label_info"} <= topics
    later = float(status.values["building_s"])
    probe.status(lambda status: float(status.values["building_s"]) > later)


def test_change_state_answers_with_the_outcome_and_refuses_what_the_state_does_not_allow(
    probe: Probe, segmentation_node: StartNode
) -> None:
    process = segmentation_node(autostart=False)
    assert not probe.change_state(ACTIVATE_BY_ID)  # rclpy's own service ends the process here
    assert not probe.change_state("activate")
    assert not probe.change_state("fly")
    assert probe.state() == "unconfigured"
    assert probe.change_state("configure")
    assert probe.change_state(ACTIVATE_BY_ID)
    assert not probe.change_state(ACTIVATE_BY_ID)
    assert probe.state() == "active"
    assert probe.change_state("shutdown")
    assert probe.status(lambda status: status.values["state"] == "finalized").message == "shut down"
    assert process.alive


def test_deactivate_gives_the_engines_memory_back_and_activate_takes_it_again(
    probe: Probe, start_node: StartNode
) -> None:
    from tests.ros.probe import image, scene

    process = start_node("segmentation_node")  # the shipped model, 16 MB
    probe.status(lambda status: status.values["state"] == "active")
    camera, class_maps = probe.connect()

    def serve() -> None:
        stamp = probe.next_stamp()
        camera.publish(image(scene((1, 0), (512, 1024), seed=stamp), stamp))
        class_maps.of_stamp(stamp)

    active_mb = []
    for _ in range(3):
        serve()
        active_mb.append(resident_mb(process))
        assert probe.change_state("deactivate")
        assert probe.status(lambda status: status.values["state"] == "inactive").values["engine"] == ""
        assert resident_mb(process) < active_mb[-1] - 10
        assert probe.change_state("activate")
        probe.camera()
    assert active_mb[-1] < active_mb[0] + 20  # two engines more would be 50


def test_an_engine_that_cannot_be_opened_again_fails_the_activation_with_its_reason(
    probe: Probe, start_node: StartNode, tiny_bundle: Path, tmp_path: Path
) -> None:
    bundle = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    start_node("segmentation_node", parameters={"bundle": bundle, "backend": "fake"})
    probe.status(lambda status: status.values["state"] == "active")
    assert probe.change_state("deactivate")
    bundle.rename(tmp_path / "elsewhere")
    assert not probe.change_state("activate")
    status = probe.status(lambda status: status.level == ERROR)
    assert status.message.startswith("cannot activate: ")
    assert str(bundle) in status.message
    assert status.values["state"] == probe.state() == "inactive"
    (tmp_path / "elsewhere").rename(bundle)
    assert probe.change_state("activate")
    assert probe.status(lambda status: status.values["state"] == "active").level != ERROR


def test_an_unexpected_error_ends_in_unconfigured_with_its_reason_and_the_node_goes_on(
    probe: Probe, segmentation_node: StartNode
) -> None:
    process = segmentation_node(environment={"DARKSEG_FAKE_ENGINE_OPENING_MS": "soon"})
    status = probe.status(lambda status: status.level == ERROR and status.values["state"] == "unconfigured")
    assert status.message.startswith("cannot configure: ValueError: could not convert string to float")
    assert "Traceback" in process.log
    assert not probe.change_state("configure")
    assert probe.state() == "unconfigured"
    assert probe.status(lambda status: status.level == ERROR, fresh=True).message == status.message


@pytest.mark.parametrize("transition", ["deactivate", "shutdown"])
def test_a_transition_out_of_a_hanging_engine_fails_in_time_and_the_node_can_be_configured_again(
    probe: Probe, segmentation_node: StartNode, transition: str
) -> None:
    from sensor_msgs.msg import Image

    from tests.ros.probe import eventually, image, scene

    process = segmentation_node(environment={"DARKSEG_FAKE_ENGINE_HANG_MS": "5000"})
    class_maps = probe.listen(Image, "/segmentation_node/class_map")
    hang(probe)
    hung_s, before = time.monotonic(), len(class_maps.messages)
    assert not probe.change_state(transition)
    assert time.monotonic() - hung_s < 5
    status = probe.status(lambda status: "the engine did not come back" in status.message)
    assert status.level == ERROR
    assert status.message.startswith(f"cannot {transition.replace('shutdown', 'shut down')}: ")
    assert status.values["state"] == probe.state() == "unconfigured"
    assert status.number("dropped_engine_stuck") == 1
    assert status.number("frames_in_progress") == 0
    assert probe.change_state("configure")
    assert probe.change_state("activate")
    camera, again = probe.connect()
    time.sleep(max(0.0, hung_s + 5 - time.monotonic()))  # by now the first engine has come back
    assert len(class_maps.messages) == before + len(again.messages)
    stamp = probe.next_stamp()
    camera.publish(image(scene((4, 0), seed=0), stamp))
    again.of_stamp(stamp)
    assert eventually(lambda: "the engine did not come back within 2 s" in process.log)


def test_two_nodes_side_by_side_keep_to_their_own_topics_and_parameters(
    probe: Probe, start_node: StartNode, tiny_bundle: Path
) -> None:
    from sensor_msgs.msg import Image

    from tests.ros.probe import eventually, image, pixels, scene

    for namespace, min_confidence in (("/front", 0.2), ("/rear", 0.8)):
        start_node(
            "segmentation_node",
            parameters={"bundle": tiny_bundle, "backend": "fake", "min_confidence": min_confidence},
            remappings={"__ns": namespace},
        )
    cameras = {name: probe.camera(f"/{name}/image") for name in ("front", "rear")}
    inboxes = {name: probe.listen(Image, f"/{name}/segmentation_node/class_map") for name in cameras}

    def answered(name: str) -> bool:
        cameras[name].publish(image(scene((3, 128), seed=0), probe.next_stamp()))
        return bool(inboxes[name].messages)

    for name in cameras:
        eventually(lambda name=name: answered(name))
    assert (pixels(inboxes["front"].messages[-1]) == 3).all()
    assert (pixels(inboxes["rear"].messages[-1]) == 255).all()  # 128 of 255 is below 0.8
    assert probe.set_parameter("min_confidence", 0.1, node="/rear/segmentation_node").successful
    eventually(lambda: answered("rear") and (pixels(inboxes["rear"].messages[-1]) == 3).all())
    assert probe.change_state("deactivate", node="/front/segmentation_node")
    assert probe.state("/rear/segmentation_node") == "active"


def test_words_are_held_to_their_choices_while_it_runs(probe: Probe, segmentation_node: StartNode) -> None:
    segmentation_node()
    probe.camera()
    answer = probe.set_parameter("on_unhealthy_camera", "ignore")
    assert not answer.successful
    assert answer.reason == "on_unhealthy_camera must be one of flag, unlabel, silence, got 'ignore'"
    assert probe.set_parameter("on_unhealthy_camera", "silence").successful


@pytest.mark.parametrize("when", ["idle", "opening", "hanging"])
def test_signals_end_it_within_a_second_with_status_0_also_while_the_engine_does_not_come_back(
    probe: Probe, segmentation_node: StartNode, when: str
) -> None:
    row = RowOfFault(f"signal_{when}")
    took = []
    for number in (signal.SIGINT, signal.SIGTERM):
        opening_ms = HOURS_MS if when == "opening" else "0"
        process = segmentation_node(environment={"DARKSEG_FAKE_ENGINE_OPENING_MS": opening_ms})
        if when == "opening":
            probe.status(lambda status: status.message == "BUILDING: opening the engine", fresh=True)
        elif when == "hanging":
            hang(probe)
        else:
            probe.status(lambda status: status.values["state"] == "active", fresh=True)
        status, seconds = process.end(number)
        assert (status, process.log.count("Traceback")) == (0, 0), process.log
        assert seconds < 1.0
        took.append(f"{number.name} {seconds:.2f} s")
    row.passed(observed=f"exit status 0 after {', '.join(took)}")
