"""A whole benchmark: the contestants' turns, the node's figures and the goals, put into one report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

import numpy as np

from darkseg_ros.benchmark.contestants import Contestant
from darkseg_ros.benchmark.figures import ContestantFigures, Goal, Int8Ceiling, RosFigures
from darkseg_ros.benchmark.interleaved import measure
from darkseg_ros.benchmark.machine import Machine, read_versions
from darkseg_ros.benchmark.report import SCHEMA_VERSION, BenchmarkReport, describe_frames
from darkseg_ros.benchmark.report_writer import write_report


def run_benchmark(
    contestants: Sequence[Contestant],
    frames: np.ndarray,
    *,
    machine: Machine,
    input_name: str,
    ros: Callable[[], RosFigures] | None,
    rounds: int,
    turn_s: float,
    reference: str | None,
    out: Path,
    progress: Callable[[str], None],
    goals: Callable[[tuple[ContestantFigures, ...], RosFigures | None], tuple[Goal, ...]] | None = None,
    int8_ceiling: Callable[[tuple[ContestantFigures, ...]], Int8Ceiling] | None = None,
) -> BenchmarkReport:
    """Measure the contestants and write the report.

    Args:
        contestants: as for `interleaved.measure`.
        frames: (N, H, W, 3) uint8 BGR camera frames.
        machine: as it was before any preparation, which would make it look busy.
        input_name: what the frames are, for people.
        ros: measures the node once the contestants are through, such as a partial of `ros_run.measure_ros`; None
            leaves it out.
        rounds: as for `interleaved.measure`.
        turn_s: as for `interleaved.measure`.
        reference: as for `interleaved.measure`.
        out: folder for report.json and report.html.
        progress: called with a line of text for each step.
        goals: given all figures, the goals with what was measured of each; None for a benchmark without goals.
        int8_ceiling: given the contestants' figures, the machine's; None leaves it out.

    Raises:
        BenchmarkError: naming the contestant that failed; and whatever `ros` raises.
        InputError: if the report cannot be written.
    """
    figures = measure(contestants, frames, rounds=rounds, turn_s=turn_s, reference=reference, progress=progress)
    ros_figures = None if ros is None else ros()
    report = BenchmarkReport(
        schema_version=SCHEMA_VERSION,
        date=datetime.now().astimezone().isoformat(timespec="seconds"),
        machine=machine,
        versions=read_versions(),
        input=describe_frames(frames, name=input_name),
        rounds=rounds,
        turn_s=turn_s,
        reference=reference,
        contestants=figures,
        ros=ros_figures,
        goals=() if goals is None else goals(figures, ros_figures),
        int8_ceiling=None if int8_ceiling is None else int8_ceiling(figures),
    )
    write_report(report, out)
    return report
