"""What a benchmark leaves behind: report.json for machines, report.html for people."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from darkseg_ros.benchmark.figures import ContestantFigures, Goal, Int8Ceiling, RosFigures
from darkseg_ros.benchmark.machine import Machine
from darkseg_ros.benchmark.typed_json import from_json
from darkseg_ros.errors import InputError

SCHEMA_VERSION = 1
REPORT_JSON, REPORT_PAGE = "report.json", "report.html"

_REPORT_BYTES_MAX = 2**24


@dataclass(frozen=True)
class BenchmarkInput:
    """The camera frames.

    Attributes:
        name: what they are, for people.
        sha256: over the shape and all bytes of the decoded frames.
        frames: how many there are.
        size_hw: of each.
    """

    name: str
    sha256: str
    frames: int
    size_hw: tuple[int, int]


@dataclass(frozen=True)
class BenchmarkReport:
    """One benchmark.

    Attributes:
        schema_version: of report.json.
        date: of its end, ISO 8601 with the offset from UTC.
        machine: where it ran.
        versions: of libraries, by name.
        input: the frames.
        rounds: turns that each contestant took.
        turn_s: seconds of a turn.
        reference: name of the contestant to whom the ratios are; None without ratios.
        contestants: their figures.
        ros: the node's figures; None where they were not measured.
        goals: the figures to reach, with what was measured.
        int8_ceiling: of the machine; None where it was not measured.
    """

    schema_version: int
    date: str
    machine: Machine
    versions: dict[str, str]
    input: BenchmarkInput
    rounds: int
    turn_s: float
    reference: str | None
    contestants: tuple[ContestantFigures, ...]
    ros: RosFigures | None
    goals: tuple[Goal, ...]
    int8_ceiling: Int8Ceiling | None = None


def describe_frames(frames: np.ndarray, *, name: str) -> BenchmarkInput:
    """What is noted of (N, H, W, 3) uint8 BGR frames."""
    digest = hashlib.sha256(repr(frames.shape).encode())
    digest.update(np.ascontiguousarray(frames).data)
    count, height, width = frames.shape[:3]
    return BenchmarkInput(name, digest.hexdigest(), frames=count, size_hw=(height, width))


def report_json(report: BenchmarkReport) -> bytes:
    """What `read_report` reads; raises ValueError for a figure that is no number."""
    return f"{json.dumps(asdict(report), indent=2, allow_nan=False, ensure_ascii=False)}\n".encode()


def read_report(path: Path) -> BenchmarkReport:
    """Read a report.json.

    Raises:
        InputError: if it cannot be read, is no benchmark's report, or is of another schema version.
    """
    expected = f"expected the {REPORT_JSON} of a benchmark; run `darkseg bench` to make one"
    try:
        if path.stat().st_size > _REPORT_BYTES_MAX:
            raise InputError(f"{path} has more than {_REPORT_BYTES_MAX} bytes, {expected}")
        content = json.loads(path.read_bytes(), parse_constant=_refuse_constant)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}; {expected}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is no JSON or is damaged ({error}); {expected}") from error
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version is None:
        raise InputError(f"{path} has no schema_version, {expected}")
    if version != SCHEMA_VERSION:
        raise InputError(
            f"{path} is of schema version {str(version)[:20]}, this version of the package reads {SCHEMA_VERSION}; "
            "run the earlier benchmark again"
        )
    try:
        report: BenchmarkReport = from_json(BenchmarkReport, content, "report")
    except ValueError as error:
        raise InputError(f"{path} is damaged: {error}; {expected}") from error
    return report


def _refuse_constant(constant: str) -> Any:
    raise ValueError(f"{constant} is not a figure")
