"""Two evaluations of a fleet side by side: which drives fell."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from darkseg_ros.errors import InputError
from darkseg_ros.fleet.drives import Drive
from darkseg_ros.fleet.places import place_in, read_bytes

RESULTS_FILE = "result.jsonl"
FALL_MIN = 0.01
"""A drive fell that lost more than this of its rank, a share within 0…1."""


@dataclass(frozen=True)
class FallenDrive:
    """A drive that does worse than before.

    Attributes:
        drive: where it lies.
        figure: what it is ranked by, ``miou_present`` or ``trust``.
        before: 0…1.
        now: 0…1; None where it failed now.
    """

    drive: Drive
    figure: str
    before: float
    now: float | None


@dataclass
class Comparison:
    """Compares drives, as they come, with an earlier evaluation.

    Attributes:
        old: place of the earlier one.
        before: its figure and value of each drive by place.
        fall: smallest loss that counts.
        compared: drives in both.
        fallen: those that fell, in the order they came.
    """

    old: str
    before: dict[str, tuple[str, float]]
    fall: float = FALL_MIN
    compared: int = 0
    fallen: list[FallenDrive] = field(default_factory=list)

    def add(self, drive: Drive, figure: str, now: float | None) -> None:
        """Add a drive of the new evaluation; `now` is None where it failed."""
        figure_before, before = self.before.get(drive.place, ("", 0.0))
        if not figure_before or (now is not None and figure != figure_before):
            return
        self.compared += 1
        if now is None or before - now > self.fall:
            self.fallen.append(FallenDrive(drive, figure_before, before, now))

    def worst_first(self) -> list[FallenDrive]:
        """Those that fell, the deepest fall first; drives that failed come before all."""
        return sorted(self.fallen, key=lambda each: (each.now is not None, (each.now or 0) - each.before, each.drive))


def compare_with(old: str, *, fall: float = FALL_MIN) -> Comparison:
    """Read an earlier evaluation.

    Args:
        old: folder, path or URL, that `darkseg evaluate DRIVES… --out` wrote.
        fall: smallest loss that counts, 0…1.

    Raises:
        InputError: if it holds no such evaluation.
    """
    content = read_bytes(place_in(old, RESULTS_FILE))
    if content is None:
        raise InputError(f"{old} holds no {RESULTS_FILE}; name a folder that `darkseg evaluate DRIVES… --out` wrote")
    before = {}
    try:
        for line in content.splitlines():
            row = json.loads(line)
            if row["rank"] is not None:
                before[row["drive"]] = (row["ranked_by"], float(row["rank"]))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{RESULTS_FILE} in {old} is damaged: {error}; evaluate again") from error
    return Comparison(old, before, fall)
