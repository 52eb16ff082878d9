"""What segmentation_node does with bad, late and too many frames: counted, said, survived."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from tests.ros.conftest import StartNode
    from tests.ros.probe import Probe, Status

OK, WARN, ERROR, STALE = 0, 1, 2, 3
MAGENTA = (255, 0, 255)
S = 1_000_000_000


def books_balance(status: Status) -> bool:
    """Every frame that came in is published, dropped for a reason, or still on its way."""
    published, in_progress = status.number("frames_published"), status.number("frames_in_progress")
    return status.number("frames_in") == published + status.dropped + in_progress


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
    from tests.ros.probe import bgr_of, eventually, image, pixels

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
        message = image(bgr_of((4, 0, 0)), bad_stamps[-1])
        spoil(message)
        camera.publish(message)
        time.sleep(0.05)  # else the good frame may replace it before it is looked at
        stamp = probe.next_stamp()
        camera.publish(image(bgr_of((11, 0, 0)), stamp))
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


def test_an_engine_that_fails_on_one_frame_is_an_error_until_the_next_good_one(
    probe: Probe, segmentation_node: StartNode
) -> None:
    from tests.ros.probe import bgr_of, image

    process = segmentation_node(stale_after_ms=0)
    camera, class_maps = probe.connect()
    bad_stamp = probe.next_stamp()
    camera.publish(image(bgr_of(MAGENTA), bad_stamp))
    status = probe.status(lambda status: status.level == ERROR)
    assert "the fake engine fails on an all-magenta frame" in status.message
    assert status.number("dropped_engine_error") == 1
    stamp = probe.next_stamp()
    camera.publish(image(bgr_of((3, 0, 0)), stamp))
    class_maps.of_stamp(stamp)
    assert probe.status(lambda status: status.level != ERROR).level == WARN
    assert bad_stamp not in class_maps.stamps
    assert process.alive


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
    old = time.time_ns() + 10 * S  # later than any so far, then the frames after it go on from there
    camera.publish(image(bgr_of((3, 0, 0)), old))
    class_maps.of_stamp(old)  # in the future: not old
    too_old = time.time_ns() - 5 * S
    camera.publish(image(bgr_of((3, 0, 0)), too_old))
    status = probe.status(lambda status: status.number("dropped_too_old") == 1)
    assert books_balance(status)
    recorded = 1_500_000_000 * S
    camera.publish(image(bgr_of((3, 0, 0)), recorded))
    class_maps.of_stamp(recorded)
    assert too_old not in class_maps.stamps


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


@pytest.mark.parametrize("size_hw", [(1, 1), (480, 640)])
def test_the_camera_may_change_size_and_encoding_in_mid_stream(
    probe: Probe, segmentation_node: StartNode, size_hw: tuple[int, int]
) -> None:
    from sensor_msgs.msg import Image

    from darkseg_ros.image_messages import fill_image
    from tests.ros.probe import header, pixels

    segmentation_node()
    camera, class_maps = probe.connect()
    stamp = probe.next_stamp()
    rgb = np.zeros((*size_hw, 3), np.uint8)
    rgb[..., 2] = 12  # blue, in rgb8
    camera.publish(fill_image(Image(), rgb, encoding="rgb8", header=header(stamp, "other")))
    answer = class_maps.of_stamp(stamp)
    assert answer.header.frame_id == "other"
    np.testing.assert_array_equal(pixels(answer), np.full(size_hw, 12, np.uint8))
