from __future__ import annotations

from dataclasses import replace

import pytest

from darkseg_ros.benchmark.comparison import Change, check_comparable, compare, comparison_lines, remarks
from darkseg_ros.benchmark.figures import Percentiles, Ratio
from darkseg_ros.benchmark.report import BenchmarkReport
from darkseg_ros.errors import BenchmarkError
from tests.core.benchmark.reports import CONTESTANT, REPORT, ROS, with_reference


def latency(
    old: float, new: float, *, old_spread: tuple[float, float] | None, new_spread: tuple[float, float] | None
) -> Change:
    return Change("row", "latency", "ms", old, new, old_spread=old_spread, new_spread=new_spread, judged=True)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (latency(20, 23, old_spread=(19, 21), new_spread=(22, 24)), True),
        (latency(20, 21.9, old_spread=(19.9, 20.1), new_spread=(21.8, 22)), False),  # 9.5 %
        (latency(20, 23, old_spread=(19, 23.5), new_spread=(22, 24)), False),  # as slow a round was seen before
        (latency(20, 23, old_spread=(19, 21), new_spread=(19.5, 24)), False),  # as fast a round is seen still
        (latency(20, 10, old_spread=(19, 21), new_spread=(9, 11)), False),  # faster
        (latency(20, 23, old_spread=None, new_spread=None), True),
        (latency(0, 5, old_spread=None, new_spread=None), False),  # no share of nothing
        (Change("row", "rate", "Hz", 50, 44, higher_is_better=True, judged=True), True),
        (Change("row", "rate", "Hz", 50, 46, higher_is_better=True, judged=True), False),
        (Change("row", "rate", "Hz", 50, 99, higher_is_better=True, judged=True), False),
        (Change("row", "load", "s", 1, 9), False),  # not judged
    ],
)
def test_a_regression_is_worse_by_more_than_a_tenth_and_beyond_both_spreads(change: Change, expected: bool) -> None:
    assert change.is_regression is expected


def regressions(old: BenchmarkReport, new: BenchmarkReport) -> list[tuple[str, str]]:
    return [(change.row, change.figure) for change in compare(old, new) if change.is_regression]


def test_a_benchmark_is_no_worse_than_itself() -> None:
    assert regressions(REPORT, REPORT) == []
    assert {change.share for change in compare(REPORT, REPORT)} == {0.0}


def test_rows_are_matched_by_name_and_kind() -> None:
    slower = replace(CONTESTANT, latency_ms=Percentiles(30, 33, 36), round_p50_ms=(29, 31))
    new = replace(REPORT, contestants=(slower, REPORT.contestants[0]))
    assert regressions(REPORT, new) == [("darkseg_slim auto (segmenter)", "latency p50")]
    p50 = next(change for change in compare(REPORT, new) if change.is_regression)
    assert (p50.old, p50.new, p50.share) == (20.0, 30.0, 0.5)
    assert (p50.old_spread, p50.new_spread) == ((19.0, 21.0), (29, 31))


def test_with_one_reference_the_ratio_judges_and_not_the_time() -> None:
    old = with_reference(Ratio(0.20, 0.19, 0.21), latency_ms=20)
    busy = with_reference(Ratio(0.20, 0.19, 0.22), latency_ms=40)
    worse = with_reference(Ratio(0.25, 0.24, 0.26), latency_ms=20)
    assert regressions(old, busy) == []
    assert regressions(old, worse) == [("darkseg_slim auto (segmenter)", "ratio to the reference")]
    assert regressions(old, replace(busy, reference="another")) == [("darkseg_slim auto (segmenter)", "latency p50")]


def test_memory_and_the_highest_rate_through_ros_are_judged() -> None:
    assert ROS.highest is not None
    heavier = replace(
        REPORT,
        contestants=tuple(replace(row, peak_memory_mb=309.0) for row in REPORT.contestants),  # 280 + 10.4 %
        ros=replace(
            ROS, node_peak_memory_mb=318.0, highest=replace(ROS.highest, rate_hz=40.0, reached_hz=40.0)
        ),  # + 9.7 %, − 9.1 %
    )
    memory = [(f"darkseg_slim auto ({kind})", "peak memory") for kind in ("engine", "segmenter")]
    assert regressions(REPORT, heavier) == memory
    slower = replace(ROS, node_peak_memory_mb=320.0, highest=None)
    assert regressions(REPORT, replace(REPORT, ros=slower)) == [("ROS", "highest rate"), ("ROS", "node's peak memory")]


def test_latency_through_ros_is_judged_beyond_its_own_p95() -> None:
    def at_30_hz(p50: float) -> BenchmarkReport:
        return replace(REPORT, ros=replace(ROS, runs=(replace(ROS.runs[1], latency_ms=Percentiles(p50, 40, 50)),)))

    assert regressions(REPORT, at_30_hz(24.9)) == []  # + 13 %, but the old p95 is 25
    assert regressions(REPORT, at_30_hz(25.1)) == [("ROS at 30.0 Hz", "latency p50")]


@pytest.mark.parametrize(
    ("new", "message"),
    [
        (replace(REPORT, machine=replace(REPORT.machine, cpu_model="Arm")), "CPU was AMD EPYC, is Arm"),
        (replace(REPORT, machine=replace(REPORT.machine, cores=8)), "cores was 2, is 8"),
        (replace(REPORT, machine=replace(REPORT.machine, gpus=("H200",))), "GPUs was none, is H200"),
        (replace(REPORT, input=replace(REPORT.input, sha256="cd" * 32)), "frames was abababababab, is cdcdcdcdcdcd"),
        (replace(REPORT, input=replace(REPORT.input, size_hw=(64, 32))), "frame size was 512×1024, is 64×32"),
        (replace(REPORT, contestants=(replace(CONTESTANT, name="x"),)), "no contestant in common"),
    ],
)
def test_what_cannot_be_compared_is_refused(new: BenchmarkReport, message: str) -> None:
    with pytest.raises(BenchmarkError, match=message):
        compare(REPORT, new)


def test_an_updated_library_or_kernel_is_compared_and_remarked() -> None:
    machine = replace(REPORT.machine, kernel="6.19", load_average_before=4.0)
    new = replace(REPORT, machine=machine, versions={"darkseg_ros": "0.1.0", "openvino": "2027.1"}, ros=None)
    check_comparable(REPORT, new.machine, new.input)
    assert remarks(REPORT, replace(new, contestants=(CONTESTANT, replace(CONTESTANT, name="peer")))) == [
        "only in the earlier benchmark: ROS at 10.0 Hz",
        "only in the earlier benchmark: ROS at 30.0 Hz",
        "only in the earlier benchmark: darkseg_slim auto (engine)",
        "only in this benchmark: peer (segmenter)",
        "numpy was 2.4.6, is none",
        "openvino was none, is 2027.1",
        "kernel was 6.18, is 6.19",
        "the machine was busy: load average 0.1 before the earlier benchmark, 4.0 before this one; times of an idle "
        "machine say more",
    ]
    assert remarks(REPORT, REPORT) == []


def test_lines_show_values_spread_and_change_and_mark_regressions() -> None:
    lines = list(
        comparison_lines(
            [
                latency(20, 23, old_spread=(19, 21), new_spread=(22, 24)),
                Change("longer row", "dropped", "%", 0, 0.5),
            ]
        )
    )
    assert lines == [
        "row         latency  20.0 (19.0…21.0) → 23.0 (22.0…24.0)  ms     +15.0 %  REGRESSION",
        "longer row  dropped             0.000 →            0.500  %            –",
    ]


def test_other_instruction_sets_under_the_same_name_are_refused() -> None:
    hidden = replace(REPORT.machine, instruction_sets=("AVX2",))
    with pytest.raises(BenchmarkError, match="instruction sets was AVX2, AVX-512, is AVX2; run both"):
        check_comparable(REPORT, hidden, REPORT.input)
    none = replace(REPORT.machine, instruction_sets=())
    with pytest.raises(BenchmarkError, match="is none"):
        check_comparable(REPORT, none, REPORT.input)


def test_a_report_without_instruction_sets_is_compared_and_remarked() -> None:
    old = replace(REPORT, machine=replace(REPORT.machine, instruction_sets=None))
    check_comparable(old, REPORT.machine, REPORT.input)
    (remark,) = remarks(old, REPORT)
    assert remark.startswith("the instruction sets of the earlier benchmark are not recorded")
