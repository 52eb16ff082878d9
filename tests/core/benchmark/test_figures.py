from __future__ import annotations

from dataclasses import replace

import pytest

from darkseg_ros.benchmark.figures import Int8Ceiling, Percentiles, three_digits
from darkseg_ros.benchmark.table import table_of
from tests.core.benchmark.reports import CONTESTANT, GOAL, REPORT


def test_percentiles_worked_by_hand() -> None:
    assert Percentiles.of([*range(1, 102)]) == Percentiles(51, 96, 100)
    assert Percentiles.of([1.0, 3.0]) == Percentiles(2.0, pytest.approx(2.9), pytest.approx(2.98))
    assert Percentiles.of([7.0]) == Percentiles(7.0, 7.0, 7.0)
    with pytest.raises(ValueError, match="no values"):
        Percentiles.of([])


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0.000"), (0.0123, "0.012"), (3.456, "3.46"), (-27.08, "-27.1"), (1127.4, "1127")]
)
def test_figures_have_as_many_digits_as_they_are_worth(value: float, text: str) -> None:
    assert three_digits(value) == text


@pytest.mark.parametrize(
    ("measured", "higher_is_better", "reached"),
    [(300, False, True), (301, False, False), (300, True, True), (299, True, False), (None, True, False)],
)
def test_a_goal_is_reached_at_its_bound(measured: float | None, higher_is_better: bool, reached: bool) -> None:
    assert replace(GOAL, measured=measured, higher_is_better=higher_is_better).reached is reached


def test_the_table_worked_by_hand() -> None:
    report = replace(REPORT, contestants=(CONTESTANT,), goals=(GOAL, replace(GOAL, measured=None)))
    assert list(table_of(report)) == [
        "contestant         kind       p50 ms   p95   p99  jitter   fps  CPU ms   MB  load s",
        "darkseg_slim auto  segmenter    20.0  22.0  30.0    1.50  50.0    35.0  280   0.900",
        "",
        "ROS at  sent  drops %  p50 ms   p95   p99  jitter  adds p50  adds p99  CPU ms",
        " 10 Hz   150     2.00    22.0  25.0  33.0    2.00      2.50      9.00    40.0",
        " 30 Hz   150     2.00    22.0  25.0  33.0    2.00      2.50      9.00    40.0",
        "highest rate with < 1 % drops: 44.0 Hz; node: 290 MB, 70.0 of it shared; active after 2.00 s",
        "a node that computes nothing answers after 4.60 ms",
        "the same with a camera and a recorder as most nodes have them: after 5.70 ms",
        "its CPU time for a frame: 4.10 ms",
        "",
        "reached  peak memory: 280 MB, at most 300 MB",
        "open     peak memory: not measured, at most 300 MB",
    ]


def test_the_share_of_the_ceiling_is_worked_by_hand() -> None:
    ceiling = Int8Ceiling(gop_per_s=1000.0, network_gop=2.0, engine_ms=8.0)  # 250 GOP in a second
    assert ceiling.share == pytest.approx(0.25)
    line = "int8 ceiling of this machine: 1000 GOP/s; the shipped network's 2.00 GOP in 8.00 ms are 25.0 % of it"
    assert line in table_of(replace(REPORT, int8_ceiling=ceiling))


def test_a_busy_machine_is_told() -> None:
    def last_line(load_average: float) -> str:
        machine = replace(REPORT.machine, load_average_before=load_average)
        return list(table_of(replace(REPORT, machine=machine)))[-1]

    assert last_line(1.0).startswith("the machine was busy (load average 1.0 before, 2 cores)")
    assert last_line(0.9).startswith("reached")
