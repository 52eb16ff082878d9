"""The figures of a whole fleet, added up drive by drive in bounded memory."""

from __future__ import annotations

import csv
from bisect import insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from darkseg_ros.errors import InputError
from darkseg_ros.evaluation.fleet.figures import figures_of
from darkseg_ros.evaluation.fleet.judgement import DriveJudgement, Sums, WorstFrame
from darkseg_ros.evaluation.metrics import ConfusionBlocks, bootstrap_intervals
from darkseg_ros.fleet.drives import Drive

SHOWN_DRIVES = 20
SHOWN_FRAMES = 20
SHOWN_FAILURES = 100

Figures = dict[str, float | None]
T = TypeVar("T")


@dataclass(frozen=True)
class JudgedDrive:
    """A drive with its figures, and the worst of its frames.

    Attributes:
        drive: where it lies.
        labelled: whether label maps were scored.
        figures: as `figures_of` gives them.
        worst: None where no frame has a value.
        tags: of the drive.
    """

    drive: Drive
    labelled: bool
    figures: Figures
    worst: WorstFrame | None
    tags: Mapping[str, str]

    @property
    def ranked_by(self) -> str:
        """The figure that drives are ranked by, the lowest first: of label maps, or without any."""
        return "miou_present" if self.labelled else "trust"

    @property
    def rank(self) -> float | None:
        """The value of this figure; None where it cannot be known, which no list ranks."""
        return self.figures[self.ranked_by]


@dataclass(frozen=True)
class RankedFrame:
    """One of the worst frames of the fleet."""

    drive: Drive
    camera: str
    frame: WorstFrame


@dataclass(frozen=True)
class FailedDrive:
    """A drive that could not be judged, and why."""

    drive: Drive
    reason: str


@dataclass(frozen=True)
class FleetResult:
    """What a fleet says.

    Attributes:
        figures: over all frames of all drives, with ``drives``, ``failed_drives`` and ``matched_share``.
        ci95: 95 % bootstrap intervals over drives; empty without label maps.
        classes: names of the K classes.
        bundle: of the model, None where class maps came recorded.
        backend: of the model.
        groups: figures by the kind of group (camera, hour, level, each tag) and its value.
        worst_drives: labelled drives, the worst first.
        least_trusted: drives without label maps, the least trusted first.
        worst_frames: of drives with label maps, or of all where there are none with.
        failed: the first of the drives that failed.
        bad_frames: frames that could not be used.
    """

    figures: Figures
    ci95: dict[str, tuple[float, float]]
    classes: tuple[str, ...]
    bundle: str | None
    backend: str | None
    groups: dict[str, dict[str, Figures]]
    worst_drives: tuple[JudgedDrive, ...]
    least_trusted: tuple[JudgedDrive, ...]
    worst_frames: tuple[RankedFrame, ...]
    failed: tuple[FailedDrive, ...]
    bad_frames: int


class _Lowest(Generic[T]):
    """Keeps the lowest few."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._kept: list[tuple[float, str, T]] = []

    def offer(self, value: float, place: str, item: T) -> None:
        if len(self._kept) < self._count or (value, place) < self._kept[-1][:2]:
            insort(self._kept, (value, place, item), key=lambda entry: entry[:2])
            del self._kept[self._count :]

    def lowest_first(self) -> tuple[T, ...]:
        return tuple(item for *_, item in self._kept)


class FleetSummary:
    """Adds up drives; give them in one order, and the result is the same to the last bit."""

    def __init__(self) -> None:
        self._sums: Sums | None = None
        self._first: DriveJudgement | None = None
        self._groups: dict[str, dict[str, Sums]] = {}
        self._blocks = ConfusionBlocks()
        self._worst_drives, self._least_trusted = (_Lowest[JudgedDrive](SHOWN_DRIVES) for _ in range(2))
        self._worst_labelled, self._worst_unlabelled = (_Lowest[RankedFrame](SHOWN_FRAMES) for _ in range(2))
        self._failed: list[FailedDrive] = []
        self._drives = self._failures = self._label_maps = self._bad_frames = 0

    def add(self, judgement: DriveJudgement, tags: Mapping[str, str]) -> JudgedDrive:
        """Add a drive.

        Args:
            judgement: its sums.
            tags: value by name, such as ``{"weather": "rain"}``.

        Raises:
            InputError: if its classes are others than those of the drives before.
        """
        if self._first is None:
            self._first, self._sums = judgement, Sums.empty(len(judgement.classes))
        elif judgement.classes != self._first.classes:
            raise InputError(f"{judgement.place} has other classes than {self._first.place}; evaluate them apart")
        assert self._sums is not None
        drive = Drive(judgement.place)
        own = Sums.empty(len(judgement.classes))
        for stretch in judgement.stretches:
            own = own + stretch.sums
            by_stretch = {"camera": stretch.camera, "hour": stretch.hour, "level": stretch.level}
            for kind, value in (by_stretch | dict(tags)).items():
                group = self._groups.setdefault(kind, {})
                group[value] = group.get(value, Sums.empty(len(judgement.classes))) + stretch.sums
        self._sums = self._sums + own
        labelled = own.scored > 0
        if labelled:
            self._blocks.add(own.confusion)
        frames = self._worst_labelled if labelled else self._worst_unlabelled
        worst = None
        for stretch in judgement.stretches:
            if stretch.worst is None:
                continue
            ranked = RankedFrame(drive, stretch.camera, stretch.worst)
            frames.offer(stretch.worst.value, f"{drive.place} {stretch.worst.name}", ranked)
            if worst is None or stretch.worst.value < worst.value:
                worst = stretch.worst
        judged = JudgedDrive(drive, labelled, figures_of(own, judgement.classes), worst, dict(tags))
        if judged.rank is not None:
            (self._worst_drives if labelled else self._least_trusted).offer(judged.rank, drive.place, judged)
        self._drives += 1
        self._label_maps += judgement.label_maps if labelled else 0
        self._bad_frames += judgement.bad_frames
        return judged

    def fail(self, drive: Drive, reason: str) -> None:
        """Add a drive that could not be judged."""
        self._failures += 1
        if self._failures <= SHOWN_FAILURES:
            self._failed.append(FailedDrive(drive, reason))

    def result(self) -> FleetResult:
        """The figures of all.

        Raises:
            InputError: if no drive could be judged.
        """
        if self._first is None or self._sums is None:
            reason = f"; the first: {self._failed[0].drive.place}: {self._failed[0].reason}" if self._failed else ""
            raise InputError(f"none of the {self._failures} drives could be judged{reason}")
        names = self._first.classes
        figures = figures_of(self._sums, names)
        figures |= {
            "drives": self._drives,
            "failed_drives": self._failures,
            "matched_share": self._sums.scored / self._label_maps if self._label_maps else None,
        }
        any_labels = self._sums.scored > 0
        return FleetResult(
            figures=figures,
            ci95=bootstrap_intervals(self._blocks.stacked()) if any_labels else {},
            classes=names,
            bundle=self._first.bundle,
            backend=self._first.backend,
            groups={
                kind: {value: figures_of(sums, names) for value, sums in sorted(values.items())}
                for kind, values in self._groups.items()
            },
            worst_drives=self._worst_drives.lowest_first(),
            least_trusted=self._least_trusted.lowest_first(),
            worst_frames=(self._worst_labelled if any_labels else self._worst_unlabelled).lowest_first(),
            failed=tuple(self._failed),
            bad_frames=self._bad_frames,
        )


UNTAGGED = "no tag"


@dataclass(frozen=True)
class TagTable:
    """Tags of drives from a CSV file: a column ``drive`` (name or place), every other column is a tag.

    Attributes:
        names: of the tags.
        of_drive: values by drive.
    """

    names: tuple[str, ...] = ()
    of_drive: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def tags_of(self, drive: Drive) -> dict[str, str]:
        """The drive's tags; UNTAGGED where the file does not say."""
        known = self.of_drive.get(drive.place) or self.of_drive.get(drive.name) or {}
        return {name: known.get(name) or UNTAGGED for name in self.names}


def read_tags(path: Path, *, reserved: Sequence[str] = ("camera", "hour", "level")) -> TagTable:
    """Read a table of tags.

    Raises:
        InputError: if it cannot be read, has no column ``drive`` or no other, a reserved one, or a drive twice.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, skipinitialspace=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as CSV ({error}); expected columns drive and weather") from error
    names = tuple(name for name in (rows[0] if rows else {}) if name not in ("drive", None))
    if not rows or "drive" not in rows[0] or not names:
        raise InputError(f"{path} needs a column drive and a column for each tag, such as drive,weather")
    if taken := set(names) & set(reserved):
        raise InputError(f"{path}: the column {min(taken)} is known from the drive itself; rename it")
    of_drive: dict[str, dict[str, str]] = {}
    for row in rows:
        key = (row["drive"] or "").strip()
        key = str(Path(key).absolute()) if "/" in key and "://" not in key else key
        if key in of_drive:
            raise InputError(f"{path} names drive {key} twice; keep one row")
        of_drive[key] = {name: (row[name] or "").strip() for name in names}
    return TagTable(names, of_drive)
