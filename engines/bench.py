"""The whole benchmark: the shipped model beside named peers, through ROS, its finish and its plan.

    python -m engines.bench --out out/benchmark [--only NAME …] [--quick] [--compare OLD.json] [--docs docs/benchmarks]

Progress goes to stderr, the table to stdout. Graphs are prepared on the first run and kept in OUT/graphs; what the
libraries print meanwhile goes to OUT/preparation.log. This process itself stays free of torch: its children's figures
would suffer.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import numpy as np

from darkseg_ros.benchmark.benchmark_run import run_benchmark
from darkseg_ros.benchmark.camera_frames import GENERATED_NAME, generated_frames
from darkseg_ros.benchmark.comparison import check_comparable, comparison_text
from darkseg_ros.benchmark.contestants import own_segmenter
from darkseg_ros.benchmark.figures import ContestantFigures, Goal, RosFigures
from darkseg_ros.benchmark.machine import read_machine
from darkseg_ros.benchmark.report import REPORT_PAGE, BenchmarkReport, describe_frames, read_report
from darkseg_ros.benchmark.table import table_of
from darkseg_ros.errors import BenchmarkError, DarksegError, InputError, one_line
from darkseg_ros.evaluation.report import check_output
from darkseg_ros.installed_files import default_bundle
from darkseg_ros.model.bundle import load_bundle
from engines.bench_goals import GOALS_HW, FinishCost, goals_of
from engines.bench_page import write_docs
from engines.int8_ceiling import CEILING, ceiling_of
from engines.peer_graphs import prepare
from engines.peers import SLIM_TORCH, Peer, peers_for
from engines.plan_cost import PlanCost, measure_plan_build

ROS, FINISH, PLAN = "ros", "finish", "plan"
REGRESSED = 3
"""Exit status of a comparison that found a regression."""

_FINISH_SHAPE = (19, 128, 256)
_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class Effort:
    """How long things are measured.

    Attributes:
        rounds: turns of each contestant.
        turn_s: seconds of a turn; slow networks take one frame at least.
        ros_s: seconds at each rate.
        search_s: seconds for the search of the highest rate.
        finish_rounds: of the finish.
    """

    rounds: int
    turn_s: float
    ros_s: float
    search_s: float
    finish_rounds: int


FULL = Effort(rounds=5, turn_s=2.0, ros_s=10.0, search_s=45.0, finish_rounds=30)
"""Some 7.5 minutes on two quiet cores, below 10 on busy ones, by the times of its parts (2026-11-22).

3 minutes of turns (16 contestants × 5 rounds × 2 s and a slow frame before and after), 1 to 2 to open the contestants,
1.5 through ROS (30 s at fixed rates, the search, waits), 0.5 for finish and plan, and in the first run 1 to 2 for the
graphs. The whole took 7 min 42 s on a slow day (2026-11-26, 15 contestants).
"""

QUICK = Effort(rounds=2, turn_s=0.3, ros_s=2.0, search_s=6.0, finish_rounds=5)
"""To see that everything runs; the figures are coarse."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; the status is 0, 1 after an error, 2 for a bad command line, 3 for a regression, 130."""
    parser = ArgumentParser(prog="python -m engines.bench", description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("out/benchmark"), help="folder for report and graphs")
    parser.add_argument(
        "--only",
        nargs="+",
        action="extend",
        metavar="NAME",
        default=[],
        help=f"contestants whose name contains one of these, and of {ROS}, {FINISH}, {PLAN} those named",
    )
    parser.add_argument("--quick", action="store_true", help="short turns, to see that everything runs")
    parser.add_argument("--compare", type=Path, metavar="OLD.json", help="an earlier report.json to compare with")
    parser.add_argument("--docs", type=Path, metavar="FOLDER", help="write README.md and <date>.json there too")
    arguments = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the node ends with this process
    started_s = time.monotonic()

    def progress(line: str) -> None:
        print(f"[{time.monotonic() - started_s:5.0f} s] {line}", file=sys.stderr, flush=True)

    try:
        for folder in filter(None, (arguments.out, arguments.docs)):
            check_output(folder)
        old = read_report(arguments.compare) if arguments.compare else None
        report = bench(
            generated_frames(),
            out=arguments.out,
            only=arguments.only,
            effort=QUICK if arguments.quick else FULL,
            old=old,
            progress=progress,
        )
        print("\n".join(table_of(report)))
        if arguments.docs:
            write_docs(report, arguments.docs)
        minutes, seconds = divmod(round(time.monotonic() - started_s), 60)
        print(f"\n{arguments.out / REPORT_PAGE}, after {minutes} min {seconds} s")
        if old is None:
            return 0
        text, has_regression = comparison_text(old, report)
        print(f"\n{text}")
        return REGRESSED if has_regression else 0
    except (DarksegError, OSError) as error:
        print(f"bench: {one_line(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def bench(
    frames: np.ndarray,
    *,
    out: Path,
    only: Sequence[str],
    effort: Effort,
    old: BenchmarkReport | None,
    progress: Callable[[str], None],
) -> BenchmarkReport:
    """Prepare, measure, and write report.json and report.html.

    Args:
        frames: (N, H, W, 3) uint8 BGR camera frames, H and W multiples of 32.
        out: folder for the report and the graphs.
        only: as for the command line; empty for all.
        effort: how long.
        old: an earlier report that must be comparable; checked before anything is measured.
        progress: called with a line of text for each step.

    Raises:
        InputError: if `only` names nothing there is.
        BenchmarkError: naming the part that failed.
    """
    machine = read_machine()
    if old is not None:
        check_comparable(old, machine, describe_frames(frames, name=GENERATED_NAME))
    bundle = default_bundle()
    height, width = frames.shape[1:3]
    peers = peers_for((height, width), bundle=bundle, cache=out / "graphs")
    parts = _parts(peers, only)
    chosen = [peer for peer in peers if peer.contestant.name in parts]
    ros = _ros_benchmark(bundle, frames, effort, progress=progress) if ROS in parts else None
    # before anything else, while this process is small
    plan = _plan_cost(bundle, progress=progress) if PLAN in parts else None
    with _OtherProcess(out / "preparation.log") as other_process:
        for graphs in dict.fromkeys(peer.graphs for peer in chosen if peer.graphs is not None):
            if not graphs.folder(out / "graphs").is_dir():
                progress(f"preparing {graphs}")
                other_process.run(partial(prepare, graphs, out / "graphs"))
        finish = None
        if FINISH in parts:
            progress("timing the finish")
            finish = other_process.run(partial(_finish_cost, effort.finish_rounds))

    def goals(figures: tuple[ContestantFigures, ...], ros_figures: RosFigures | None) -> tuple[Goal, ...]:
        if (height, width) != GOALS_HW:
            return ()
        name, network_hw = own_segmenter(bundle, "openvino").name, load_bundle(bundle).network_hw
        return goals_of(
            figures,
            ros_figures,
            shipped=name,
            shipped_hw=network_hw,
            finish=finish,
            plan=plan,
            cores=machine.cores,
        )

    names = [peer.contestant.name for peer in chosen]
    return run_benchmark(
        [peer.contestant for peer in chosen],
        frames,
        machine=machine,
        input_name=GENERATED_NAME,
        ros=ros,
        goals=goals,
        rounds=effort.rounds,
        turn_s=effort.turn_s,
        # a peer: by ratios to a contestant of our own, the others would get worse whenever that gets better
        reference=SLIM_TORCH if SLIM_TORCH in names else None,
        out=out,
        progress=progress,
        int8_ceiling=partial(ceiling_of, graph=load_bundle(bundle).cpu_graph.path),
    )


def _parts(peers: Sequence[Peer], only: Sequence[str]) -> set[str]:
    """Names of contestants, and of ROS, FINISH, PLAN those that are to run.

    The shipped model and the int8 ceiling always take part.
    """
    names = [peer.contestant.name for peer in peers]
    everything = {*names, ROS, FINISH, PLAN}
    if not only:
        return everything
    wanted = {names[0], CEILING}
    for word in only:
        found = {word} & {ROS, FINISH, PLAN} or {name for name in names if word.lower() in name.lower()}
        if not found:
            raise InputError(
                f"--only {word} names nothing; expected part of a name of: {', '.join(sorted(everything))}"
            )
        wanted |= found
    return wanted


class _OtherProcess:
    """Runs calls in one process beside this one, its output in a file: exporters are talkative, and torch is heavy."""

    def __init__(self, log: Path) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.unlink(missing_ok=True)
        self._log = log
        self._pool = ProcessPoolExecutor(1, get_context("spawn"), initializer=_write_output_to, initargs=(log,))

    def __enter__(self) -> _OtherProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def run(self, call: Callable[[], _Answer]) -> _Answer:
        try:
            return self._pool.submit(call).result()
        except BrokenProcessPool as error:
            raise BenchmarkError(f"the process that prepares the benchmark died; see {self._log}") from error
        except DarksegError:
            raise
        except Exception as error:  # whatever a library raises is told in one line, with where to look further
            raise BenchmarkError(
                f"the preparation failed with {type(error).__name__}: {error}; see {self._log}"
            ) from error


def _write_output_to(log: Path) -> None:
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)


def _finish_cost(rounds: int) -> FinishCost:
    from engines.bench_finish import DEFINITION, KERNEL, ONNX_RUNTIME, TORCH, compare_finishes

    times = compare_finishes(_FINISH_SHAPE, rounds=rounds)
    return FinishCost(
        kernel_ms=times[KERNEL].wall_ms,
        numpy_ratio=times[DEFINITION].ratio,
        torch_ratio=times[TORCH].ratio,
        onnxruntime_ratio=times[ONNX_RUNTIME].ratio,
    )


def _plan_cost(bundle: Path, *, progress: Callable[[str], None]) -> PlanCost | None:
    if find_spec("tensorrt_rtx") is None:
        progress("no plan is built: TensorRT for RTX is not installed")
        return None
    progress("building a TensorRT plan")
    return measure_plan_build(bundle)


def _ros_benchmark(
    bundle: Path, frames: np.ndarray, effort: Effort, *, progress: Callable[[str], None]
) -> Callable[[], RosFigures] | None:
    if find_spec("rclpy") is None:
        progress("without ROS: rclpy is not installed; source a ROS 2 installation")
        return None
    from darkseg_ros.benchmark.ros_run import measure_ros

    return partial(
        measure_ros, bundle, "openvino", frames, seconds=effort.ros_s, search_seconds=effort.search_s, progress=progress
    )


if __name__ == "__main__":
    sys.exit(main())
