from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from types import SimpleNamespace

import pytest

from darkseg_ros.errors import EngineError
from darkseg_ros.stream.batching import BatchRule
from darkseg_ros.stream.inference_thread import Delivery, InferenceThread, Stopped

WITHIN_S = 20.0
AT_ONCE = BatchRule(window_s=0.0, silent_after_s=0.0)


class Closeable:
    """Stands for a segmenter: the thread opens it, hands it to `serve` and closes it."""

    def __init__(self) -> None:
        self.closed = threading.Event()
        self.thread = threading.current_thread()
        self.engine = SimpleNamespace(batch_max=4)

    def close(self) -> None:
        assert threading.current_thread() is self.thread
        self.closed.set()


class Bench:
    """A thread whose frames are names of events to wait for, and what it delivered."""

    def __init__(self) -> None:
        self.segmenter: Closeable | None = None
        self.delivered: list[str] = []
        self.in_work = threading.Event()
        self.in_delivery = threading.Event()
        self.go_on = threading.Event()
        self.inference: InferenceThread[str] = InferenceThread(
            open_segmenter=self._open, serve=self._serve, batch_rule=lambda: AT_ONCE
        )

    def _open(self) -> Closeable:
        self.segmenter = Closeable()
        return self.segmenter

    def _serve(self, segmenter: Closeable, batch: Sequence[str]) -> Delivery:
        assert segmenter is self.segmenter
        self.in_work.set()
        if "slow" in batch:
            assert self.go_on.wait(WITHIN_S)

        def deliver() -> None:
            if "slow delivery" in batch:
                self.in_delivery.set()
                assert self.go_on.wait(WITHIN_S)
            self.delivered.append("+".join(batch))

        return deliver


def eventually(condition: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.005)


def test_frames_are_served_and_the_engine_is_closed_by_the_thread_that_opened_it() -> None:
    bench = Bench()
    assert bench.inference.wait_until_open() is bench.segmenter
    bench.inference.put("front", "a")
    eventually(lambda: bench.delivered == ["a"])
    assert bench.inference.stop(within_s=WITHIN_S) == Stopped(ended=True, waiting=(), stuck=())
    assert bench.segmenter.closed.is_set()
    assert bench.inference.put("front", "late") == "late"


def test_what_opening_raises_is_raised_where_it_is_waited_for() -> None:
    def fail() -> Closeable:
        raise EngineError("no such library")

    inference: InferenceThread[str] = InferenceThread(
        open_segmenter=fail, serve=lambda *_: lambda: None, batch_rule=lambda: AT_ONCE
    )
    with pytest.raises(EngineError, match="no such library"):
        inference.wait_until_open()
    assert inference.stop(within_s=WITHIN_S).ended


def test_stopping_waits_for_the_frame_in_work_and_gives_back_the_one_that_waits() -> None:
    bench = Bench()
    bench.inference.wait_until_open()
    bench.inference.put("front", "slow")
    assert bench.in_work.wait(WITHIN_S)
    bench.inference.put("front", "next")
    threading.Timer(0.1, bench.go_on.set).start()
    assert bench.inference.stop(within_s=WITHIN_S) == Stopped(ended=True, waiting=("next",), stuck=())
    assert bench.delivered == ["slow"]


def test_a_stuck_frame_is_given_up_and_never_delivered_and_its_engine_closed_when_it_returns() -> None:
    bench = Bench()
    bench.inference.wait_until_open()
    assert bench.inference.busy_ms() == 0
    bench.inference.put("front", "slow")
    assert bench.in_work.wait(WITHIN_S)
    started_s = time.monotonic()
    assert bench.inference.stop(within_s=0.1) == Stopped(ended=False, waiting=(), stuck=("slow",))
    assert time.monotonic() - started_s < WITHIN_S
    assert bench.inference.busy_ms() >= 100
    bench.go_on.set()
    assert bench.segmenter.closed.wait(WITHIN_S)
    assert bench.delivered == []


def test_a_delivery_under_way_is_not_waited_for_longer_and_is_the_last() -> None:
    bench = Bench()
    bench.inference.wait_until_open()
    bench.inference.put("front", "slow delivery")
    assert bench.in_delivery.wait(WITHIN_S)
    bench.inference.put("front", "next")
    started_s = time.monotonic()
    stopped = bench.inference.stop(within_s=0.1)
    assert time.monotonic() - started_s < WITHIN_S / 4  # it would wait for `go_on` until the test ends
    assert stopped == Stopped(ended=False, waiting=("next",), stuck=())  # what is delivered is counted by its delivery
    bench.go_on.set()
    assert bench.segmenter is not None
    assert bench.segmenter.closed.wait(WITHIN_S)
    assert bench.delivered == ["slow delivery"]


def test_a_thread_stopped_while_it_opens_says_so_and_closes_what_it_gets() -> None:
    go_on, opened = threading.Event(), Closeable()

    def open_slowly() -> Closeable:
        assert go_on.wait(WITHIN_S)
        opened.thread = threading.current_thread()
        return opened

    inference: InferenceThread[str] = InferenceThread(
        open_segmenter=open_slowly, serve=lambda *_: lambda: None, batch_rule=lambda: AT_ONCE
    )
    assert inference.stop(within_s=0.05) == Stopped(ended=False, waiting=(), stuck=())
    with pytest.raises(EngineError, match="stopped while it opened"):
        inference.wait_until_open()
    go_on.set()
    assert opened.closed.wait(WITHIN_S)


def test_what_came_of_several_cameras_while_a_batch_was_in_work_is_the_next_batch() -> None:
    bench = Bench()
    bench.inference.put("front", "slow")
    assert bench.in_work.wait(WITHIN_S)
    assert bench.inference.put("front", "old") is None
    assert bench.inference.put("rear", "rear") is None
    assert bench.inference.put("front", "new") == "old"
    bench.go_on.set()
    eventually(lambda: bench.delivered == ["slow", "new+rear"])
    assert bench.inference.stop(within_s=WITHIN_S).ended


def test_the_busy_time_ends_with_the_delivery() -> None:
    bench = Bench()
    bench.inference.put("front", "slow")
    assert bench.in_work.wait(WITHIN_S)
    eventually(lambda: bench.inference.busy_ms() > 0)
    bench.go_on.set()
    eventually(lambda: bench.inference.busy_ms() == 0)
    assert bench.delivered == ["slow"]
    assert bench.inference.stop(within_s=WITHIN_S).ended
