"""Rows of docs/reliability.md: what each fault test measured, kept for `tests.ros.reliability_table`."""

from __future__ import annotations

import datetime
import json
import os
import platform
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from darkseg_ros.whole_files import write_whole

if TYPE_CHECKING:
    from tests.ros.probe import Status

ROWS = Path(__file__).resolve().parents[2] / "out" / "reliability"


@dataclass(frozen=True)
class Row:
    """One fault.

    Attributes:
        fault: key in `tests.ros.reliability_table.FAULTS`.
        frames_in: frames that reached the node, None where the fault has none.
        frames_out: class maps it published.
        dropped: frames without a class map, by reason.
        recovery_s: from the end of the fault to the next class map.
        observed: what else was measured, in words.
        date: of the measurement.
        machine: class of the machine.
    """

    fault: str
    frames_in: int | None = None
    frames_out: int | None = None
    dropped: dict[str, int] = field(default_factory=dict)
    recovery_s: float | None = None
    observed: str = ""
    date: str = field(default_factory=lambda: datetime.date.today().isoformat())
    machine: str = field(default_factory=lambda: machine_class())


def machine_class() -> str:
    """Cores, system and middleware; no name of the machine."""
    return (
        f"{os.cpu_count()} cores {platform.machine()}, Python {platform.python_version()}, "
        f"ROS 2 {os.environ.get('ROS_DISTRO', 'jazzy (wheels)')}"
    )


class RowOfFault:
    """The row of a test: gone when the test starts, there when it has passed."""

    def __init__(self, fault: str) -> None:
        self._fault = fault
        self._path = ROWS / f"{fault}.json"
        self._path.unlink(missing_ok=True)

    def passed(self, status: Status | None = None, *, recovery_s: float | None = None, observed: str = "") -> None:
        """Write it; the counters are taken from a status of the node."""
        row = Row(self._fault, recovery_s=recovery_s, observed=observed)
        if status is not None:
            dropped = {
                key.removeprefix("dropped_"): int(value)
                for key, value in status.values.items()
                if key.startswith("dropped_") and int(value)
            }
            row = Row(
                self._fault,
                frames_in=status.number("frames_in"),
                frames_out=status.number("frames_published"),
                dropped=dropped,
                recovery_s=recovery_s,
                observed=observed,
            )
        self.write(row)

    def write(self, row: Row) -> None:
        """Write a row made elsewhere."""
        assert row.fault == self._fault
        write_whole(self._path, json.dumps(asdict(row), indent=1).encode())


def read_rows() -> dict[str, Row]:
    """All rows there are, by fault."""
    rows = (Row(**json.loads(path.read_text(encoding="utf-8"))) for path in sorted(ROWS.glob("*.json")))
    return {row.fault: row for row in rows}
