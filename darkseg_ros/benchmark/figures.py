"""The figures of a benchmark, as its report holds them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

ContestantKind = Literal["engine", "segmenter", "ceiling"]
"""What is timed: the engine's call alone, all from the camera's frame to the class map, or arithmetic and no frame."""

KIND_TEXTS: dict[ContestantKind, str] = {
    "engine": "engine alone",
    "segmenter": "camera frame to class map",
    "ceiling": "arithmetic alone",
}
"""The same for a page."""


@dataclass(frozen=True)
class Percentiles:
    """Of a set of times, by linear interpolation between its members."""

    p50: float
    p95: float
    p99: float

    @classmethod
    def of(cls, values: Sequence[float] | np.ndarray) -> Percentiles:
        """Take them of at least one value; more make p95 and p99 mean something.

        Raises:
            ValueError: if there is none.
        """
        if len(values) == 0:
            raise ValueError("percentiles of no values; expected at least one")
        p50, p95, p99 = np.percentile(np.asarray(values, np.float64), (50, 95, 99)).tolist()
        return cls(p50, p95, p99)


@dataclass(frozen=True)
class Ratio:
    """A median latency over the reference's of the same round, so that a shared machine's moods cancel.

    Attributes:
        median: of the rounds; below 1 is faster than the reference.
        low: of the round in which it was least.
        high: of the round in which it was greatest.
    """

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{three_digits(self.median)} ({three_digits(self.low)}…{three_digits(self.high)})"


@dataclass(frozen=True)
class Int8Ceiling:
    """How near the shipped network comes to what the CPU's int8 arithmetic gives at most.

    Attributes:
        gop_per_s: of large convolutions that took turns with the contestants, 10⁹ multiplications and additions.
        network_gop: of the network's convolutions, for a frame.
        engine_ms: median latency of its engine.
    """

    gop_per_s: float
    network_gop: float
    engine_ms: float

    @property
    def share(self) -> float:
        """What the engine computes in a second over `gop_per_s`."""
        return self.network_gop / (self.engine_ms / 1000) / self.gop_per_s

    def __str__(self) -> str:
        return (
            f"int8 ceiling of this machine: {three_digits(self.gop_per_s)} GOP/s; the shipped network's "
            f"{three_digits(self.network_gop)} GOP in {three_digits(self.engine_ms)} ms are "
            f"{three_digits(100 * self.share)} % of it"
        )


@dataclass(frozen=True)
class ContestantFigures:
    """What one contestant did, all rounds together.

    Attributes:
        name: the contestant's.
        kind: what was timed.
        description: library, precision, threads.
        frames: how many were timed.
        latency_ms: of those frames.
        round_p50_ms: the median latency of the round in which it was least, and of that in which it was greatest.
        jitter_ms: standard deviation of the latency.
        fps: 1000 / p50.
        cpu_s_per_frame: user and system time of the process with all its threads, within the calls that are timed.
        peak_memory_mb: the process' greatest resident set (VmHWM), 10⁶ bytes; with Python, NumPy and OpenCV.
        load_s: from the import of the library to the first call that can be made.
        ratio: to the reference; None where the benchmark has none.
        energy_j_per_frame: of the processor's packages during its turns, with all else that ran then; None where the
            platform does not tell.
    """

    name: str
    kind: ContestantKind
    description: str
    frames: int
    latency_ms: Percentiles
    round_p50_ms: tuple[float, float]
    jitter_ms: float
    fps: float
    cpu_s_per_frame: float
    peak_memory_mb: float
    load_s: float
    ratio: Ratio | None
    energy_j_per_frame: float | None


@dataclass(frozen=True)
class RateFigures:
    """One run through ROS at one rate.

    Attributes:
        rate_hz: asked for.
        reached_hz: at which the frames were published; below the one asked for where the publisher could not keep up.
        sent: frames published.
        answered: class maps received.
        dropped_share: 1 − answered / sent, 0…1.
        latency_ms: from publishing a frame to receiving its class map.
        engine_ms_p50: median of what the node tells of the engine's call, once a second.
        overhead_ms: latency less that median; what the engine's time varies by is left in its p95 and p99.
        jitter_ms: standard deviation of the latency.
        node_cpu_s_per_frame: user and system time of the node's process, for each class map.
        clients_cpu_s_per_frame: the same of the two processes that publish the frames and receive the class maps.
    """

    rate_hz: float
    reached_hz: float
    sent: int
    answered: int
    dropped_share: float
    latency_ms: Percentiles
    engine_ms_p50: float
    overhead_ms: Percentiles
    jitter_ms: float
    node_cpu_s_per_frame: float
    clients_cpu_s_per_frame: float

    @property
    def kept_up(self) -> bool:
        """Whether the publisher reached the rate, within 1 %."""
        return self.reached_hz >= 0.99 * self.rate_hz

    @property
    def rate_text(self) -> str:
        """The rate for a table; both where the publisher could not keep up."""
        wanted = f"{self.rate_hz:.4g} Hz"
        return wanted if self.kept_up else f"{wanted} (reached {self.reached_hz:.3g})"


@dataclass(frozen=True)
class RosFigures:
    """What the segmentation node did, with a publisher in another process.

    Attributes:
        runs: at the fixed rates.
        highest: at the highest rate found with less than 1 % of the frames dropped; None where no rate was that low.
        node_peak_memory_mb: VmHWM of the node's process, 10⁶ bytes; with the shared memory that it has touched.
        node_shared_memory_mb: how much of it is the middleware's shared memory, mostly the camera's (RssShmem at the
            end).
        node_load_s: from the start of the process to the active state.
        engine_load_s: the part of it that the node logs for its engine; None where it logs none.
        relay_latency_ms: from publishing a frame, at 30 Hz, to receiving the empty class map of a node that computes
            nothing; None in reports from before 2026-11-26.
        relay_cpu_s_per_frame: user and system time of that node's process for each; None in reports from before
            2026-11-28.
        ordinary_clients_latency_ms: `relay_latency_ms` with a camera and a recorder as most nodes have them, in the
            place of lean ones; None in reports from before 2026-11-28, whose figures are all with such.
    """

    runs: tuple[RateFigures, ...]
    highest: RateFigures | None
    node_peak_memory_mb: float
    node_shared_memory_mb: float
    node_load_s: float
    engine_load_s: float | None
    relay_latency_ms: Percentiles | None = None
    relay_cpu_s_per_frame: float | None = None
    ordinary_clients_latency_ms: Percentiles | None = None


@dataclass(frozen=True)
class Goal:
    """A figure to reach.

    Attributes:
        text: what is measured.
        target: the bound.
        measured: None where it was not.
        unit: of both, such as "ms" or "×".
        higher_is_better: whether the bound is a least value.
        note: how it was measured, or why it was missed.
    """

    text: str
    target: float
    measured: float | None
    unit: str
    higher_is_better: bool
    note: str

    @property
    def reached(self) -> bool:
        """Whether it was measured and keeps the bound."""
        if self.measured is None:
            return False
        return self.measured >= self.target if self.higher_is_better else self.measured <= self.target


def three_digits(value: float) -> str:
    """A figure as text, with as many digits as it is worth.

    >>> [three_digits(value) for value in (0.0123, 3.456, 27.08, 1127.4)]
    ['0.012', '3.46', '27.1', '1127']
    """
    decimals = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:.{decimals}f}"
