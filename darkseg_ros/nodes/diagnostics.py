"""One status on /diagnostics: each second, and whenever the verdict changes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from darkseg_ros.camera_health import CameraCondition
from darkseg_ros.stream_monitor import Health, StreamFigures

_REPORT_PERIOD_S = 1.0
_WATCH_PERIOD_S = 0.1


class DiagnosticsReporter:
    """Publishes what a node says of itself. `report` may be called from any thread.

    Args:
        node: its name begins the status' name.
        task: ends the status' name.
        topic: of the hardware: its resolved name is the status' hardware_id.
        assess: the verdict.
        values: key and value of the figures.
    """

    def __init__(
        self,
        node: Node,
        *,
        task: str,
        topic: str,
        assess: Callable[[], Health],
        values: Callable[[], Mapping[str, str]],
    ) -> None:
        self._node = node
        self._name = f"{node.get_fully_qualified_name().lstrip('/')}: {task}"
        self._hardware_id = node.resolve_topic_name(topic)
        self._assess = assess
        self._values = values
        self._lock = threading.Lock()
        self._reported: tuple[float, Health] | None = None
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)
        # a steady clock: with use_sim_time a paused bag would silence the diagnostics
        node.create_timer(_WATCH_PERIOD_S, self.report_when_due, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def report(self) -> None:
        """Publish now, unless the process ends."""
        if not self._node.context.ok():
            return
        with self._lock:
            health = self._assess()
            self._reported = (time.monotonic(), health)
            self._publisher.publish(self._array(health))

    def report_when_due(self) -> None:
        """Publish if the verdict is another than the last one published, or a second has passed."""
        reported = self._reported
        due = reported is None or time.monotonic() - reported[0] >= _REPORT_PERIOD_S
        if due or (reported is not None and self._assess() != reported[1]):
            self.report()

    def _array(self, health: Health) -> DiagnosticArray:
        status = DiagnosticStatus(
            level=bytes([health.level]),
            name=self._name,
            message=health.summary,
            hardware_id=self._hardware_id,
            values=[KeyValue(key=key, value=value) for key, value in self._values().items()],
        )
        array = DiagnosticArray(status=[status])
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
