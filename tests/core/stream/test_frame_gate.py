from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from darkseg_ros.stream.frame_gate import DropReason, StampOrder, StampVerdict, is_from_the_future, stamp_age_ms

MS = 1_000_000
S = 1_000_000_000
IN_ORDER, DUPLICATE, BACKWARD, REBASED = StampVerdict


def verdicts(*stamps_ns: int) -> list[StampVerdict]:
    order = StampOrder()
    return [order.judge(stamp_ns) for stamp_ns in stamps_ns]


def test_rising_stamps_are_in_order() -> None:
    assert verdicts(5 * S, 5 * S + 1, 99 * S) == [IN_ORDER] * 3


def test_a_repeated_stamp_is_a_duplicate() -> None:
    assert verdicts(5 * S, 5 * S, 6 * S, 6 * S) == [IN_ORDER, DUPLICATE, IN_ORDER, DUPLICATE]


def test_a_stamp_up_to_a_second_back_is_backward_and_changes_nothing() -> None:
    assert verdicts(5 * S, 4 * S, 5 * S - 1, 5 * S) == [IN_ORDER, BACKWARD, BACKWARD, DUPLICATE]


def test_a_jump_back_of_more_than_a_second_starts_anew() -> None:
    assert verdicts(5 * S, 4 * S - 1, 4 * S, 5 * S) == [IN_ORDER, REBASED, IN_ORDER, IN_ORDER]


def test_one_stamp_from_the_far_future_does_not_block_those_after_it() -> None:
    assert verdicts(5 * S, 9999 * S, 6 * S, 7 * S) == [IN_ORDER, IN_ORDER, REBASED, IN_ORDER]


def test_frames_without_a_stamp_are_all_served_and_leave_the_order_alone() -> None:
    assert verdicts(0, 0, 5 * S, 0, 5 * S) == [IN_ORDER, IN_ORDER, IN_ORDER, IN_ORDER, DUPLICATE]


def test_when_the_clock_was_set_back_the_next_step_back_is_a_new_start_however_small() -> None:
    order = StampOrder()
    assert order.judge(5 * S) is IN_ORDER
    order.clock_jumped_back(from_ns=5 * S + 3, to_ns=5 * S - 5)
    assert [order.judge(stamp) for stamp in (5 * S - 2, 5 * S, 5 * S - 1)] == [REBASED, IN_ORDER, BACKWARD]


def test_frames_on_their_way_when_the_clock_was_set_back_do_not_use_up_the_new_start() -> None:
    order = StampOrder()
    assert order.judge(5 * S) is IN_ORDER
    order.clock_jumped_back(from_ns=5 * S, to_ns=4 * S)
    late_ns = 5 * S - 33 * MS
    assert [order.judge(stamp) for stamp in (5 * S + 1, late_ns, 4 * S)] == [IN_ORDER, BACKWARD, REBASED]


@pytest.mark.parametrize("ahead_ns", [0, 50 * MS, -50 * MS])
def test_a_clock_jump_that_comes_after_the_first_frame_of_the_new_drive_makes_no_second_one(ahead_ns: int) -> None:
    order = StampOrder()
    assert [order.judge(stamp) for stamp in (30 * S, 10 * S + ahead_ns)] == [IN_ORDER, REBASED]
    order.clock_jumped_back(from_ns=30 * S, to_ns=10 * S)
    served = 10 * S + ahead_ns + 33 * MS
    assert [order.judge(stamp) for stamp in (served, served - 33 * MS, served - 1)] == [IN_ORDER, BACKWARD, BACKWARD]


def test_a_clock_jump_before_the_first_frame_says_nothing() -> None:
    order = StampOrder()
    order.clock_jumped_back(from_ns=30 * S, to_ns=10 * S)
    assert [order.judge(stamp) for stamp in (11 * S, 11 * S - 33 * MS)] == [IN_ORDER, BACKWARD]


@given(st.lists(st.integers(min_value=1, max_value=20 * S), max_size=30))
def test_served_stamps_fall_only_where_a_rebase_was_counted(stamps_ns: list[int]) -> None:
    served = []
    order = StampOrder()
    for stamp_ns in stamps_ns:
        verdict = order.judge(stamp_ns)
        if verdict in (IN_ORDER, REBASED):
            served.append((stamp_ns, verdict))
    for (before_ns, _), (after_ns, verdict) in itertools.pairwise(served):
        assert (after_ns < before_ns) == (verdict is REBASED)
        assert after_ns != before_ns


def test_age_is_the_time_since_the_stamp() -> None:
    assert stamp_age_ms(100 * S, 100 * S + 250 * MS, simulated_clock=False) == 250.0
    assert stamp_age_ms(100 * S, 100 * S, simulated_clock=False) == 0.0
    assert stamp_age_ms(1, 1 + 3600 * S, simulated_clock=False) == 3_600_000.0
    assert stamp_age_ms(1, 2, simulated_clock=True) == 1e-6


@pytest.mark.parametrize(
    ("stamp_ns", "now_ns"),
    [(0, 100 * S), (100 * S, 0), (100 * S + 1, 100 * S), (1, 3600 * S + 2)],
    ids=["no stamp", "clock not started", "future", "recorded long ago"],
)
def test_stamps_that_do_not_belong_to_the_clock_have_no_age(stamp_ns: int, now_ns: int) -> None:
    assert stamp_age_ms(stamp_ns, now_ns, simulated_clock=False) is None


def test_on_the_clock_of_the_bag_itself_any_age_counts() -> None:
    assert stamp_age_ms(1 * S, 7201 * S, simulated_clock=True) == 7_200_000.0


def test_a_stamp_is_from_the_future_when_it_is_further_ahead_than_allowed() -> None:
    assert not is_from_the_future(101 * S, 100 * S, max_future_ms=1000)
    assert is_from_the_future(101 * S + 1, 100 * S, max_future_ms=1000)


@pytest.mark.parametrize(
    ("stamp_ns", "now_ns", "max_future_ms"),
    [(0, 100 * S, 1000), (1, 100 * S, 1000), (98 * S, 100 * S, 1000), (9999 * S, 0, 1000), (9999 * S, 100 * S, 0)],
    ids=["no stamp", "recorded long ago", "late", "clock not started", "turned off"],
)
def test_what_is_not_ahead_of_a_running_clock_is_not_from_the_future(
    stamp_ns: int, now_ns: int, max_future_ms: int
) -> None:
    assert not is_from_the_future(stamp_ns, now_ns, max_future_ms=max_future_ms)


@pytest.mark.parametrize(
    ("stamp_ns", "expected"), [(15 * S - 1, REBASED), (15 * S, REBASED), (20 * S - 1, REBASED), (20 * S, BACKWARD)]
)
def test_a_stamp_belongs_to_the_drive_that_it_is_nearer_to(stamp_ns: int, expected: StampVerdict) -> None:
    order = StampOrder()
    order.judge(20 * S + S // 2)
    order.clock_jumped_back(from_ns=30 * S, to_ns=10 * S)
    assert order.judge(stamp_ns) is expected


def test_a_new_drive_begins_once_and_late_frames_of_it_are_late() -> None:
    order = StampOrder()
    order.judge(20 * S)
    order.clock_jumped_back(from_ns=20 * S, to_ns=20 * S - 200 * MS)
    assert [order.judge(20 * S - ago * MS) for ago in (190, 195, 190, 150)] == [REBASED, BACKWARD, DUPLICATE, IN_ORDER]


def test_a_frame_that_is_halfway_already_belongs_to_the_old_drive() -> None:
    order = StampOrder()
    order.judge(10 * S)
    order.clock_jumped_back(from_ns=10 * S + 500 * MS, to_ns=9 * S + 500 * MS)
    assert order.judge(10 * S - 100 * MS) is REBASED


def test_a_frame_a_millisecond_ahead_is_from_the_future_where_none_is_allowed() -> None:
    assert is_from_the_future(100 * S + MS + 1, 100 * S, max_future_ms=1)
    assert not is_from_the_future(100 * S + MS, 100 * S, max_future_ms=1)


def test_reasons_are_named_as_in_diagnostics() -> None:
    assert [reason.value for reason in DropReason] == [
        "replaced_by_newer",
        "too_old",
        "duplicate_stamp",
        "backward_stamp",
        "future_stamp",
        "undecodable",
        "unhealthy_camera",
        "engine_error",
        "engine_stuck",
        "not_sent",
        "deactivated",
    ]
