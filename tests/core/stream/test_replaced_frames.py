from __future__ import annotations

import pytest

from darkseg_ros.stream.replaced_frames import ReplacedFrames

FRONT, REAR = b"front", b"rear"


def test_a_gap_in_a_publishers_numbers_is_as_many_frames() -> None:
    frames = ReplacedFrames()
    assert [frames.count(FRONT, number) for number in (5, 6, 9, 10)] == [0, 0, 2, 0]


def test_each_publisher_has_numbers_of_its_own() -> None:
    frames = ReplacedFrames()
    assert [frames.count(FRONT, 100), frames.count(REAR, 7), frames.count(FRONT, 102), frames.count(REAR, 8)] == [
        0,
        0,
        1,
        0,
    ]


def test_a_publisher_that_starts_anew_replaced_nothing() -> None:
    frames = ReplacedFrames()
    assert [frames.count(FRONT, number) for number in (90, 3, 5)] == [0, 0, 1]


def test_a_middleware_without_numbers_counts_nothing() -> None:
    frames = ReplacedFrames()
    assert [frames.count(FRONT, 0) for _ in range(3)] == [0, 0, 0]


def test_frames_that_the_link_lost_were_not_replaced() -> None:
    frames = ReplacedFrames()
    frames.count(FRONT, 1)
    frames.note_lost(2)
    assert [frames.count(FRONT, 6), frames.count(FRONT, 8)] == [2, 1]
    frames.note_lost(5)
    assert [frames.count(FRONT, 9), frames.count(FRONT, 12)] == [0, 2]


def test_publishers_that_come_and_go_take_no_memory() -> None:
    frames = ReplacedFrames()
    for number in range(1000):
        frames.count(str(number).encode(), 1)
    assert len(frames._newest) <= 16
    assert frames.count(b"999", 4) == 2


def test_a_number_that_comes_again_replaced_nothing() -> None:
    frames = ReplacedFrames()
    assert [frames.count(FRONT, number) for number in (5, 5, 7)] == [0, 0, 1]


def test_losses_add_up_until_the_next_frame_whoever_sent_it() -> None:
    frames = ReplacedFrames()
    frames.count(FRONT, 1)
    frames.note_lost(1)
    frames.note_lost(2)
    assert frames.count(FRONT, 6) == 1  # four are missing, three of them were lost
    frames.note_lost(9)
    frames.count(REAR, 1)
    assert frames.count(FRONT, 9) == 2


@pytest.mark.parametrize(("others", "remembered"), [(15, True), (16, False)])
def test_sixteen_publishers_are_told_apart_and_the_one_silent_longest_is_forgotten(
    others: int, remembered: bool
) -> None:
    frames = ReplacedFrames()
    frames.count(REAR, 1)
    frames.count(FRONT, 1)
    frames.count(REAR, 2)  # newer than the front one
    for number in range(others - 1):
        frames.count(str(number).encode(), 1)
    assert frames.count(FRONT, 4) == (2 if remembered else 0)
