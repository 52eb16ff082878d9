from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from darkseg_ros.model.in_order import in_order


def test_results_come_in_the_items_order_whichever_is_done_first() -> None:
    second_is_done = threading.Event()

    def work(item: int) -> int:
        if item == 0:
            assert second_is_done.wait(10)
        elif item == 1:
            second_is_done.set()
        return item * item

    with in_order(work, range(20), threads=2) as results:
        assert list(results) == [(item, item * item) for item in range(20)]


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_no_more_than_two_items_for_each_thread_are_in_memory(threads: int) -> None:
    read = 0

    def items() -> Iterator[int]:
        nonlocal read
        for item in range(50):
            read += 1
            yield item

    with in_order(str, items(), threads=threads) as results:
        for given, _ in enumerate(results, 1):
            assert read - given < 2 * threads


@pytest.mark.parametrize("threads", [1, 2])
def test_an_error_in_reading_comes_after_the_results_of_what_was_read(threads: int) -> None:
    def items() -> Iterator[int]:
        yield from range(3)
        raise ValueError("the fourth cannot be read")

    given: list[object] = []
    with in_order(str, items(), threads=threads) as results, pytest.raises(ValueError, match="the fourth"):
        given.extend(result for _, result in results)
    assert given == ["0", "1", "2"]


@pytest.mark.parametrize("threads", [1, 2])
def test_an_error_of_the_work_comes_in_its_items_place(threads: int) -> None:
    def work(item: int) -> int:
        if item == 2:
            raise ValueError("item 2")
        return item

    given: list[object] = []
    with in_order(work, range(9), threads=threads) as results, pytest.raises(ValueError, match="item 2"):
        given.extend(result for _, result in results)
    assert given == [0, 1]


def test_after_the_block_no_work_is_under_way_and_what_waited_never_ran() -> None:
    started: list[int] = []
    go_on = threading.Event()

    def work(item: int) -> None:
        started.append(item)
        if item:
            assert go_on.wait(10)

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt), in_order(work, range(50), threads=2) as results:  # noqa: PT012
        next(results)
        threading.Timer(0.05, go_on.set).start()
        raise KeyboardInterrupt
    assert go_on.is_set()
    assert len(started) <= 4
    assert threading.active_count() <= before + 1  # the timer's may be ending
