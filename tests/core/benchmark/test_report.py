from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from darkseg_ros.benchmark.figures import Int8Ceiling, Ratio
from darkseg_ros.benchmark.report import describe_frames, read_report
from darkseg_ros.benchmark.report_writer import write_report
from darkseg_ros.errors import InputError
from tests.core.benchmark.reports import REPORT, with_reference


@pytest.mark.parametrize(
    "report",
    [
        REPORT,
        with_reference(Ratio(0.2, 0.1, 0.3), latency_ms=20),
        replace(REPORT, ros=replace(REPORT.ros, highest=None, engine_load_s=None), goals=()),
        replace(REPORT, int8_ceiling=Int8Ceiling(gop_per_s=1384.0, network_gop=1.9, engine_ms=5.0)),
        replace(REPORT, contestants=(replace(REPORT.contestants[0], energy_j_per_frame=0.5, name="ü<&>"),)),
    ],
)
def test_a_report_is_read_as_it_was_written(tmp_path: Path, report: Any) -> None:
    write_report(report, tmp_path / "out")
    assert read_report(tmp_path / "out" / "report.json") == report
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["report.html", "report.json"]


def test_a_figure_that_is_none_of_json_is_never_written(tmp_path: Path) -> None:
    write_report(REPORT, tmp_path)
    broken = replace(REPORT, contestants=(replace(REPORT.contestants[0], load_s=float("nan")),))
    with pytest.raises(ValueError, match="JSON"):
        write_report(broken, tmp_path)
    assert read_report(tmp_path / "report.json") == REPORT


@pytest.mark.parametrize("figure", ["relay_latency_ms", "relay_cpu_s_per_frame", "ordinary_clients_latency_ms"])
def test_a_report_from_before_a_figure_of_the_relay_is_read(tmp_path: Path, figure: str) -> None:
    path = damaged(tmp_path, ("ros", figure), ...)
    assert read_report(path) == replace(REPORT, ros=replace(REPORT.ros, **{figure: None}))


def damaged(tmp_path: Path, where: tuple[Any, ...], value: Any) -> Path:
    write_report(REPORT, tmp_path)
    content = json.loads((tmp_path / "report.json").read_text())
    part = content
    for key in where[:-1]:
        part = part[key]
    if value is ...:
        del part[where[-1]]
    else:
        part[where[-1]] = value
    path = tmp_path / "damaged.json"
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        (("schema_version",), 2, "schema version 2, this version of the package reads 1"),
        (("schema_version",), ..., "has no schema_version"),
        (("machine",), ..., r"report is not a BenchmarkReport: missing or unknown \['machine'\]"),
        (("surplus",), 1, r"missing or unknown \['surplus'\]"),
        (("contestants", 1, "load_s"), "fast", r"report\.contestants\[1\]\.load_s is 'fast', expected float"),
        (("contestants", 0, "frames"), 1.5, r"contestants\[0\]\.frames is '1\.5', expected int"),
        (("contestants", 0, "frames"), True, r"contestants\[0\]\.frames is 'True', expected int"),
        (("contestants", 0, "kind"), "peer", r"contestants\[0\]\.kind is 'peer', expected .*engine"),
        (("contestants", 0, "latency_ms"), 5, r"latency_ms is not a Percentiles: missing or unknown 5"),
        (("contestants",), {}, r"report\.contestants is '\{\}', expected tuple"),
        (("input", "size_hw"), [1, 2, 3], r"input\.size_hw is '\[1, 2, 3\]', expected tuple\[int, int\]"),
        (("versions", "numpy"), 2, r"versions\.numpy is '2', expected str"),
        (("machine", "governor"), 5, r"machine\.governor is '5', expected str"),
    ],
)
def test_a_damaged_report_says_where(tmp_path: Path, where: tuple[Any, ...], value: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_report(damaged(tmp_path, where, value))


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"[NaN]", b"{} {}"])
def test_what_is_no_json_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "report.json").write_bytes(content)
    with pytest.raises(InputError, match="is no JSON or is damaged"):
        read_report(tmp_path / "report.json")


@pytest.mark.parametrize("content", [b"[]", b"3", b'{"miou": 0.5}'])
def test_json_of_something_else_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "report.json").write_bytes(content)
    with pytest.raises(InputError, match=r"has no schema_version, expected the report\.json of a benchmark"):
        read_report(tmp_path / "report.json")


def test_a_report_that_is_missing_or_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_report(tmp_path / "report.json")
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        read_report(tmp_path)


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(InputError, match="cannot be written"):
        write_report(REPORT, tmp_path / "out")


def test_the_hash_is_of_shape_and_content() -> None:
    frames = np.arange(2 * 4 * 6 * 3, dtype=np.uint8).reshape(2, 4, 6, 3)
    described = describe_frames(frames, name="a drive")
    assert (described.name, described.frames, described.size_hw) == ("a drive", 2, (4, 6))
    assert described.sha256 == hashlib.sha256(b"(2, 4, 6, 3)" + frames.tobytes()).hexdigest()
    assert describe_frames(frames.reshape(2, 6, 4, 3), name="a drive").sha256 != described.sha256
    assert describe_frames(frames[:, ::-1], name="a drive").sha256 != described.sha256
