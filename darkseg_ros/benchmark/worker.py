"""The process of one contestant, started by `interleaved.measure` alone.

It is a fresh interpreter, not a fork and not multiprocessing's spawn, which imports the parent's main module again:
memory and load time would hold libraries that the contestant does not use.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from darkseg_ros.benchmark.energy import EnergyMeter, find_package_counters

if TYPE_CHECKING:
    from darkseg_ros.benchmark.contestants import Run

_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class FrameFile:
    """Camera frames in a file, from which a worker takes one at a time: all of them would count as its memory.

    Attributes:
        path: of the frames' bytes.
        shape: (N, H, W, 3), uint8.
    """

    path: Path
    shape: tuple[int, int, int, int]


@dataclass(frozen=True)
class TurnOrder:
    """What the parent sends: frames for at least that long, from that one on."""

    seconds: float
    first_frame: int


@dataclass(frozen=True)
class Opened:
    """Answer to the contestant."""

    description: str
    load_s: float


@dataclass(frozen=True)
class Turn:
    """Answer to a TurnOrder.

    Attributes:
        latencies_ms: of its frames.
        cpu_s: user and system time of the process, all threads, within their calls; added up.
        energy_j: of the machine's packages from the first to the end of the last; None where the platform does not
            tell.
        peak_memory_mb: VmHWM so far, 10⁶ bytes.
    """

    latencies_ms: tuple[float, ...]
    cpu_s: float
    energy_j: float | None
    peak_memory_mb: float


@dataclass(frozen=True)
class Failure:
    """Answer of a contestant that raised."""

    reason: str


class _FrameReader:
    def __init__(self, frames: FrameFile) -> None:
        self._count = frames.shape[0]
        self._bgr = np.empty(frames.shape[1:], np.uint8)
        self._file = frames.path.open("rb", buffering=0)

    def read(self, index: int) -> np.ndarray:
        """(H, W, 3); the same memory each time, as from a camera's driver."""
        self._file.seek(index % self._count * self._bgr.nbytes)
        if self._file.readinto(memoryview(self._bgr).cast("B")) != self._bgr.nbytes:
            raise EOFError(f"the file of frames ends before frame {index % self._count}")
        return self._bgr


def take_turn(run: Run, read: Callable[[int], np.ndarray], order: TurnOrder) -> Turn:
    """One frame to warm up, then frames until the time is over, one at least."""
    class_map = run.call(run.prepare(read(order.first_frame)))
    if class_map.ndim != 2 or class_map.dtype != np.uint8:
        raise ValueError(f"expected a class map, (H, W) uint8, got {class_map.dtype} {class_map.shape}")
    counters = find_package_counters()
    latencies_ms: list[float] = []
    cpu_s = 0.0
    energy = EnergyMeter(counters)
    started = time.perf_counter()
    while not latencies_ms or time.perf_counter() - started < order.seconds:
        frame = run.prepare(read(order.first_frame + 1 + len(latencies_ms)))
        cpu_called_s, called_s = time.process_time(), time.perf_counter()
        run.call(frame)
        latencies_ms.append((time.perf_counter() - called_s) * 1000)
        cpu_s += time.process_time() - cpu_called_s
    return Turn(
        latencies_ms=tuple(latencies_ms),
        cpu_s=cpu_s,
        energy_j=energy.joules(),
        peak_memory_mb=peak_memory_mb(),
    )


def peak_memory_mb() -> float:
    """This process' greatest resident set so far, 10⁶ bytes."""
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024 / 1e6


def main() -> None:
    """Serve a contestant; arguments: the connection's file descriptor, the parent's process id."""
    descriptor, parent = map(int, sys.argv[1:])
    # a parent that is killed cannot say good-bye; the kernel does it, also in the middle of a turn
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return
    connection = Connection(descriptor)
    try:
        _serve(connection)
    except (EOFError, BrokenPipeError):
        return
    except Exception as error:  # whatever a library raises is the contestant's failure, told in one line
        connection.send(Failure(f"{type(error).__name__}: {error}"))


def _serve(connection: Connection) -> None:
    frames: FrameFile = connection.recv()
    pickled = connection.recv_bytes()
    started = time.perf_counter()
    open_run: Callable[[], Run] = pickle.loads(pickled)  # imports the contestant's module, so its time counts
    run = open_run()
    connection.send(Opened(run.description, time.perf_counter() - started))
    reader = _FrameReader(frames)
    while True:
        order: TurnOrder = connection.recv()
        connection.send(take_turn(run, reader.read, order))
