"""How many threads OpenVINO runs a graph with on this CPU: measured at the first start, kept for the next ones.

The library's own choice is one thread per physical core (per performance core where a CPU has two kinds). It is wrong
where the second hardware thread of a core helps, and where a small graph loses more by sharing its work than it gains.
Its performance hint is no second thing to measure: LATENCY and THROUGHPUT differ in the numbers of threads and streams
only, and one frame runs on one stream. On two cores, at 384×384, THROUGHPUT's two streams took 14 ms where LATENCY took
8 (2026-11-22). A choice made while others kept the CPU busy stays until its folder, `SettingsKey.path`'s, is deleted.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from darkseg_ros.cache_folder import cache_folder, read_private, write_private
from darkseg_ros.errors import EngineError

LIBRARYS_CHOICE = 0
"""As a number of threads: whatever the library takes by itself."""

FASTER = 0.95
"""A number of threads replaces the library's where it needs at most this share of its time."""

_MEASURE_S = 0.25
_ROUNDS_MIN, _ROUNDS_MAX = 3, 15
_SYSTEM = Path("/sys/devices/system/cpu")

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class SettingsKey:
    """All that the fastest number of threads depends on.

    Attributes:
        graph_sha256: of the graph's file.
        library_version: of OpenVINO.
        cpu: the CPU's model name.
        cpus: indices of the logical CPUs that this process may run on, sorted.
    """

    graph_sha256: str
    library_version: str
    cpu: str
    cpus: tuple[int, ...]

    @property
    def path(self) -> Path:
        """The file of this key, in ``cpu_settings`` of the user's `cache_folder`, which raises where there is none."""
        digest = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:32]
        return cache_folder("cpu_settings") / f"{digest}.json"


def usable_cpus() -> tuple[int, ...]:
    """Indices of the logical CPUs that this process may run on, sorted."""
    return tuple(sorted(os.sched_getaffinity(0)))


def physical_cores(cpus: Collection[int]) -> int:
    """Number of physical cores that logical CPUs belong to; each counts as one where the system does not tell."""
    return len({_siblings(cpu) for cpu in cpus})


def _siblings(cpu: int) -> str:
    try:
        return (_SYSTEM / f"cpu{cpu}" / "topology" / "thread_siblings_list").read_text(encoding="ascii")
    except OSError:
        return str(cpu)


def rival_threads(librarys: int, *, cpus: int, cores: int) -> tuple[int, ...]:
    """Numbers of threads that may beat the library's.

    Args:
        librarys: what the library took by itself.
        cpus: logical CPUs.
        cores: physical cores among them.

    Returns:
        All logical CPUs, all physical cores, and half of the cores where there are four or more; but for `librarys`,
        the most first.
    """
    worth_trying = {cpus, cores, cores // 2 if cores >= 4 else cores}
    return tuple(sorted(worth_trying - {librarys}, reverse=True))


def time_ratio(rival: Callable[[], object], reference: Callable[[], object]) -> float:
    """Median time of one function over another's, called in turns for about a quarter of a second."""
    rival(), reference()  # the first call allocates
    rival_s: list[float] = []
    reference_s: list[float] = []
    end_s = time.perf_counter() + _MEASURE_S
    while len(rival_s) < _ROUNDS_MIN or (len(rival_s) < _ROUNDS_MAX and time.perf_counter() < end_s):
        for run, times_s in ((rival, rival_s), (reference, reference_s)):
            start_s = time.perf_counter()
            run()
            times_s.append(time.perf_counter() - start_s)
    return median(rival_s) / median(reference_s)


def kept_threads(key: SettingsKey) -> int | None:
    """The choice of an earlier start; None where there is none, or its file is not what `keep_threads` writes."""
    try:
        values = json.loads(read_private(key.path))
        threads = values["threads"]
        of_this_key = values["key"] == {**asdict(key), "cpus": list(key.cpus)}
    except (EngineError, OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    in_range = type(threads) is int and LIBRARYS_CHOICE <= threads <= len(key.cpus)
    return threads if of_this_key and in_range else None


def keep_threads(key: SettingsKey, threads: int) -> None:
    """Write a choice for the next start. Where that fails, a log line says so: each start then measures."""
    content = json.dumps({"key": asdict(key), "threads": threads}, indent=2).encode()
    try:
        write_private(key.path, content)
    except EngineError as error:
        _LOG.warning("the number of CPU threads is measured again at each start: %s", error)
    except OSError as error:
        _LOG.warning(
            "the number of CPU threads is measured again at each start: %s cannot be written (%s); make it writable, "
            "or set XDG_CACHE_HOME to a folder that is and has room",
            key.path.parent,
            error.strerror,
        )
