"""Faults around segmentation_node, with real processes; each leaves a row for docs/reliability.md."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.ros.conftest import ROOT, books_balance
from tests.ros.reliability import RowOfFault

if TYPE_CHECKING:
    from tests.ros.conftest import StartNode, StartProcess
    from tests.ros.probe import Inbox, Probe, Status

OK, WARN, ERROR, STALE = 0, 1, 2, 3
MAGENTA, YELLOW = (255, 0, 255), (0, 255, 255)
CLASS_MAP = "/segmentation_node/class_map"


def class_maps_of(probe: Probe) -> Inbox:
    from sensor_msgs.msg import Image

    return probe.listen(Image, CLASS_MAP)


def wait_for_more(inbox: Inbox, number: int = 1) -> float:
    """Wait for so many new messages; seconds until the first."""
    from tests.ros.probe import eventually

    before, started_s = len(inbox.messages), time.monotonic()
    eventually(lambda: len(inbox.messages) > before, what="a class map")
    first_s = time.monotonic() - started_s
    eventually(lambda: len(inbox.messages) >= before + number, what=f"{number} class maps")
    return first_s


def settled(probe: Probe, condition: Callable[[Status], bool] = lambda _: True) -> Status:
    status = probe.status(lambda status: status.number("frames_in_progress") == 0 and condition(status), fresh=True)
    assert books_balance(status)
    return status


def test_a_publisher_that_is_killed_and_restarted_is_served_again(
    probe: Probe, segmentation_node: StartNode, start_process: StartProcess
) -> None:
    row = RowOfFault("publisher_killed")
    segmentation_node()
    inbox = class_maps_of(probe)
    camera = start_process("camera")
    wait_for_more(inbox, 10)
    camera.kill()
    killed_s = time.monotonic()
    probe.status(lambda status: (status.level, status.message) == (STALE, "no image any more"))
    stale_s = time.monotonic() - killed_s
    start_process("camera")
    recovery_s = wait_for_more(inbox, 10)
    status = probe.status(lambda status: status.level != STALE, fresh=True)
    assert books_balance(status)
    row.passed(status, recovery_s=recovery_s, observed=f"STALE {stale_s:.1f} s after the kill")


def test_a_publisher_that_changes_size_encoding_and_frame_id_is_followed_frame_by_frame(
    probe: Probe, segmentation_node: StartNode
) -> None:
    from sensor_msgs.msg import Image

    from darkseg_ros.frames.messages import fill_image
    from tests.ros.probe import header, image, pixels, scene

    row = RowOfFault("publisher_changes")
    segmentation_node(stale_after_ms=0)
    camera, inbox = probe.connect()
    slowest_s = 0.0
    for number, hw in enumerate([(96, 128), (1, 1), (480, 640), (97, 131), (33, 5), (96, 128)]):
        stamp, frame_id = probe.next_stamp(), f"camera_{number}"
        bgr = scene((number, 50), hw, seed=number)
        if number % 2:
            message = fill_image(Image(), bgr[..., ::-1].copy(), encoding="rgb8", header=header(stamp, frame_id))
        else:
            message = image(bgr, stamp, frame_id)
        sent_s = time.monotonic()
        camera.publish(message)
        answer = inbox.of_stamp(stamp)
        slowest_s = max(slowest_s, time.monotonic() - sent_s)
        assert answer.header.frame_id == frame_id
        np.testing.assert_array_equal(pixels(answer), np.full(hw, number, np.uint8))
    status = settled(probe)
    assert status.dropped == status.number("dropped_replaced_by_newer")
    row.passed(status, recovery_s=slowest_s, observed="6 changes, each frame answered in its own size and frame_id")


def test_a_node_that_is_killed_and_started_again_serves_without_a_word_from_outside(
    probe: Probe, segmentation_node: StartNode, start_process: StartProcess
) -> None:
    row = RowOfFault("node_killed")
    node = segmentation_node()
    inbox = class_maps_of(probe)
    start_process("camera")
    wait_for_more(inbox, 10)
    node.process.kill()
    node.process.wait(timeout=10)
    segmentation_node()  # as launch does with respawn=True
    recovery_s = wait_for_more(inbox, 10)
    status = probe.status(lambda status: status.number("frames_published") >= 10, fresh=True)
    assert books_balance(status)
    row.passed(status, recovery_s=recovery_s, observed="counters start anew")


def test_an_engine_that_raises_on_one_frame_costs_that_frame(probe: Probe, segmentation_node: StartNode) -> None:
    from tests.ros.probe import bgr_of, image, scene

    row = RowOfFault("engine_raises")
    segmentation_node(stale_after_ms=0)
    camera, inbox = probe.connect()
    bad = probe.next_stamp()
    camera.publish(image(bgr_of(MAGENTA), bad))
    failed = probe.status(lambda status: status.level == ERROR)
    assert "the engine failed on the last frame" in failed.message
    sent_s, stamp = time.monotonic(), probe.next_stamp()
    camera.publish(image(scene((3, 0), seed=0), stamp))
    inbox.of_stamp(stamp)
    recovery_s = time.monotonic() - sent_s
    status = settled(probe, lambda status: status.level != ERROR)
    assert status.number("dropped_engine_error") == 1
    assert bad not in inbox.stamps
    row.passed(status, recovery_s=recovery_s, observed="ERROR with the engine's reason until the next class map")


def test_an_engine_that_hangs_is_an_error_within_two_seconds_and_serves_again_when_it_returns(
    probe: Probe, segmentation_node: StartNode, start_process: StartProcess
) -> None:
    from tests.ros.probe import bgr_of, image

    row = RowOfFault("engine_hangs")
    segmentation_node(environment={"DARKSEG_FAKE_ENGINE_HANG_MS": "4000"})
    camera, inbox = probe.connect()
    camera.publish(image(bgr_of(YELLOW), probe.next_stamp()))
    hung_s = time.monotonic()
    start_process("camera")
    # for a moment the error may be that nothing leaves: stale_after_ms counts the same second from the frame's arrival
    status = probe.status(lambda status: "the engine has not answered a frame" in status.message)
    error_s = time.monotonic() - hung_s
    assert status.level == ERROR
    assert status.message == "the engine has not answered a frame for longer than engine_timeout_ms"
    assert error_s < 2.0
    assert 1000 < float(status.values["engine_busy_ms"]) < 2000
    wait_for_more(inbox, 10)
    recovery_s = max(0.0, time.monotonic() - hung_s - 4)
    assert inbox.stamps == sorted(inbox.stamps)
    status = probe.status(lambda status: status.level != ERROR, fresh=True)
    assert books_balance(status)
    row.passed(status, recovery_s=recovery_s, observed=f"ERROR {error_s:.2f} s after the frame that hangs for 4 s")


def test_subscribers_that_do_not_keep_up_slow_nobody(
    probe: Probe, segmentation_node: StartNode, start_process: StartProcess
) -> None:
    from tests.ros.probe import eventually

    rows = {role: RowOfFault(f"subscriber_{role}") for role in ("never_read", "crawl", "stopped")}
    segmentation_node()
    inbox = class_maps_of(probe)
    start_process("never_read")
    crawling, stopped = start_process("crawl"), start_process("listen")
    start_process("camera")
    wait_for_more(inbox)
    # all of them are reliable, and so is the node
    eventually(lambda: len(probe.node.get_subscriptions_info_by_topic(CLASS_MAP)) == 4)
    eventually(stopped.lines)
    stopped.process.send_signal(signal.SIGSTOP)
    before, started_s = len(inbox.messages), time.monotonic()
    wait_for_more(inbox, 100)
    rate_hz = (len(inbox.messages) - before) / (time.monotonic() - started_s)
    assert rate_hz > 10  # 30 on a machine with nothing else to do; 2 if it waited for the slow one
    status = probe.status(lambda status: status.number("frames_published") >= 100, fresh=True)
    assert books_balance(status)
    assert status.number("frames_in_progress") <= 2
    ages_s = sorted(line["age_s"] for line in eventually(lambda: crawling.lines("age_s")[3:]))
    assert ages_s[-1] < 2.0  # the newest each time: a queue would grow by 0.47 s every half second
    for role, row in rows.items():
        own = f"; its own class maps were {ages_s[len(ages_s) // 2]:.2f} s old" if role == "crawl" else ""
        row.passed(status, observed=f"beside it another subscriber got {rate_hz:.0f} Hz of 30{own}")


def test_two_publishers_on_one_topic_are_said_and_no_stamp_is_served_backwards(
    probe: Probe, segmentation_node: StartNode, start_process: StartProcess
) -> None:
    row = RowOfFault("two_publishers")
    node = segmentation_node(stale_after_ms=0)
    inbox = class_maps_of(probe)
    first = start_process("camera")
    wait_for_more(inbox, 5)
    start_process("camera")
    probe.status(lambda status: status.message == "running, the frames of several publishers mix in one stream")
    assert "2 publishers on the image topic" in node.log
    wait_for_more(inbox, 30)
    assert inbox.stamps == sorted(set(inbox.stamps))
    first.process.terminate()
    first.process.wait(timeout=10)
    started_s = time.monotonic()
    status = probe.status(lambda status: "several publishers" not in status.message and status.level in (OK, WARN))
    assert books_balance(status)
    row.passed(status, observed=f"WARN while there are two, gone {time.monotonic() - started_s:.1f} s after one left")


def test_a_bag_that_loops_is_served_in_every_pass(
    probe: Probe, segmentation_node: StartNode, tmp_path: Path, ros_domain: int
) -> None:
    from darkseg_ros.frames.bags import BagWriter
    from tests.ros.probe import eventually, scene

    row = RowOfFault("bag_loop")
    start_ns = 1_700_000_000_000_000_000
    with BagWriter(tmp_path / "bag") as writer:
        for number in range(40):  # 4 s at 10 Hz: a pause of the machine does not pass for a late frame
            writer.write_image(
                "/image", scene((3, 9), seed=number), stamp_ns=start_ns + number * 10**8, frame_id="camera"
            )
    segmentation_node(stale_after_ms=0)
    inbox = class_maps_of(probe)
    probe.status(lambda status: status.values["state"] == "active")
    command = [
        sys.executable,
        "-m",
        "darkseg_ros.commands.cli",
        "bag",
        "play",
        str(tmp_path / "bag"),
        "--loop",
        "--rate",
        "4",
    ]
    player = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        status = probe.status(lambda status: status.number("stamp_rebases") >= 2)
    finally:
        player.send_signal(signal.SIGINT)
        player.wait(timeout=20)
    eventually(lambda: inbox.stamps.count(start_ns) >= 2, what="the first frame in two passes")
    status = settled(probe)
    assert status.number("dropped_backward_stamp") == status.number("dropped_duplicate_stamp") == 0
    row.passed(status, recovery_s=0.0, observed=f"{status.number('stamp_rebases')} jumps back, no frame lost to them")


def test_a_report_on_a_full_disk_is_one_line_and_leaves_nothing_behind(tmp_path: Path, tiny_bundle: Path) -> None:
    import cv2

    from tests.ros.probe import scene

    row = RowOfFault("full_disk")
    for folder in ("image", "label", "full"):
        (tmp_path / folder).mkdir()
    cv2.imwrite(str(tmp_path / "image" / "a.png"), scene((3, 9), seed=0))
    cv2.imwrite(str(tmp_path / "label" / "a.png"), np.full((96, 128), 3, np.uint8))
    evaluate = [
        *(
            sys.executable,
            "-m",
            "darkseg_ros.commands.cli",
            "evaluate",
            "--bundle",
            str(tiny_bundle),
            "--backend",
            "fake",
        ),
        *("--images", str(tmp_path / "image"), "--labels", str(tmp_path / "label"), "--out", str(tmp_path / "full")),
    ]
    script = (
        'mount -t tmpfs -o size=4k tmpfs "$1" || exit 99; folder=$1; shift; "$@"; status=$?; '
        'echo "left: $(ls -A "$folder")"; exit $status'
    )
    answer = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", str(tmp_path / "full"), *evaluate],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if answer.returncode == 99 or "unshare" in answer.stderr:
        pytest.skip(f"a small disk needs the right to mount one: {answer.stderr.strip()}")
    assert answer.returncode not in (0, 99)
    assert "No space left on device" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert answer.stdout.splitlines()[-1] == "left: "
    row.passed(observed=f"`darkseg evaluate` ends with status {answer.returncode} and one line, no half report is left")


def _forget_hosts() -> None:
    for host in ("near", "far"):
        subprocess.run(["ip", "netns", "delete", f"darkseg_{host}"], capture_output=True, timeout=20, check=False)


def _make_two_hosts() -> None:
    """Two network namespaces with a cable between them; skips where that is not allowed."""
    from tests.ros.probe import eventually

    if shutil.which("ip") is None:
        pytest.skip("two hosts need iproute2, and there is no `ip`")
    hosts = {"near": "10.83.7.1/24", "far": "10.83.7.2/24"}
    _forget_hosts()
    steps = [
        *(["ip", "netns", "add", f"darkseg_{host}"] for host in hosts),
        ["ip", "link", "add", "dsnear", "netns", "darkseg_near", "type", "veth"]
        + ["peer", "name", "dsfar", "netns", "darkseg_far"],
    ]
    for host, address in hosts.items():
        steps += [
            ["ip", "-n", f"darkseg_{host}", "address", "add", address, "dev", f"ds{host}"],
            ["ip", "-n", f"darkseg_{host}", "link", "set", f"ds{host}", "up"],
            ["ip", "-n", f"darkseg_{host}", "link", "set", "lo", "up"],
        ]
    for step in steps:
        answer = subprocess.run(step, capture_output=True, text=True, timeout=20, check=False)
        if answer.returncode:
            pytest.skip(f"two hosts need the right to make network namespaces: {answer.stderr.strip()}")
    for host in hosts:  # Fast DDS keeps to the links that were up when it started
        eventually(lambda host=host: "state UP" in _link_of(host), what=f"the link of {host}")


def _link_of(host: str) -> str:
    show = ["ip", "-n", f"darkseg_{host}", "link", "show", f"ds{host}"]
    return subprocess.run(show, capture_output=True, text=True, timeout=20, check=True).stdout


def _on_host(host: str) -> list[str]:
    """Run there, with shared memory of its own: another machine has none in common."""
    own_memory = 'mount -t tmpfs -o size=256m tmpfs /dev/shm && exec "$@"'
    return ["ip", "netns", "exec", f"darkseg_{host}", "unshare", "--mount", "sh", "-c", own_memory, "sh"]


def test_a_link_that_is_down_for_two_seconds_recovers_by_itself(
    start_process: StartProcess, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from tests.ros.probe import Status, eventually

    row = RowOfFault("link_down")
    node: subprocess.Popen[bytes] | None = None
    try:
        _make_two_hosts()
        monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "SUBNET")
        command = [sys.executable, "-m", "darkseg_ros.nodes.segmentation_node", "--ros-args"]
        command += ["-p", f"bundle:={tiny_bundle}", "-p", "backend:=fake"]
        with (tmp_path / "node.log").open("wb") as log:
            node = subprocess.Popen([*_on_host("near"), *command], cwd=ROOT, stdout=log, stderr=log)
        vehicle = start_process("camera_and_listen", "--rate-hz", "20", prefix=_on_host("far"))
        eventually(lambda: len(vehicle.lines()) >= 20, within_s=40, what="class maps from the other host")
        link = ["ip", "-n", "darkseg_far", "link", "set", "dsfar"]
        subprocess.run([*link, "down"], check=True, timeout=10)
        time.sleep(0.5)  # what was on its way has arrived
        before = len(vehicle.lines())
        time.sleep(1.5)
        assert len(vehicle.lines()) == before
        up_s = time.monotonic()
        subprocess.run([*link, "up"], check=True, timeout=10)
        eventually(lambda: len(vehicle.lines()) > before, within_s=40, what="class maps after the link came back")
        recovery_s = time.monotonic() - up_s
        eventually(lambda: len(vehicle.lines()) >= before + 20)
        stamps = [line["stamp_ns"] for line in vehicle.lines()]
        assert stamps == sorted(set(stamps))
        seen = len(vehicle.lines("status"))
        eventually(lambda: len(vehicle.lines("status")) > seen, what="diagnostics at the other host")
        status = Status(0, "", vehicle.lines("status")[-1]["status"])
        assert books_balance(status)
        node.send_signal(signal.SIGTERM)
        assert node.wait(timeout=15) == 0, (tmp_path / "node.log").read_text()
        row.passed(
            status, recovery_s=recovery_s, observed=f"{len(stamps)} class maps at the other host, none while down"
        )
    finally:
        if node is not None:
            node.kill()
        _forget_hosts()
