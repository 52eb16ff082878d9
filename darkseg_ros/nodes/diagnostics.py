"""One status on /diagnostics: each second, and whenever the verdict changes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from darkseg_ros.stream.camera_health import CameraCondition
from darkseg_ros.stream.monitor import Health, StreamFigures

_REPORT_PERIOD_S = 1.0
_WATCH_PERIOD_S = 0.1


@dataclass(frozen=True)
class Subject:
    """What one status is about.

    Attributes:
        task: ends the status' name, which the node's begins.
        topic: of the hardware: its resolved name is the status' hardware_id.
        assess: the verdict.
        values: key and value of the figures.
    """

    task: str
    topic: str
    assess: Callable[[], Health]
    values: Callable[[], Mapping[str, str]]


class DiagnosticsReporter:
    """Publishes what a node says of itself, a status for each subject. `report` may be called from any thread."""

    def __init__(self, node: Node, subjects: Sequence[Subject]) -> None:
        self._node = node
        self._subjects = tuple(subjects)
        self._lock = threading.Lock()
        self._reported: tuple[float, tuple[Health, ...]] | None = None
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)
        # a steady clock: with use_sim_time a paused bag would silence the diagnostics
        node.create_timer(_WATCH_PERIOD_S, self.report_when_due, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def report(self) -> None:
        """Publish now, unless the process ends."""
        if not self._node.context.ok():
            return
        with self._lock:
            verdicts = self._verdicts()
            self._reported = (time.monotonic(), verdicts)
            self._publisher.publish(self._array(verdicts))

    def report_when_due(self) -> None:
        """Publish if a verdict is another than the last one published, or a second has passed."""
        reported = self._reported
        due = reported is None or time.monotonic() - reported[0] >= _REPORT_PERIOD_S
        if due or (reported is not None and self._verdicts() != reported[1]):
            self.report()

    def _verdicts(self) -> tuple[Health, ...]:
        return tuple(subject.assess() for subject in self._subjects)

    def _array(self, verdicts: tuple[Health, ...]) -> DiagnosticArray:
        node_name = self._node.get_fully_qualified_name().lstrip("/")
        array = DiagnosticArray(
            status=[
                DiagnosticStatus(
                    level=bytes([health.level]),
                    name=f"{node_name}: {subject.task}",
                    message=health.summary,
                    hardware_id=self._node.resolve_topic_name(subject.topic),
                    values=[KeyValue(key=key, value=value) for key, value in subject.values().items()],
                )
                for subject, health in zip(self._subjects, verdicts, strict=True)
            ]
        )
        array.header.stamp = self._node.get_clock().now().to_msg()
        return array


def camera_values(camera: CameraCondition | None) -> dict[str, str]:
    """The latest frame's condition, each figure under its name; empty before the first."""
    if camera is None:
        return {"camera": ""}
    figures = {f"camera_{name}": f"{value:.3g}" for name, value in asdict(camera).items() if name != "faults"}
    return {"camera": camera.summary, **figures}


def stream_values(figures: StreamFigures) -> dict[str, str]:
    """The books of a stream, as a status shows them."""
    measured = {
        "inference_ms": figures.inference_ms,
        "latency_p50_ms": figures.latency_p50_ms,
        "latency_p99_ms": figures.latency_p99_ms,
        "stamp_age_p50_ms": figures.stamp_age_p50_ms,
        "stamp_age_p99_ms": figures.stamp_age_p99_ms,
    }
    return {
        "frames_in": str(figures.frames_in),
        "frames_published": str(figures.frames_published),
        "frames_in_progress": str(figures.frames_in_progress),
        **{f"dropped_{reason.value}": str(count) for reason, count in figures.frames_dropped.items()},
        "stamp_rebases": str(figures.stamp_rebases),
        "rate_in_hz": f"{figures.rate_in_hz:.1f}",
        "rate_out_hz": f"{figures.rate_out_hz:.1f}",
        **{name: "" if value is None else f"{value:.1f}" for name, value in measured.items()},
        "last_error": figures.last_error,
    }
