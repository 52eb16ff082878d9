from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darkseg_ros.errors import EngineError
from darkseg_ros.model.segmenter import Segmentation
from darkseg_ros.stream.batching import BatchFormer, BatchRule, LatestFrames, segment_each

CAMERAS = ("front", "left", "rear")
TICK_S = 1 / 1024  # sums of it are exact
WITHIN_S = 20.0

put = st.sampled_from(CAMERAS)
wait = st.integers(1, 40)  # ticks
serve = st.just(True)


@given(
    events=st.lists(put | wait | serve, min_size=20, max_size=60),  # shorter ones hardly ever fill two batches
    window=st.integers(0, 50),
    silent_after=st.sampled_from([0, 20, 100]),
)
@settings(deadline=None, max_examples=300)
def test_the_newest_frame_of_each_camera_goes_when_all_that_are_alive_have_one_or_the_window_is_over(
    events: list[str | int | bool], window: int, silent_after: int
) -> None:
    rule = BatchRule(window_s=window * TICK_S, silent_after_s=silent_after * TICK_S)
    former: BatchFormer[tuple[str, int]] = BatchFormer()
    now = number = 0
    newest_at: dict[str, int] = {}
    waiting: dict[str, tuple[str, int]] = {}
    first_at = 0
    served, replaced = [], []

    for event in events:
        if isinstance(event, str):
            frame = (event, number)
            number += 1
            first_at = first_at if waiting else now
            assert former.put(event, frame, now_s=now * TICK_S) == waiting.get(event)
            replaced += [waiting[event]] if event in waiting else []
            waiting[event], newest_at[event] = frame, now
        elif event is True:
            assert sorted(former.take_all()) == sorted(waiting.values())
            served += waiting.values()
            waiting = {}
        else:
            now += event
        alive = {name for name, at in newest_at.items() if not silent_after or now - at < silent_after}
        due_in_s = former.due_in_s(rule, frames_max=len(CAMERAS), now_s=now * TICK_S)
        if not waiting:
            assert due_in_s is None
        elif alive <= set(waiting) or now - first_at >= window:
            assert due_in_s == 0
        else:
            assert 0 < due_in_s <= (first_at + window - now) * TICK_S
    assert sorted([*served, *replaced, *former.take_all()], key=lambda frame: frame[1]) == sorted(
        [*served, *replaced, *waiting.values()], key=lambda frame: frame[1]
    )
    assert len(served) + len(replaced) + len(waiting) == number


def test_the_batch_is_in_the_order_of_arrival_so_that_no_camera_comes_last_for_ever() -> None:
    former: BatchFormer[str] = BatchFormer()
    for camera, frame in (("rear", "rear 1"), ("front", "front 1"), ("rear", "rear 2")):
        former.put(camera, frame, now_s=0.0)
    assert former.take_all() == ["rear 2", "front 1"]
    for camera in ("front", "rear"):
        former.put(camera, f"{camera} 3", now_s=1.0)
    assert former.take_all() == ["front 3", "rear 3"]


def test_a_stopped_camera_costs_the_window_until_it_counts_as_silent_and_nothing_after() -> None:
    former: BatchFormer[str] = BatchFormer()
    rule = BatchRule(window_s=0.0625, silent_after_s=1.0)
    former.put("left", "left", now_s=0.0)
    former.put("front", "front", now_s=0.0)
    former.take_all()
    former.put("front", "front", now_s=0.5)
    assert former.due_in_s(rule, frames_max=3, now_s=0.5) == 0.0625
    former.take_all()
    former.put("front", "front", now_s=0.96875)
    assert former.due_in_s(rule, frames_max=3, now_s=0.96875) == 0.03125  # left is silent from 1.0 on
    former.take_all()
    former.put("front", "front", now_s=1.5)
    assert former.due_in_s(rule, frames_max=3, now_s=1.5) == 0


def test_one_camera_never_waits() -> None:
    former: BatchFormer[str] = BatchFormer()
    former.put("", "frame", now_s=3.0)
    assert former.due_in_s(BatchRule(window_s=0.1, silent_after_s=0.0), frames_max=3, now_s=3.0) == 0


def test_a_full_batch_goes_at_once_and_the_camera_that_waited_longest_goes_first() -> None:
    former: BatchFormer[str] = BatchFormer()
    rule = BatchRule(window_s=0.5, silent_after_s=0.0)
    for camera in CAMERAS:
        former.put(camera, f"{camera} 1", now_s=0.0)
    former.take_all()
    former.put("front", "front 2", now_s=1.0)
    assert former.due_in_s(rule, frames_max=2, now_s=1.0) == 0.5
    former.put("left", "left 2", now_s=1.0)
    assert former.due_in_s(rule, frames_max=2, now_s=1.0) == 0
    former.put("rear", "rear 2", now_s=1.0)
    former.put("front", "front 3", now_s=1.25)  # newer, and still the first
    assert former.take(2) == ["front 3", "left 2"]
    former.put("front", "front 4", now_s=1.25)
    assert former.take(1) == ["rear 2"]
    assert former.take_all() == ["front 4"]


def test_frames_that_found_no_room_go_next_without_a_window_and_the_batch_after_them_has_one() -> None:
    former: BatchFormer[str] = BatchFormer()
    rule = BatchRule(window_s=0.5, silent_after_s=0.0)
    for camera in CAMERAS:
        former.put(camera, f"{camera} 1", now_s=0.0)
    assert former.take(2) == ["front 1", "left 1"]
    assert former.due_in_s(rule, frames_max=2, now_s=0.0) == 0
    former.put("rear", "rear 2", now_s=0.25)  # newer, and still without a window
    assert former.due_in_s(rule, frames_max=2, now_s=0.25) == 0
    assert former.take(2) == ["rear 2"]
    former.put("front", "front 2", now_s=0.375)
    assert former.due_in_s(rule, frames_max=2, now_s=0.375) == 0.5


@pytest.mark.parametrize("frames_max", [1, 2, 3])
def test_no_camera_is_served_twice_while_another_waits(frames_max: int) -> None:
    former: BatchFormer[str] = BatchFormer()
    since_served = dict.fromkeys(CAMERAS, 0)
    for _ in range(20):
        for camera in (*CAMERAS, "front", "front"):  # all at the engine's pace or faster
            former.put(camera, camera, now_s=0.0)
        batch = former.take(frames_max)
        assert len(set(batch)) == len(batch) == frames_max
        since_served = {camera: 0 if camera in batch else since_served[camera] + 1 for camera in CAMERAS}
        assert max(since_served.values()) < -(-len(CAMERAS) // frames_max)


def test_an_engine_that_computes_one_frame_at_a_time_waits_for_no_other_camera() -> None:
    former: BatchFormer[str] = BatchFormer()
    rule = BatchRule(window_s=0.5, silent_after_s=0.0)
    former.put("left", "left 1", now_s=0.0)
    former.take_all()
    former.put("front", "front 1", now_s=1.0)
    assert former.due_in_s(rule, frames_max=1, now_s=1.0) == 0


# --- between threads


def taken_by_thread(frames: LatestFrames[int]) -> tuple[threading.Thread, list[list[int]]]:
    taken: list[list[int]] = []

    def take_all() -> None:
        while batch := frames.take(3):
            taken.append(batch)

    thread = threading.Thread(target=take_all)
    thread.start()
    return thread, taken


def test_take_waits_for_the_window_and_not_for_ever() -> None:
    frames: LatestFrames[str] = LatestFrames(lambda: BatchRule(window_s=0.2, silent_after_s=0.0))
    frames.put("left", "left")
    assert frames.take(3) == ["left"]  # the only camera so far
    started_s = time.monotonic()
    frames.put("front", "front")
    assert frames.take(3) == ["front"]
    assert 0.2 <= time.monotonic() - started_s < WITHIN_S


def test_the_last_camera_ends_the_wait() -> None:
    frames: LatestFrames[int] = LatestFrames(lambda: BatchRule(window_s=3600.0, silent_after_s=0.0))
    frames.put("left", 1)
    frames.take(3)
    thread, taken = taken_by_thread(frames)
    frames.put("front", 2)
    frames.put("left", 3)
    deadline_s = time.monotonic() + WITHIN_S
    while not taken and time.monotonic() < deadline_s:
        time.sleep(0.005)
    frames.close()
    thread.join(WITHIN_S)
    assert taken == [[2, 3]]


class Middleware:
    """Waits as a subscription does: the frames that came meanwhile are put while it waits."""

    def __init__(self) -> None:
        self.came: list[tuple[str, int]] = []
        self.frames: LatestFrames[int] = LatestFrames(lambda: BatchRule(window_s=0.0, silent_after_s=0.0), self)

    def wait(self, within_s: float | None) -> None:
        assert self.came or within_s == 0, "it would wait for ever"
        while self.came:
            self.frames.put(*self.came.pop(0))

    def wake(self) -> None:
        """It is the thread that waits which puts the frames."""


def test_what_found_no_room_in_a_batch_is_replaced_by_what_came_while_that_was_in_work() -> None:
    middleware = Middleware()
    middleware.came = [("front", 1), ("rear", 2)]
    assert middleware.frames.take(1) == [1]
    middleware.came = [("rear", 3)]
    assert middleware.frames.take(1) == [3]


def test_a_frame_that_came_earlier_than_it_was_put_waits_less_for_the_others() -> None:
    frames: LatestFrames[int] = LatestFrames(lambda: BatchRule(window_s=3600.0, silent_after_s=0.0))
    frames.put("left", 1)
    frames.take(3)
    frames.put("front", 2, now_s=time.monotonic() - 3600)
    assert frames.take(3) == [2]


def test_closing_gives_back_what_waited_and_ends_every_take() -> None:
    frames: LatestFrames[int] = LatestFrames(lambda: BatchRule(window_s=3600.0, silent_after_s=0.0))
    frames.put("left", 1)
    frames.take(3)
    thread, taken = taken_by_thread(frames)
    frames.put("front", 2)
    assert frames.close() == [2]
    thread.join(WITHIN_S)
    assert (taken, frames.take(3), frames.put("left", 3)) == ([], [], 3)


@pytest.mark.parametrize("window_s", [0.0, 0.0005])
def test_between_threads_every_frame_is_taken_or_given_back_once(window_s: float) -> None:
    frames: LatestFrames[int] = LatestFrames(lambda: BatchRule(window_s=window_s, silent_after_s=0.0))
    thread, taken = taken_by_thread(frames)
    given_back = [
        replaced for number in range(3000) if (replaced := frames.put(CAMERAS[number % 7 % 3], number)) is not None
    ]
    given_back += frames.close()
    thread.join(WITHIN_S)
    assert sorted([*given_back, *(number for batch in taken for number in batch)]) == list(range(3000))
    assert all(len({number % 7 % 3 for number in batch}) == len(batch) for batch in taken)


# --- one camera's poison


class PickySegmenter:
    """Refuses batches with a frame of one value, as an engine does that chokes on it."""

    def __init__(self, poison: int) -> None:
        self.poison = poison
        self.batches: list[int] = []

    def segment_batch(self, bgrs: Sequence[np.ndarray]) -> list[Segmentation]:
        self.batches.append(len(bgrs))
        if any(bgr[0, 0, 0] == self.poison for bgr in bgrs):
            raise EngineError(f"poison among {len(bgrs)}")
        return [Segmentation(bgr[..., 0], bgr[..., 1], bgr.shape[:2], 1.0) for bgr in bgrs]


def frames_of(*values: int) -> list[np.ndarray]:
    return [np.full((2, 2, 3), value, np.uint8) for value in values]


def test_frames_that_do_no_harm_go_together() -> None:
    segmenter = PickySegmenter(poison=9)
    answers = segment_each(segmenter, frames_of(1, 2, 3))
    assert [answer.class_map[0, 0] for answer in answers] == [1, 2, 3]
    assert segmenter.batches == [3]


def test_a_frame_the_engine_fails_on_does_not_take_the_others_with_it() -> None:
    segmenter = PickySegmenter(poison=9)
    first, failed, last = segment_each(segmenter, frames_of(1, 9, 3))
    assert (first.class_map[0, 0], last.class_map[0, 0]) == (1, 3)
    assert str(failed) == "poison among 1"
    assert segmenter.batches == [3, 1, 1, 1]


def test_a_single_frame_is_not_tried_twice_and_no_frame_not_once() -> None:
    segmenter = PickySegmenter(poison=9)
    (failed,) = segment_each(segmenter, frames_of(9))
    assert isinstance(failed, EngineError)
    assert segment_each(segmenter, []) == []
    assert segmenter.batches == [1]
