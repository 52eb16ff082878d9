from __future__ import annotations

import pytest

from darkseg_ros.frames.stamp_matcher import StampMatcher


@pytest.fixture
def matcher() -> StampMatcher[str, int]:
    return StampMatcher(3)


def test_items_of_one_stamp_match_whichever_comes_first(matcher: StampMatcher[str, int]) -> None:
    assert matcher.put_left(10, "image") is None
    assert matcher.put_right(10, 1) == ("image", 1)
    assert matcher.put_right(20, 2) is None
    assert matcher.put_left(20, "next") == ("next", 2)


def test_a_match_is_given_once(matcher: StampMatcher[str, int]) -> None:
    matcher.put_left(10, "image")
    matcher.put_right(10, 1)
    assert matcher.put_right(10, 1) is None
    assert matcher.put_left(30, "other") is None


def test_other_stamps_do_not_match(matcher: StampMatcher[str, int]) -> None:
    matcher.put_left(10, "image")
    assert matcher.put_right(11, 1) is None


def test_the_oldest_makes_room(matcher: StampMatcher[str, int]) -> None:
    for stamp, name in ((1, "a"), (2, "b"), (3, "c"), (4, "d")):
        matcher.put_left(stamp, name)
    assert matcher.put_right(1, 0) is None
    assert matcher.put_right(2, 0) == ("b", 0)


def test_what_arrived_before_a_match_is_forgotten(matcher: StampMatcher[str, int]) -> None:
    matcher.put_left(1, "unanswered")
    matcher.put_left(2, "answered")
    matcher.put_left(3, "waiting")
    assert matcher.put_right(2, 0) == ("answered", 0)
    assert matcher.put_right(1, 0) is None
    assert matcher.put_right(3, 0) == ("waiting", 0)


def test_a_looping_bag_starts_again_with_smaller_stamps(matcher: StampMatcher[str, int]) -> None:
    matcher.put_left(9, "last of the first pass")
    matcher.put_left(1, "first of the second pass")
    assert matcher.put_right(1, 0) == ("first of the second pass", 0)


def test_a_capacity_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1, got 0"):
        StampMatcher(0)
