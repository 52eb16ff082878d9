"""What segmentation_node does with bad, late and too many frames: counted, said, survived."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from tests.ros.conftest import books_balance

if TYPE_CHECKING:
    from tests.ros.conftest import StartNode
    from tests.ros.probe import Probe

OK, WARN, ERROR, STALE = 0, 1, 2, 3
MAGENTA = (255, 0, 255)
S = 1_000_000_000


def test_a_slow_engine_gets_the_newest_frame_and_the_others_are_counted(
    probe: Probe, segmentation_node: StartNode
) -> None:
    from tests.ros.probe import bgr_of, image

    segmentation_node(environment={"DARKSEG_FAKE_ENGINE_DELAY_MS": "200"})
    camera, class_maps = probe.connect()
    sent: list[tuple[int, float]] = []
    received: dict[int, float] = {}
    done = threading.Event()

    def note_arrivals() -> None:
        while not done.is_set():
            for stamp in class_maps.stamps:
                received.setdefault(stamp, time.monotonic())
            time.sleep(0.005)

    watcher = threading.Thread(target=note_arrivals)
    watcher.start()
    for number in range(75):  # 2.5 s at 30 Hz
        stamp = probe.next_stamp()
        sent.append((stamp, time.monotonic()))
        camera.publish(image(bgr_of((number, 0, 0)), stamp))
        time.sleep(1 / 30)
    last_stamp = sent[-1][0]
    class_maps.of_stamp(last_stamp)  # the newest is always served, in the end
    done.set()
    watcher.join()
    answered = [stamp for stamp, _ in sent if stamp in class_maps.stamps]
    assert 6 <= len(answered) <= 16  # 5 Hz for 2.5 s
    assert class_maps.stamps == sorted(class_maps.stamps)
    # queued frames would be up to 2 s old: one inference, one frame's time and the machine's own delays
    ages_s = sorted(received[stamp] - sent_s for stamp, sent_s in sent if stamp in received)
    assert ages_s[len(ages_s) // 2] < 0.45
    status = probe.status(lambda status: status.number("frames_in_progress") == 0)
    assert books_balance(status)
    assert status.number("dropped_replaced_by_newer") >= 40
    assert status.dropped == status.number("dropped_replaced_by_newer")


def test_bad_messages_are_counted_and_the_next_good_frame_is_served(probe: Probe, segmentation_node: StartNode) -> None:
    from tests.ros.probe import eventually, image, pixels, scene

    process = segmentation_node()
    camera, class_maps = probe.connect()
    before = probe.status(lambda status: status.number("frames_in_progress") == 0)

    def short_data(message: Any) -> None:
        message.data = message.data[:-1]

    def wrong_step(message: Any) -> None:
        message.step = 10

    def unknown_encoding(message: Any) -> None:
        message.encoding = "plaid8"

    def empty(message: Any) -> None:
        message.height = message.width = message.step = 0
        message.data = message.data[:0]

    def enormous(message: Any) -> None:
        message.height = 2**32 - 1

    bad_stamps = []
    for spoil in (short_data, wrong_step, unknown_encoding, empty, enormous):
        bad_stamps.append(probe.next_stamp())
        message = image(scene((4, 0), seed=0), bad_stamps[-1])
        spoil(message)
        camera.publish(message)
        time.sleep(0.05)  # else the good frame may replace it before it is looked at
        stamp = probe.next_stamp()
        camera.publish(image(scene((11, 0), seed=stamp), stamp))
        assert (pixels(class_maps.of_stamp(stamp)) == 11).all()
    assert not set(bad_stamps) & set(class_maps.stamps)
    reached = before.number("dropped_undecodable") + 5
    status = probe.status(lambda status: status.number("dropped_undecodable") == reached and status.level == WARN)
    assert books_balance(status)
    assert status.message == "running, frames are dropped: undecodable"
    assert eventually(lambda: "no class map for a frame (undecodable)" in process.log)
    assert process.alive


def test_a_corrupt_jpeg_is_counted_and_the_next_good_one_is_served(probe: Probe, segmentation_node: StartNode) -> None:
    from tests.ros.probe import bgr_of, jpeg

    segmentation_node(transport="compressed")
    camera, class_maps = probe.connect(compressed=True)
    cut = jpeg(bgr_of((9, 9, 9)), probe.next_stamp())
    cut.data = cut.data[: len(cut.data) // 2]
    camera.publish(cut)
    noise = jpeg(bgr_of((9, 9, 9)), probe.next_stamp())
    noise.data = noise.data[::-1]
    probe.status(lambda status: status.number("dropped_undecodable") == 1)
    camera.publish(noise)
    probe.status(lambda status: status.number("dropped_undecodable") == 2)
    stamp = probe.next_stamp()
    camera.publish(jpeg(bgr_of((9, 9, 9)), stamp))
    class_maps.of_stamp(stamp)


def test_duplicate_and_backward_stamps_are_dropped_and_a_jump_back_is_a_new_start(
    probe: Probe, segmentation_node: StartNode
) -> None:
    from tests.ros.probe import bgr_of, image

    segmentation_node()
    camera, class_maps = probe.connect()
    now = probe.next_stamp() + S
    before = probe.status(lambda status: status.number("frames_in_progress") == 0)

    def send(stamp: int) -> None:
        camera.publish(image(bgr_of((3, 0, 0)), stamp))

    send(now)
    class_maps.of_stamp(now)
    send(now)
    probe.status(lambda status: status.number("dropped_duplicate_stamp") == 1)
    send(now - S // 2)
    probe.status(lambda status: status.number("dropped_backward_stamp") == 1)
    assert class_maps.stamps.count(now) == 1
    for stamp in (now - 100 * S, now - 99 * S):  # the bag loops: 100 s back, and on from there
        send(stamp)
        class_maps.of_stamp(stamp)
    rebases = before.number("stamp_rebases") + 1
    status = probe.status(lambda status: status.number("stamp_rebases") == rebases)
    assert books_balance(status)


def test_old_frames_are_dropped_when_max_age_ms_is_set_and_recorded_stamps_are_not_old(
    probe: Probe, segmentation_node: StartNode
) -> None:
    from tests.ros.probe import bgr_of, image

    segmentation_node()
    camera, class_maps = probe.connect()
    assert probe.set_parameter("max_age_ms", 200).successful
    too_old = time.time_ns() - 5 * S
    camera.publish(image(bgr_of((3, 0, 0)), too_old))
    status = probe.status(lambda status: status.number("dropped_too_old") == 1)
    assert books_balance(status)
    recorded = 1_500_000_000 * S
    camera.publish(image(bgr_of((3, 0, 0)), recorded))
    class_maps.of_stamp(recorded)
    assert too_old not in class_maps.stamps


def test_frames_stamped_ahead_of_the_clock_are_dropped_and_do_not_block_those_after_them(
    probe: Probe, segmentation_node: StartNode
) -> None:
    from tests.ros.probe import eventually, image, scene

    process = segmentation_node()
    camera, class_maps = probe.connect()
    ahead = time.time_ns() + 37 * S  # a camera on atomic time, without the leap seconds
    camera.publish(image(scene((3, 0), seed=0), ahead))
    status = probe.status(lambda status: status.number("dropped_future_stamp") == 1)
    assert books_balance(status)
    assert "synchronise the clocks" in status.values["last_error"]
    assert eventually(lambda: "no class map for a frame (future_stamp): its stamp is 3" in process.log)
    stamp = probe.next_stamp()
    camera.publish(image(scene((3, 0), seed=1), stamp))
    class_maps.of_stamp(stamp)
    assert probe.set_parameter("max_future_ms", 0).successful
    camera.publish(image(scene((3, 0), seed=2), ahead))
    class_maps.of_stamp(ahead)


def test_a_simulated_clock_that_jumps_back_lets_even_a_short_bag_loop(
    probe: Probe, segmentation_node: StartNode
) -> None:
    from rosgraph_msgs.msg import Clock

    from tests.ros.probe import RELIABLE, bgr_of, eventually, image

    segmentation_node(use_sim_time=True)
    camera, class_maps = probe.connect()
    clock = probe.publisher(Clock, "/clock", reliability=RELIABLE, depth=10)
    eventually(clock.get_subscription_count)
    before = probe.status(lambda status: status.number("frames_in_progress") == 0)

    def play(start_ns: int) -> list[int]:
        """Half a second at 10 Hz; shorter than the step back by which a new drive is known otherwise."""
        stamps = [start_ns + frame * S // 10 for frame in range(5)]
        for stamp in stamps:
            tick = Clock()
            tick.clock.sec, tick.clock.nanosec = divmod(stamp, S)
            clock.publish(tick)
            time.sleep(0.1)  # the clock and the frame travel by different topics
            camera.publish(image(bgr_of((3, 0, 0)), stamp))
            class_maps.of_stamp(stamp)
        return stamps

    start = probe.next_stamp() + 3600 * S
    stamps = play(start)
    class_maps.messages.clear()
    assert play(start) == stamps
    assert class_maps.stamps == stamps
    rebases = before.number("stamp_rebases") + 1
    status = probe.status(lambda status: status.number("stamp_rebases") == rebases)
    assert status.number("dropped_backward_stamp") == 0


def test_a_missed_deadline_is_a_warning_that_names_both_sides(probe: Probe, segmentation_node: StartNode) -> None:
    from rclpy.duration import Duration
    from rclpy.qos import QoSProfile
    from sensor_msgs.msg import Image

    from tests.ros.probe import BEST_EFFORT, bgr_of, eventually, image

    process = segmentation_node(**{"qos_overrides./image.subscription.deadline": 300_000_000})
    qos = QoSProfile(depth=1, reliability=BEST_EFFORT, deadline=Duration(nanoseconds=200_000_000))
    camera = probe.node.create_publisher(Image, "/image", qos)
    class_maps = probe.listen(Image, "/segmentation_node/class_map")

    def answered() -> bool:
        camera.publish(image(bgr_of((1, 0, 0)), probe.next_stamp()))
        return bool(class_maps.messages)

    eventually(answered)
    line = eventually(
        lambda: next((line for line in process.log.splitlines() if "deadline missed" in line), ""),
        what="a warning of the deadline",
    )
    assert "no message on /image in time from /probe (best_effort, volatile, deadline 200 ms)" in line
    assert "to /segmentation_node (best_effort, volatile, deadline 300 ms)" in line


def test_the_watchdog_reports_stale_when_the_input_stops(probe: Probe, segmentation_node: StartNode) -> None:
    from tests.ros.probe import bgr_of, image

    segmentation_node(stale_after_ms=300)
    camera, class_maps = probe.connect()
    stamp = probe.next_stamp()
    camera.publish(image(bgr_of((3, 0, 0)), stamp))
    class_maps.of_stamp(stamp)
    sent_s = time.monotonic()
    status = probe.status(lambda status: status.level == STALE and "any more" in status.message)
    assert status.message == "no image any more"
    assert time.monotonic() - sent_s < 5.0
    assert probe.set_parameter("stale_after_ms", 0).successful
    assert probe.status(lambda status: status.level == OK).message == "running"


def test_with_simulated_time_that_never_starts_the_watchdog_and_the_node_still_work(
    probe: Probe, segmentation_node: StartNode
) -> None:
    segmentation_node(use_sim_time=True, stale_after_ms=300)
    _, class_maps = probe.connect()
    assert class_maps.messages
    probe.status(lambda status: status.level == STALE)


def test_a_gpu_that_is_lost_ends_the_process_with_a_status_of_its_own(
    probe: Probe, segmentation_node: StartNode
) -> None:
    from tests.ros.probe import bgr_of, eventually, image

    process = segmentation_node()
    camera, class_maps = probe.connect()
    good = probe.next_stamp()
    camera.publish(image(bgr_of((3, 0, 0)), good))
    class_maps.of_stamp(good)
    camera.publish(image(bgr_of((255, 255, 0)), probe.next_stamp()))
    eventually(lambda: not process.alive, within_s=10)
    assert process.process.returncode == 75
    assert "segmentation_node ends, only a new process can go on: the fake engine loses its device" in process.log
