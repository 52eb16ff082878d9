"""One status on /diagnostics: each second, and whenever the verdict changes.

A thread of its own watches for changes: the executor would take over a millisecond for each look, as it builds its wait
set anew. By the steady clock: with use_sim_time a paused bag would silence the diagnostics.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.exceptions import InvalidHandle
from rclpy.node import Node

from darkseg_ros.errors import one_line
from darkseg_ros.stream.monitor import Health

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

    def watch(self) -> None:
        """Report when due from now on, until the node is destroyed; once the subjects can be asked."""
        threading.Thread(target=self._watch, name="diagnostics", daemon=True).start()

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

    def _watch(self) -> None:
        while self._node.context.ok():
            time.sleep(_WATCH_PERIOD_S)
            try:
                self.report_when_due()
            except InvalidHandle:
                return
            except Exception as error:  # a watch that ended would leave the last verdict standing
                if self._node.context.ok():
                    self._node.get_logger().error(f"no diagnostics: {type(error).__name__}: {one_line(error)}")

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
