from __future__ import annotations

from types import SimpleNamespace

from darkseg_ros.frames.stamps import stamp_ns_of, stamp_text


def test_seconds_and_nanoseconds_make_one_number() -> None:
    header = SimpleNamespace(stamp=SimpleNamespace(sec=1_700_000_000, nanosec=7))
    assert stamp_ns_of(header) == 1_700_000_000_000_000_007


def test_a_stamp_is_told_to_the_nanosecond() -> None:
    assert stamp_text(1_700_000_000_000_000_007) == "1700000000.000000007"
    assert stamp_text(5) == "0.000000005"
