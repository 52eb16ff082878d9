"""Two benchmarks of the same machine and input, held against each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from darkseg_ros.benchmark.figures import ContestantFigures, RateFigures, RosFigures, three_digits
from darkseg_ros.benchmark.machine import Machine
from darkseg_ros.benchmark.report import BenchmarkInput, BenchmarkReport
from darkseg_ros.errors import BenchmarkError

REGRESSION_MIN = 0.10
"""What is worse by no more than this share of the old figure is no regression."""

Spread = tuple[float, float]


@dataclass(frozen=True)
class Change:
    """One figure in both.

    Attributes:
        row: contestant with its kind, or the run through ROS.
        figure: its name.
        unit: of the values.
        old: value in the earlier benchmark.
        new: value in the later one.
        old_spread: least and greatest of it in the earlier benchmark; None where it was taken once.
        new_spread: the same of the later one.
        higher_is_better: which way is worse.
        judged: whether it can be a regression; the others are shown for their own sake.
    """

    row: str
    figure: str
    unit: str
    old: float
    new: float
    old_spread: Spread | None = None
    new_spread: Spread | None = None
    higher_is_better: bool = False
    judged: bool = False

    @property
    def share(self) -> float | None:
        """(new − old) / old; None where the old figure is 0 or below."""
        return (self.new - self.old) / self.old if self.old > 0 else None

    @property
    def is_regression(self) -> bool:
        """Worse by more than REGRESSION_MIN, and each value beyond the other's spread where there is one."""
        if not self.judged or self.share is None:
            return False
        if self.higher_is_better:
            return self.share < -REGRESSION_MIN and not self._within_spreads()
        return self.share > REGRESSION_MIN and not self._within_spreads()

    def _within_spreads(self) -> bool:
        new_in_old = self.old_spread is not None and self.old_spread[0] <= self.new <= self.old_spread[1]
        old_in_new = self.new_spread is not None and self.new_spread[0] <= self.old <= self.new_spread[1]
        return new_in_old or old_in_new


def check_comparable(old: BenchmarkReport, machine: Machine, benchmark_input: BenchmarkInput) -> None:
    """Refuse a comparison that would mean nothing; before a benchmark it saves the wait.

    Raises:
        BenchmarkError: if the earlier benchmark ran on another CPU, with other instruction sets, another number of
            cores or GPU, or on other frames.
    """
    was, now = old.machine, machine
    pairs = (
        ("CPU", was.cpu_model, now.cpu_model),
        ("cores", was.cores, now.cores),
        ("GPUs", ", ".join(was.gpus) or "none", ", ".join(now.gpus) or "none"),
        *_instruction_sets_of(was, now),
        ("frame size", "×".join(map(str, old.input.size_hw)), "×".join(map(str, benchmark_input.size_hw))),
        ("SHA-256 of the frames", old.input.sha256[:12], benchmark_input.sha256[:12]),
    )
    different = [f"{name} was {before}, is {after}" for name, before, after in pairs if before != after]
    if different:
        raise BenchmarkError(
            f"the earlier benchmark cannot be compared with this one: {'; '.join(different)}; run both on one machine "
            "with the same input"
        )


def _instruction_sets_of(was: Machine, now: Machine) -> list[tuple[str, str, str]]:
    """To be compared where both reports hold them."""
    if was.instruction_sets is None or now.instruction_sets is None:
        return []
    return [("instruction sets", ", ".join(was.instruction_sets) or "none", ", ".join(now.instruction_sets) or "none")]


def compare(old: BenchmarkReport, new: BenchmarkReport) -> list[Change]:
    """All figures of the rows, matched by name and kind, that both benchmarks hold.

    Where both have ratios to the same reference, a row is judged by its ratio, since the machine's moods cancel in it
    (the reference's own row is then the yardstick and not judged); else by its median latency. Both have the spread
    of their rounds. Peak memory and, through ROS, the median latency and the highest rate are judged too; the spread
    of the latency through ROS is from its median to its p95, those taken once have none.

    Raises:
        BenchmarkError: as `check_comparable`, or if no row is in both.
    """
    check_comparable(old, new.machine, new.input)
    by_ratio = old.reference is not None and old.reference == new.reference
    was = {(row.name, row.kind): row for row in old.contestants}
    pairs = [(was[row.name, row.kind], row) for row in new.contestants if (row.name, row.kind) in was]
    if not pairs:
        raise BenchmarkError(
            "the two benchmarks have no contestant in common; run them with the same bundle and backend"
        )
    changes = [change for before, after in pairs for change in _contestant_changes(before, after, by_ratio=by_ratio)]
    if old.ros is not None and new.ros is not None:
        changes += _ros_changes(old.ros, new.ros)
    return changes


def remarks(old: BenchmarkReport, new: BenchmarkReport) -> list[str]:
    """What else differs, one line each: rows and rates that only one of them has, versions, the machine's settings."""
    old_rows, new_rows = (_row_names(report) for report in (old, new))
    lines = [f"only in the earlier benchmark: {row}" for row in sorted(old_rows - new_rows)]
    lines += [f"only in this benchmark: {row}" for row in sorted(new_rows - old_rows)]
    facts = [
        *((name, old.versions.get(name), new.versions.get(name)) for name in sorted({**old.versions, **new.versions})),
        ("kernel", old.machine.kernel, new.machine.kernel),
        ("governor", old.machine.governor, new.machine.governor),
    ]
    lines += [f"{name} was {was or 'none'}, is {now or 'none'}" for name, was, now in facts if was != now]
    if old.machine.instruction_sets is None or new.machine.instruction_sets is None:
        lines.append(
            "the instruction sets of the earlier benchmark are not recorded: a CPU of the same name that hides AVX-512 "
            "and VNNI takes twice the time"
        )
    if old.machine.was_busy or new.machine.was_busy:
        lines.append(
            f"the machine was busy: load average {old.machine.load_average_before:.1f} before the earlier benchmark, "
            f"{new.machine.load_average_before:.1f} before this one; times of an idle machine say more"
        )
    return lines


def comparison_lines(changes: Sequence[Change]) -> Iterator[str]:
    """The changes as a table of text, regressions marked."""
    rows = [
        (change.row, change.figure, _valued(change.old, change.old_spread), _valued(change.new, change.new_spread))
        for change in changes
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for change, (row, figure, old, new) in zip(changes, rows, strict=True):
        share = "–" if change.share is None else f"{100 * change.share:+.1f} %"
        yield (
            f"{row:<{widths[0]}}  {figure:<{widths[1]}}  {old:>{widths[2]}} → {new:>{widths[3]}}  {change.unit:<3}"
            f"  {share:>9}{'  REGRESSION' if change.is_regression else ''}"
        )


def comparison_text(old: BenchmarkReport, new: BenchmarkReport) -> tuple[str, bool]:
    """Changes and remarks for the terminal, and whether there is a regression.

    Raises:
        BenchmarkError: as `compare`.
    """
    changes = compare(old, new)
    lines = [f"against the benchmark of {old.date}:", *comparison_lines(changes), *remarks(old, new)]
    return "\n".join(lines), any(change.is_regression for change in changes)


def _valued(value: float, spread: Spread | None) -> str:
    text = three_digits(value)
    return text if spread is None else f"{text} ({three_digits(spread[0])}…{three_digits(spread[1])})"


def _row_names(report: BenchmarkReport) -> set[str]:
    return {*map(_row_name, report.contestants), *(map(_rate_name, report.ros.runs) if report.ros else ())}


def _row_name(row: ContestantFigures) -> str:
    return f"{row.name} ({row.kind})"


def _rate_name(run: RateFigures) -> str:
    return f"ROS at {three_digits(run.rate_hz)} Hz"


def _contestant_changes(old: ContestantFigures, new: ContestantFigures, *, by_ratio: bool) -> Iterator[Change]:
    row = _row_name(new)
    yield Change(
        row,
        "latency p50",
        "ms",
        old.latency_ms.p50,
        new.latency_ms.p50,
        old_spread=old.round_p50_ms,
        new_spread=new.round_p50_ms,
        judged=not by_ratio,
    )
    if by_ratio and old.ratio is not None and new.ratio is not None:
        yield Change(
            row,
            "ratio to the reference",
            "×",
            old.ratio.median,
            new.ratio.median,
            old_spread=(old.ratio.low, old.ratio.high),
            new_spread=(new.ratio.low, new.ratio.high),
            judged=True,
        )
    yield Change(row, "latency p99", "ms", old.latency_ms.p99, new.latency_ms.p99)
    yield Change(row, "CPU per frame", "ms", 1000 * old.cpu_s_per_frame, 1000 * new.cpu_s_per_frame)
    yield Change(row, "peak memory", "MB", old.peak_memory_mb, new.peak_memory_mb, judged=True)
    yield Change(row, "load", "s", old.load_s, new.load_s)


def _ros_changes(old: RosFigures, new: RosFigures) -> Iterator[Change]:
    was = {run.rate_hz: run for run in old.runs}
    for run in new.runs:
        if run.rate_hz not in was:
            continue
        row, before = _rate_name(run), was[run.rate_hz]
        yield Change(
            row,
            "latency p50",
            "ms",
            before.latency_ms.p50,
            run.latency_ms.p50,
            old_spread=(before.latency_ms.p50, before.latency_ms.p95),
            new_spread=(run.latency_ms.p50, run.latency_ms.p95),
            judged=True,
        )
        yield Change(row, "overhead p50", "ms", before.overhead_ms.p50, run.overhead_ms.p50)
        yield Change(row, "dropped", "%", 100 * before.dropped_share, 100 * run.dropped_share)
    old_hz, new_hz = (0.0 if figures.highest is None else figures.highest.rate_hz for figures in (old, new))
    yield Change("ROS", "highest rate", "Hz", old_hz, new_hz, higher_is_better=True, judged=True)
    yield Change("ROS", "node's peak memory", "MB", old.node_peak_memory_mb, new.node_peak_memory_mb, judged=True)
    yield Change("ROS", "node's load", "s", old.node_load_s, new.node_load_s)
