"""Contestants that take turns on one machine, each in a process of its own, so that its moods touch all alike."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from socket import socketpair
from typing import Any

import numpy as np

from darkseg_ros.benchmark.contestants import Contestant
from darkseg_ros.benchmark.figures import ContestantFigures, Percentiles, Ratio
from darkseg_ros.benchmark.worker import Failure, FrameFile, Opened, Turn, TurnOrder
from darkseg_ros.child_processes import start_python
from darkseg_ros.errors import BenchmarkError
from darkseg_ros.frames.bgr_check import check_bgr_batch

_PROGRAM = "from darkseg_ros.benchmark.worker import main; main()"
_OPENING_TIMEOUT_S = 900.0  # a TensorRT plan may have to be built first
_TURN_TIMEOUT_S = 120.0  # beyond the turn's own time: one frame of the slowest network on a busy machine
# torch heeds these, OpenVINO and ONNX Runtime do not: a limit for all is `taskset`
_LIMITS_FOR_SOME = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def measure(
    contestants: Sequence[Contestant],
    frames: np.ndarray,
    *,
    rounds: int,
    turn_s: float,
    reference: str | None,
    progress: Callable[[str], None],
) -> tuple[ContestantFigures, ...]:
    """Open all contestants, then let each take a turn in every round, in another order each round.

    A turn is one frame that does not count, then frames until its time is over. All contestants of a round start at
    the same frame. Each library chooses its own number of threads, within the CPUs that this process may use; limits
    in the environment that only some of them heed are taken away.

    A contestant that fails ends the benchmark: a table that lacks a row, or a ratio that lacks its reference, would be
    held against whole ones later. As all are opened first, what is not installed shows within seconds.

    Args:
        contestants: no two of one name and kind.
        frames: (N, H, W, 3) uint8 BGR camera frames.
        rounds: 1 or more; the spread is that of the rounds.
        turn_s: seconds of a turn.
        reference: name of the contestant to whom the others' ratios are; it must be the only one of that name.
        progress: called with a line of text for each step.

    Returns:
        The figures, in the contestants' order.

    Raises:
        BenchmarkError: naming the contestant that raised, died or hung.
        ValueError: if an argument is none of these.
    """
    _check_arguments(contestants, frames, rounds=rounds, turn_s=turn_s, reference=reference)
    with ExitStack() as stack:
        frame_file = stack.enter_context(_frame_file(frames))
        workers = []
        for contestant in contestants:
            progress(f"opening {contestant}")
            workers.append(stack.enter_context(_started(contestant, frame_file)))
        for round_ in range(rounds):
            progress(f"round {round_ + 1} of {rounds}")
            first_frame = round_ * len(frames) // rounds
            for turn in range(len(workers)):
                workers[(round_ + turn) % len(workers)].take_turn(TurnOrder(turn_s, first_frame))
    referred = next((worker for worker in workers if worker.contestant.name == reference), None)
    return tuple(_figures(worker, referred) for worker in workers)


def _check_arguments(
    contestants: Sequence[Contestant], frames: np.ndarray, *, rounds: int, turn_s: float, reference: str | None
) -> None:
    keys = [str(contestant) for contestant in contestants]
    if not keys or len(set(keys)) < len(keys):
        raise ValueError(f"expected contestants of different names or kinds, got {', '.join(keys) or 'none'}")
    if reference is not None and [contestant.name for contestant in contestants].count(reference) != 1:
        raise ValueError(f"expected one contestant named {reference!r} as reference, got {', '.join(keys)}")
    check_bgr_batch(frames)
    if rounds < 1 or not turn_s > 0:
        raise ValueError(f"expected one round or more of more than 0 s, got {rounds} of {turn_s} s")


@contextmanager
def _frame_file(frames: np.ndarray) -> Iterator[FrameFile]:
    with tempfile.NamedTemporaryFile(prefix="darkseg_benchmark_", suffix=".bgr") as file:
        file.write(memoryview(np.ascontiguousarray(frames)).cast("B"))
        file.flush()
        count, height, width, channels = frames.shape
        yield FrameFile(Path(file.name), (count, height, width, channels))


@dataclass
class _Worker:
    """A contestant's process, seen from here."""

    contestant: Contestant
    process: subprocess.Popen[bytes]
    connection: Connection
    opened: Opened = field(init=False)
    turns: list[Turn] = field(default_factory=list)

    def open(self, frames: FrameFile) -> None:
        self._send(lambda: self.connection.send(frames))
        self._send(lambda: self.connection.send_bytes(pickle.dumps(self.contestant.open)))
        self.opened = self._receive(Opened, "opening", timeout_s=_OPENING_TIMEOUT_S)

    def take_turn(self, order: TurnOrder) -> None:
        self._send(lambda: self.connection.send(order))
        self.turns.append(self._receive(Turn, "its turn", timeout_s=order.seconds + _TURN_TIMEOUT_S))

    def _send(self, send: Callable[[], None]) -> None:
        try:
            send()
        except OSError as error:
            raise self._death("before its turn") from error

    def _receive(self, expected: type[Any], step: str, *, timeout_s: float) -> Any:
        try:
            if not self.connection.poll(timeout_s):
                raise BenchmarkError(
                    f"{self.contestant} did not end {step} within {timeout_s:g} s; see whether it hangs, or leave it "
                    "out"
                )
            answer = self.connection.recv()
        except (EOFError, OSError) as error:
            raise self._death(f"during {step}") from error
        if isinstance(answer, Failure):
            raise BenchmarkError(f"{self.contestant} failed during {step}: {answer.reason}")
        assert isinstance(answer, expected)
        return answer

    def _death(self, when: str) -> BenchmarkError:
        status = self.process.wait()
        cause = f"exit status {status}" if status >= 0 else f"{signal.Signals(-status).name}"
        hint = "; the kernel does that when memory runs out" if status == -signal.SIGKILL else ""
        return BenchmarkError(f"the process of {self.contestant} died {when} by {cause}{hint}")


@contextmanager
def _started(contestant: Contestant, frames: FrameFile) -> Iterator[_Worker]:
    environment = {name: value for name, value in os.environ.items() if name not in _LIMITS_FOR_SOME}
    ours, theirs = socketpair()
    with theirs:
        process = start_python(
            ["-c", _PROGRAM, str(theirs.fileno()), str(os.getpid())],
            environment={**environment, "PYTHONPATH": os.pathsep.join(sys.path)},
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=2,  # stderr: what a library prints must not mix with the benchmark's own table
            start_new_session=True,  # Ctrl-C is for this process, which then ends all others
        )
    connection = Connection(ours.detach())
    try:
        worker = _Worker(contestant, process, connection)
        worker.open(frames)
        yield worker
    finally:
        connection.close()
        process.kill()  # it holds nothing that is worth a good-bye
        process.wait()


def _figures(worker: _Worker, reference: _Worker | None) -> ContestantFigures:
    turns = worker.turns
    latencies_ms = [latency_ms for turn in turns for latency_ms in turn.latencies_ms]
    energies_j = [turn.energy_j for turn in turns if turn.energy_j is not None]
    percentiles = Percentiles.of(latencies_ms)
    medians_ms = _medians_ms(worker)
    return ContestantFigures(
        name=worker.contestant.name,
        kind=worker.contestant.kind,
        description=worker.opened.description,
        frames=len(latencies_ms),
        latency_ms=percentiles,
        round_p50_ms=(float(medians_ms.min()), float(medians_ms.max())),
        jitter_ms=float(np.std(latencies_ms)),
        fps=1000 / percentiles.p50,
        cpu_s_per_frame=sum(turn.cpu_s for turn in turns) / len(latencies_ms),
        peak_memory_mb=turns[-1].peak_memory_mb,
        load_s=worker.opened.load_s,
        ratio=None if reference is None else _ratio(medians_ms / _medians_ms(reference)),
        energy_j_per_frame=sum(energies_j) / len(latencies_ms) if energies_j else None,
    )


def _medians_ms(worker: _Worker) -> np.ndarray:
    return np.array([np.median(turn.latencies_ms) for turn in worker.turns])


def _ratio(of_rounds: np.ndarray) -> Ratio:
    return Ratio(float(np.median(of_rounds)), float(of_rounds.min()), float(of_rounds.max()))
