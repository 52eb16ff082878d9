"""What became of the frames of a stream, and whether that is healthy."""

from __future__ import annotations

import enum
import math
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from darkseg_ros.stream.frame_gate import DropReason

RATE_WINDOW_S = 5.0
"""Rates and warnings look back this far."""

_RATE_SAMPLES = 1024  # 200 Hz fill the window; a faster stream gets a shorter one, not more memory
_LATENCY_SAMPLES = 300
_OVERLOAD_FRAMES = 10  # of fewer, a few frames on their way would look like overload
_FAULTS = frozenset(DropReason) - {DropReason.REPLACED, DropReason.DEACTIVATED}


class HealthLevel(enum.IntEnum):
    """Levels of diagnostic_msgs/DiagnosticStatus."""

    OK = 0
    WARN = 1
    ERROR = 2
    STALE = 3


@dataclass(frozen=True)
class Health:
    """A verdict. The summary holds no figures, so that it changes only when the situation does."""

    level: HealthLevel
    summary: str


@dataclass(frozen=True)
class StreamFigures:
    """Counters since the start and figures over the last seconds; None where nothing was measured.

    Attributes:
        frames_in: frames that arrived; = frames_published + all of frames_dropped + frames_in_progress.
        frames_published: frames answered with a class map.
        frames_in_progress: frames waiting or in the engine.
        frames_dropped: count of each reason.
        stamp_rebases: jumps of the stamps back by more than REBASE_AFTER_NS.
        video_packets_lost: packets of a video stream that never came; no frames_in.
        rate_in_hz: arrivals per second over RATE_WINDOW_S.
        rate_out_hz: class maps per second over RATE_WINDOW_S.
        inference_ms: time in the engine of the last frame.
        latency_p50_ms: median time from arrival to publication.
        latency_p99_ms: 99th percentile of that.
        stamp_age_p50_ms: median time from the frame's stamp to publication, frames of unknown age left out.
        stamp_age_p99_ms: 99th percentile of that.
        last_error: the latest fault's text, empty without one.
    """

    frames_in: int
    frames_published: int
    frames_in_progress: int
    frames_dropped: dict[DropReason, int]
    stamp_rebases: int
    video_packets_lost: int
    rate_in_hz: float
    rate_out_hz: float
    inference_ms: float | None
    latency_p50_ms: float | None
    latency_p99_ms: float | None
    stamp_age_p50_ms: float | None
    stamp_age_p99_ms: float | None
    last_error: str

    def values(self) -> dict[str, str]:
        """Key and value of each, as /diagnostics shows them."""
        measured = {
            "inference_ms": self.inference_ms,
            "latency_p50_ms": self.latency_p50_ms,
            "latency_p99_ms": self.latency_p99_ms,
            "stamp_age_p50_ms": self.stamp_age_p50_ms,
            "stamp_age_p99_ms": self.stamp_age_p99_ms,
        }
        return {
            "frames_in": str(self.frames_in),
            "frames_published": str(self.frames_published),
            "frames_in_progress": str(self.frames_in_progress),
            **{f"dropped_{reason.value}": str(count) for reason, count in self.frames_dropped.items()},
            "stamp_rebases": str(self.stamp_rebases),
            "video_packets_lost": str(self.video_packets_lost),
            "rate_in_hz": f"{self.rate_in_hz:.1f}",
            "rate_out_hz": f"{self.rate_out_hz:.1f}",
            **{name: "" if value is None else f"{value:.1f}" for name, value in measured.items()},
            "last_error": self.last_error,
        }


class StreamMonitor:
    """Keeps the books of one stream in fixed memory. Thread-safe. Times are a steady clock's, in seconds.

    Args:
        now_s: steady clock.
        answer: what the node makes of a frame, for verdicts.
    """

    def __init__(self, *, now_s: float, answer: str = "class map") -> None:
        self._answer = answer
        self._lock = threading.Lock()
        self._frames_in = 0
        self._frames_published = 0
        self._frames_dropped = dict.fromkeys(DropReason, 0)
        self._stamp_rebases = 0
        self._video_packets_lost = 0
        self._latencies_ms: deque[float] = deque(maxlen=_LATENCY_SAMPLES)
        self._stamp_ages_ms: deque[float] = deque(maxlen=_LATENCY_SAMPLES)
        self._inference_ms: float | None = None
        self._last_error = ""
        self._restart(now_s)

    def _restart(self, now_s: float) -> None:
        self._active_since_s = now_s
        self._arrivals_s: deque[float] = deque(maxlen=_RATE_SAMPLES)
        self._publications_s: deque[float] = deque(maxlen=_RATE_SAMPLES)
        self._unanswered_since_s: float | None = None
        self._engine_error = ""
        self._fault: tuple[float, DropReason] | None = None
        self._camera: Health | None = None
        self._age_unknown = False
        self._publishers = 0

    def activate(self, *, now_s: float) -> None:
        """Judge from now on; the counters go on."""
        with self._lock:
            self._restart(now_s)

    def count_arrival(self, *, now_s: float, silence_ms: float, replaced: int = 0) -> None:
        """A frame came in.

        Args:
            now_s: when it did.
            silence_ms: after a longer silence its answer gets the full time again.
            replaced: frames that came before it and were replaced before they were taken.
        """
        with self._lock:
            self._frames_in += 1 + replaced
            self._frames_dropped[DropReason.REPLACED] += replaced
            self._arrivals_s.extend([now_s] * min(replaced, _RATE_SAMPLES))
            silent = not self._arrivals_s or now_s - self._arrivals_s[-1] > silence_ms / 1000
            if self._unanswered_since_s is None or silent:
                self._unanswered_since_s = now_s
            self._arrivals_s.append(now_s)

    def note_camera(self, verdict: Health | None) -> None:
        """What the latest frame says of the camera; None of a healthy one."""
        with self._lock:
            self._camera = verdict

    def note_publishers(self, count: int) -> None:
        """How many publishers the stream has now."""
        with self._lock:
            self._publishers = count

    def count_rebase(self) -> None:
        """The stamps jumped back."""
        with self._lock:
            self._stamp_rebases += 1

    def count_lost_packets(self, count: int) -> None:
        """So many packets of a video stream never came."""
        with self._lock:
            self._video_packets_lost += count

    def count_drop(self, reason: DropReason, *, now_s: float, error: str = "") -> None:
        """A frame gets no class map; `error` is shown in diagnostics."""
        with self._lock:
            self._frames_dropped[reason] += 1
            if reason in _FAULTS:
                self._fault = (now_s, reason)
                self._last_error = error or self._last_error
            if reason is DropReason.ENGINE_ERROR:
                self._engine_error = error or "no reason given"

    def count_published(
        self, *, now_s: float, arrived_s: float, inference_ms: float | None, stamp_age_ms: float | None
    ) -> None:
        """A frame's class map left; `inference_ms` is None where it needed no engine.

        `stamp_age_ms` is None where stamp and clock do not fit.
        """
        with self._lock:
            self._frames_published += 1
            self._publications_s.append(now_s)
            self._latencies_ms.append((now_s - arrived_s) * 1000)
            if stamp_age_ms is not None:
                self._stamp_ages_ms.append(stamp_age_ms)
            self._age_unknown = stamp_age_ms is None
            if inference_ms is not None:
                self._inference_ms = inference_ms
                self._engine_error = ""
            self._unanswered_since_s = None

    def figures(self, *, now_s: float) -> StreamFigures:
        """All counters and figures at one moment."""
        with self._lock:
            return StreamFigures(
                frames_in=self._frames_in,
                frames_published=self._frames_published,
                frames_in_progress=self._frames_in - self._frames_published - sum(self._frames_dropped.values()),
                frames_dropped=dict(self._frames_dropped),
                stamp_rebases=self._stamp_rebases,
                video_packets_lost=self._video_packets_lost,
                rate_in_hz=self._rate_hz(self._arrivals_s, now_s),
                rate_out_hz=self._rate_hz(self._publications_s, now_s),
                inference_ms=self._inference_ms,
                latency_p50_ms=percentile(self._latencies_ms, 50),
                latency_p99_ms=percentile(self._latencies_ms, 99),
                stamp_age_p50_ms=percentile(self._stamp_ages_ms, 50),
                stamp_age_p99_ms=percentile(self._stamp_ages_ms, 99),
                last_error=self._last_error,
            )

    def assess(
        self,
        *,
        now_s: float,
        stale_after_ms: float,
        max_age_ms: float,
        engine_timeout_ms: float,
        engine_busy_ms: float,
        looked_s: float | None = None,
    ) -> Health:
        """Judge the running stream.

        Args:
            now_s: steady clock.
            stale_after_ms: silence that is a fault, of the camera or of the engine; 0 turns both off.
            max_age_ms: the limit in force, 0 for none.
            engine_timeout_ms: time for one frame that is a fault; 0 turns it off.
            engine_busy_ms: time that the frame in work has taken so far; 0 without one.
            looked_s: steady clock when somebody saw last whether a frame had come, which a busy thread does not; now
                unless given.
        """
        with self._lock:
            if engine_timeout_ms and engine_busy_ms > engine_timeout_ms:
                return Health(
                    HealthLevel.ERROR, "the engine has not answered a frame for longer than engine_timeout_ms"
                )
            if self._engine_error:
                return Health(HealthLevel.ERROR, f"the engine failed on the last frame: {self._engine_error}")
            last_s = self._arrivals_s[-1] if self._arrivals_s else self._active_since_s
            if stale_after_ms and (now_s if looked_s is None else looked_s) - last_s > stale_after_ms / 1000:
                since = "no image any more" if self._arrivals_s else "no image since activation"
                return Health(HealthLevel.STALE, since)
            waiting_since_s = self._unanswered_since_s
            if self._camera is not None:
                return self._camera
            if stale_after_ms and waiting_since_s is not None and now_s - waiting_since_s > stale_after_ms / 1000:
                return Health(HealthLevel.ERROR, f"images arrive, but no {self._answer} leaves{self._cause(now_s)}")
            if not self._arrivals_s:
                return Health(HealthLevel.OK, "waiting for the first image")
            if cause := self._cause(now_s):
                return Health(HealthLevel.WARN, f"running, frames are dropped{cause}")
            if self._publishers > 1:
                return Health(HealthLevel.WARN, "running, the frames of several publishers mix in one stream")
            if max_age_ms and self._age_unknown:
                return Health(
                    HealthLevel.WARN,
                    "running, max_age_ms has no effect: the stamps are not of the node's clock",
                )
            arrivals = self._count_in_window(self._arrivals_s, now_s)
            publications = self._count_in_window(self._publications_s, now_s)
            if arrivals >= _OVERLOAD_FRAMES and publications < arrivals / 2:
                return Health(HealthLevel.WARN, "running, the engine serves less than half of the frames")
            return Health(HealthLevel.OK, "running")

    def _cause(self, now_s: float) -> str:
        if self._fault is None or now_s - self._fault[0] > RATE_WINDOW_S:
            return ""
        return f": {self._fault[1].value}"

    def _rate_hz(self, times_s: deque[float], now_s: float) -> float:
        duration_s = now_s - self._window_start_s(times_s, now_s)
        return self._count_in_window(times_s, now_s) / duration_s if duration_s > 0 else 0.0

    def _count_in_window(self, times_s: deque[float], now_s: float) -> int:
        start_s = self._window_start_s(times_s, now_s)
        return sum(time_s > start_s for time_s in times_s)

    def _window_start_s(self, times_s: deque[float], now_s: float) -> float:
        oldest_kept_s = times_s[0] if len(times_s) == times_s.maxlen else -math.inf
        return max(self._active_since_s, now_s - RATE_WINDOW_S, oldest_kept_s)


def percentile(values: Sequence[float] | deque[float], percent: float) -> float | None:
    """The smallest value that at least `percent` of all do not exceed (nearest rank); None of nothing."""
    if not values:
        return None
    rank = math.ceil(len(values) * percent / 100)
    return sorted(values)[max(rank, 1) - 1]
