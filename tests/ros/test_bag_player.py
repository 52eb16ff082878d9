"""play_bag and ClassMapRecorder, alone and around a node."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from rosbags.interfaces import QosDurability

from darkseg_ros.errors import BagError
from darkseg_ros.frames.bags import IMAGE_TOPIC, BagMessage, BagTopic, BagWriter
from darkseg_ros.frames.storage.channel import DEFAULT_QOS

if TYPE_CHECKING:
    from tests.ros.conftest import StartNode
    from tests.ros.probe import Probe

ROOT = Path(__file__).resolve().parents[2]
START_NS = 1_700_000_000_000_000_000
FRAMES = 12
PERIOD_NS = 50_000_000


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 frames at 20 Hz; frame n is uniformly of class n, and rich enough not to look like a covered camera."""
    texture = np.random.default_rng(0).integers(0, 256, (64, 128)).astype(np.uint8)
    texture[0, 0] = 0
    path = tmp_path_factory.mktemp("bags") / "night"
    with BagWriter(path) as writer:
        for number in range(FRAMES):
            bgr = np.full((64, 128, 3), (number, 200, 0), np.uint8)
            bgr[:, :, 2] = texture
            stamp_ns = START_NS + number * PERIOD_NS
            writer.write_image(IMAGE_TOPIC, bgr, stamp_ns=stamp_ns, frame_id="cam")
    return path


def test_messages_leave_unchanged_and_at_their_recorded_times(probe: Probe, bag: Path) -> None:
    from sensor_msgs.msg import Image

    from darkseg_ros.nodes.bag_player import play_bag
    from tests.ros.probe import eventually, pixels

    inbox = probe.listen(Image, IMAGE_TOPIC)
    published: list[tuple[int, int]] = []

    def note(message: BagMessage, now_ns: int) -> None:
        published.append((message.log_stamp_ns, now_ns))

    report = play_bag(bag, wait_for_subscribers=20, on_publish=note)
    assert (report.messages, report.skipped_topics) == (FRAMES, ())
    assert report.seconds == pytest.approx(0.55, abs=0.2)  # 11 periods of 50 ms
    assert [stamp for stamp, _ in published] == [START_NS + n * PERIOD_NS for n in range(FRAMES)]
    first_ns = published[0][1]
    # never early; how late depends on the machine
    assert all(now_ns - first_ns >= n * PERIOD_NS - 2_000_000 for n, (_, now_ns) in enumerate(published))
    eventually(lambda: len(inbox.messages) == FRAMES)
    assert inbox.stamps == [stamp for stamp, _ in published]
    assert [pixels(message)[0, 0].tolist() for message in inbox.messages] == [[n, 200, 0] for n in range(FRAMES)]
    assert inbox.messages[0].header.frame_id == "cam"


def test_rate_and_clock(probe: Probe, bag: Path) -> None:
    from rosgraph_msgs.msg import Clock

    from darkseg_ros.nodes.bag_player import play_bag
    from tests.ros.probe import SECOND_NS, eventually

    clock = probe.listen(Clock, "/clock")
    report = play_bag(bag, rate=0.5, publish_clock=True)
    assert report.seconds == pytest.approx(1.1, abs=0.3)
    eventually(lambda: clock.messages)
    times = [message.clock.sec * SECOND_NS + message.clock.nanosec for message in clock.messages]
    assert times == sorted(times)
    assert times[0] >= START_NS
    assert times[-1] <= START_NS + (FRAMES - 1) * PERIOD_NS


@pytest.mark.usefixtures("ros_domain")
def test_without_a_subscriber_it_says_so(bag: Path) -> None:
    from darkseg_ros.nodes.bag_player import play_bag

    with pytest.raises(BagError, match=r"expected a subscriber on /camera/image_raw within 0\.2 s"):
        play_bag(bag, wait_for_subscribers=0.2)


@pytest.mark.usefixtures("ros_domain")
def test_unknown_topics_and_rates_are_refused(bag: Path) -> None:
    from darkseg_ros.nodes.bag_player import play_bag

    with pytest.raises(BagError, match="has no topic /lidar"):
        play_bag(bag, topics=["/lidar"])
    with BagWriter(bag.parent / "empty"):
        pass
    with pytest.raises(BagError, match="holds no message that can be published; it is empty"):
        play_bag(bag.parent / "empty")
    with pytest.raises(ValueError, match="rate must be a positive number, got 0"):
        play_bag(bag, rate=0)


def test_a_loop_repeats_the_stamps_until_interrupted(probe: Probe, bag: Path) -> None:
    from sensor_msgs.msg import Image

    from tests.ros.probe import eventually

    inbox = probe.listen(Image, IMAGE_TOPIC)
    program = (
        "from darkseg_ros.nodes.bag_player import play_bag\n"
        f"print(play_bag({str(bag)!r}, rate=4.0, loop=True).messages)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, env=dict(os.environ), stdout=subprocess.PIPE, text=True
    )
    try:
        # in the second pass, whatever discovery took from the first
        eventually(lambda: inbox.stamps.count(START_NS + 5 * PERIOD_NS) >= 2)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=10)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0
    assert int(output) >= FRAMES + 6


def test_every_frame_of_a_bag_gets_its_class_map_with_its_stamp(
    ros_domain: int, start_node: StartNode, tiny_bundle: Path, bag: Path, tmp_path: Path
) -> None:
    from darkseg_ros.nodes.bag_player import play_bag
    from darkseg_ros.nodes.class_map_recorder import ClassMapRecorder
    from tests.ros.probe import eventually

    start_node(
        "segmentation_node",
        parameters={"bundle": tiny_bundle, "backend": "fake"},
        remappings={"image": IMAGE_TOPIC},
    )
    published_ns: dict[int, int] = {}

    def note(message: BagMessage, now_ns: int) -> None:
        published_ns[message.log_stamp_ns] = now_ns

    with ClassMapRecorder("/segmentation_node/class_map", tmp_path / "maps") as recorder:
        eventually(lambda: recorder.diagnostics.get("state") == "active")
        play_bag(bag, wait_for_subscribers=20, on_publish=note)
        eventually(lambda: len(recorder.records) == FRAMES)
        eventually(lambda: recorder.diagnostics["frames_published"] == str(FRAMES))
    assert [record.stamp_ns for record in recorder.records] == [START_NS + n * PERIOD_NS for n in range(FRAMES)]
    for number, record in enumerate(recorder.records):
        assert record.frame_id == "cam"
        assert 0 < record.received_ns - published_ns[record.stamp_ns] < 5_000_000_000
        assert record.path == tmp_path / "maps" / f"{record.stamp_ns}.png"
        class_map = cv2.imread(str(record.path), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(class_map, np.full((64, 128), number, np.uint8))


def test_recorded_stamps_do_not_grow_the_stamp_age(probe: Probe, segmentation_node: StartNode, bag: Path) -> None:
    """A bag from 2023, played without /clock: its frames are served, and of unknown age."""
    from sensor_msgs.msg import Image

    from darkseg_ros.nodes.bag_player import play_bag

    segmentation_node(max_age_ms=5000, stale_after_ms=0)  # frames of today may be slow
    camera, _ = probe.connect()
    probe.node.create_subscription(Image, IMAGE_TOPIC, camera.publish, 10)
    play_bag(bag, wait_for_subscribers=20)
    status = probe.status(lambda status: status.number("frames_published") >= FRAMES)
    assert float(status.values["stamp_age_p99_ms"]) < 10_000  # of the frames of today alone
    assert status.number("dropped_too_old") == 0
    probe.status(lambda status: "max_age_ms has no effect" in status.message)


def test_a_bag_waits_for_the_node_it_is_for(probe: Probe, bag: Path) -> None:
    from sensor_msgs.msg import Image

    from darkseg_ros.nodes.bag_player import play_bag

    probe.listen(Image, IMAGE_TOPIC)  # a subscriber, and not the one that is waited for
    with pytest.raises(BagError, match=r"expected a subscription of /front/segmentation_node within 0\.5 s"):
        play_bag(bag, wait_for_subscribers=0.5, wait_for_nodes=["/probe", "/front/segmentation_node"])
    report = play_bag(bag, rate=10, wait_for_subscribers=20, wait_for_nodes=["/probe"])
    assert report.messages == FRAMES


@pytest.mark.parametrize(
    ("recorded", "expected"),
    [
        ([], "VOLATILE"),
        (["VOLATILE"], "VOLATILE"),
        (["TRANSIENT_LOCAL"], "TRANSIENT_LOCAL"),
        (["TRANSIENT_LOCAL", "VOLATILE"], "VOLATILE"),
    ],
)
def test_a_latched_topic_is_played_latched_and_everything_reliable(recorded: list[str], expected: str) -> None:
    from darkseg_ros.nodes.bag_player import qos_of

    qos = tuple(DEFAULT_QOS._replace(durability=QosDurability[name], depth=1) for name in recorded)
    profile = qos_of(BagTopic("/info", "std_msgs/msg/String", 1, qos))
    assert (profile.durability.name, profile.reliability.name, profile.depth) == (expected, "RELIABLE", 10)
