from __future__ import annotations

from types import SimpleNamespace

import pytest

from darkseg_ros.errors import ImageMessageError
from darkseg_ros.frames.stamps import STAMP_END_NS, header_of, stamp_ns_of, stamp_ns_to_write, stamp_text


def header(sec: int, nanosec: int) -> SimpleNamespace:
    return SimpleNamespace(stamp=SimpleNamespace(sec=sec, nanosec=nanosec))


def test_seconds_and_nanoseconds_make_one_number() -> None:
    assert stamp_ns_of(header(1_700_000_000, 7)) == 1_700_000_000_000_000_007


def test_a_stamp_is_told_to_the_nanosecond() -> None:
    assert stamp_text(1_700_000_000_000_000_007) == "1700000000.000000007"
    assert stamp_text(5) == "0.000000005"
    assert stamp_text(-5_000_000_000) == "-5.000000000"


@pytest.mark.parametrize(("sec", "nanosec"), [(0, 0), (0, 1), (1_700_000_000, 7), (2**31 - 1, 999_999_999)])
def test_a_stamp_that_a_message_can_bear_is_written_as_it_came(sec: int, nanosec: int) -> None:
    assert stamp_ns_to_write(header(sec, nanosec)) == stamp_ns_of(header(sec, nanosec)) < STAMP_END_NS


@pytest.mark.parametrize(
    ("sec", "nanosec", "told"),
    [(-1, 999_999_999, "-1.999999999"), (2**31 - 1, 1_000_000_000, "2147483648.000000000"), (-5, 0, "-5.000000000")],
)
def test_a_stamp_that_no_message_can_bear_is_told_with_the_cure(sec: int, nanosec: int, told: str) -> None:
    with pytest.raises(ImageMessageError, match=rf"its stamp is {told} s, expected 0…2³¹ s since 1970; set the clock"):
        stamp_ns_to_write(header(sec, nanosec))


def test_the_header_of_a_message_is_the_header_itself() -> None:
    message = SimpleNamespace(header=header(1, 2))
    assert header_of(message) is message.header


def test_a_message_without_header_has_its_timestamp_and_frame() -> None:
    found = header_of(SimpleNamespace(timestamp=SimpleNamespace(sec=3, nanosec=4), frame_id="front"))
    assert (stamp_ns_of(found), found.frame_id) == (3_000_000_004, "front")
