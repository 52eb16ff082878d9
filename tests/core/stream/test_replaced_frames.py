from __future__ import annotations

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
