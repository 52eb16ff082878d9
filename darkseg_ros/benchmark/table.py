"""A benchmark as lines of text, for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from darkseg_ros.benchmark.figures import ContestantFigures, Goal, RateFigures, three_digits
from darkseg_ros.benchmark.report import BenchmarkReport

_CONTESTANT_HEAD = ("contestant", "kind", "p50 ms", "p95", "p99", "jitter", "fps", "CPU ms", "MB", "load s")
_ROS_HEAD = ("ROS at", "sent", "drops %", "p50 ms", "p95", "p99", "jitter", "adds p50", "adds p99", "CPU ms")


def table_of(report: BenchmarkReport) -> Iterator[str]:
    """Contestants, the node through ROS, and the goals."""
    head: tuple[str, ...] = _CONTESTANT_HEAD
    if report.reference is not None:
        head += (f"× {report.reference}",)
    rows = [_contestant_cells(figures) for figures in report.contestants]
    yield from _aligned([head, *rows], text_columns=2)
    if report.int8_ceiling is not None:
        yield str(report.int8_ceiling)
    if report.ros is not None:
        yield ""
        yield from _aligned([_ROS_HEAD, *(_rate_cells(run) for run in report.ros.runs)], text_columns=0)
        highest = report.ros.highest
        found = "none" if highest is None else f"{three_digits(highest.rate_hz)} Hz"
        yield (
            f"highest rate with < 1 % drops: {found}; node: {three_digits(report.ros.node_peak_memory_mb)} MB, "
            f"{three_digits(report.ros.node_shared_memory_mb)} of it shared; active after "
            f"{three_digits(report.ros.node_load_s)} s"
        )
        if report.ros.relay_latency_ms is not None:
            yield f"a node that computes nothing answers after {three_digits(report.ros.relay_latency_ms.p50)} ms"
        if report.ros.ordinary_clients_latency_ms is not None:
            ordinary = three_digits(report.ros.ordinary_clients_latency_ms.p50)
            yield f"the same with a camera and a recorder as most nodes have them: after {ordinary} ms"
        if report.ros.relay_cpu_s_per_frame is not None:
            yield f"its CPU time for a frame: {three_digits(1000 * report.ros.relay_cpu_s_per_frame)} ms"
    if report.goals:
        yield ""
        yield from map(_goal_line, report.goals)
    if report.machine.was_busy:
        yield (
            f"the machine was busy (load average {report.machine.load_average_before:.1f} before, "
            f"{report.machine.cores} cores): times of an idle machine say more"
        )


def _contestant_cells(figures: ContestantFigures) -> tuple[str, ...]:
    values = (
        figures.latency_ms.p50,
        figures.latency_ms.p95,
        figures.latency_ms.p99,
        figures.jitter_ms,
        figures.fps,
        1000 * figures.cpu_s_per_frame,
        figures.peak_memory_mb,
        figures.load_s,
    )
    cells = (figures.name, figures.kind, *map(three_digits, values))
    if figures.ratio is None:
        return cells
    return (*cells, str(figures.ratio))


def _rate_cells(run: RateFigures) -> tuple[str, ...]:
    values = (
        100 * run.dropped_share,
        run.latency_ms.p50,
        run.latency_ms.p95,
        run.latency_ms.p99,
        run.jitter_ms,
        run.overhead_ms.p50,
        run.overhead_ms.p99,
        1000 * run.node_cpu_s_per_frame,
    )
    return (run.rate_text, str(run.sent), *map(three_digits, values))


def _goal_line(goal: Goal) -> str:
    measured = "not measured" if goal.measured is None else f"{three_digits(goal.measured)} {goal.unit}"
    verdict = "reached" if goal.reached else "MISSED " if goal.measured is not None else "open   "
    bound = "at least" if goal.higher_is_better else "at most"
    return f"{verdict}  {goal.text}: {measured}, {bound} {goal.target:g} {goal.unit}"


def _aligned(rows: Sequence[Sequence[str]], *, text_columns: int) -> Iterator[str]:
    """Columns of one width, the first of text on the left, the others on the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(
            cell.ljust(width) if index < text_columns else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
