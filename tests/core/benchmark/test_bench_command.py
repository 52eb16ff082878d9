from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest

from darkseg_ros.benchmark import camera_frames
from darkseg_ros.benchmark.camera_frames import generated_frames, read_frames
from darkseg_ros.benchmark.figures import RosFigures
from darkseg_ros.benchmark.report import read_report
from darkseg_ros.commands import bench as bench_verb
from darkseg_ros.commands.cli import main
from darkseg_ros.errors import InputError
from tests.bundles import write_tiny_bundle
from tests.core.benchmark.reports import ROS


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture(autouse=True)
def _short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_verb, "_TURN_S", 0.02)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for index in range(3):
        cv2.imwrite(str(tmp_path / "images" / f"{index}.png"), np.full((20, 30, 3), index, np.uint8))
    return tmp_path / "images"


def bench(bundle: Path, images: Path, out: Path, *options: str) -> int:
    arguments = ["--bundle", bundle, "--backend", "fake", "--input", images, "--out", out, "--rounds", "1"]
    return main(["bench", *map(str, arguments), *options])


def error_line(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err.splitlines()[-1]


def test_the_report_lies_where_the_command_says(
    bundle: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench(bundle, images, tmp_path / "out", "--no-ros") == 0
    report = read_report(tmp_path / "out" / "report.json")
    assert [(row.name, row.kind) for row in report.contestants] == [("tiny fake", "engine"), ("tiny fake", "segmenter")]
    assert (report.input.name, report.input.frames, report.input.size_hw) == ("images", 3, (20, 30))
    assert report.ros is None
    assert report.goals == (), "they are stated for another frame size"
    out = capsys.readouterr().out
    assert out.startswith("contestant  kind")
    assert out.endswith(f"report: {tmp_path / 'out' / 'report.html'}\n")


def test_a_regression_is_exit_status_3(
    bundle: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench(bundle, images, tmp_path / "out", "--no-ros") == 0
    old = tmp_path / "out" / "report.json"
    lenient, strict = json.loads(old.read_text()), json.loads(old.read_text())
    for content, factor in ((lenient, 1000), (strict, 0.001)):
        for row in content["contestants"]:
            row["latency_ms"]["p50"] *= factor
            row["round_p50_ms"] = [value * factor for value in row["round_p50_ms"]]
            row["peak_memory_mb"] = 1e6  # of this run it depends on nothing that is tested here
    (tmp_path / "lenient.json").write_text(json.dumps(lenient))
    (tmp_path / "strict.json").write_text(json.dumps(strict))
    assert bench(bundle, images, tmp_path / "new", "--no-ros", "--compare", str(tmp_path / "lenient.json")) == 0
    assert "REGRESSION" not in capsys.readouterr().out
    assert bench(bundle, images, tmp_path / "new", "--no-ros", "--compare", str(tmp_path / "strict.json")) == 3
    out = capsys.readouterr().out
    assert f"against the benchmark of {strict['date']}:" in out
    assert len([line for line in out.splitlines() if line.endswith("REGRESSION")]) == 2


def test_a_benchmark_of_other_frames_is_refused_before_the_wait(
    bundle: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench(bundle, images, tmp_path / "out", "--no-ros") == 0
    capsys.readouterr()
    (images / "2.png").unlink()
    assert bench(bundle, images, tmp_path / "new", "--compare", str(tmp_path / "out" / "report.json")) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("darkseg: the earlier benchmark cannot be compared with this one: SHA-256 of the frames was")
    assert not (tmp_path / "new").exists()


def test_without_ros_it_says_so_and_goes_on(
    bundle: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_verb, "find_spec", lambda name: None)
    assert bench(bundle, images, tmp_path / "out") == 0
    assert capsys.readouterr().err.startswith("without ROS: rclpy is not installed; source a ROS 2 installation")


def test_the_node_is_measured_on_the_same_frames(
    bundle: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def measure_ros(bundle: Path, backend: str, frames: np.ndarray, **settings: Any) -> RosFigures:
        calls.append((bundle, backend, frames.shape, sorted(settings)))
        return ROS

    module = ModuleType("darkseg_ros.benchmark.ros_run")
    module.measure_ros = measure_ros  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(bench_verb, "find_spec", lambda name: object())
    assert bench(bundle, images, tmp_path / "out") == 0
    assert calls == [(bundle, "fake", (3, 20, 30, 3), ["device", "progress", "search_seconds", "seconds"])]
    assert read_report(tmp_path / "out" / "report.json").ros == ROS


@pytest.mark.parametrize(
    "options", [["--rounds", "0"], ["--rounds", "many"], ["--topic", "/camera"], ["--backend", "unknown"]]
)
def test_a_bad_command_line_is_exit_status_2(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ending:
        main(["bench", *options])
    assert ending.value.code == 2
    assert "usage: darkseg bench" in capsys.readouterr().err


def test_bad_input_is_exit_status_1_and_one_line(
    bundle: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert bench(bundle, tmp_path / "missing", out) == 1
    assert "missing does not exist" in error_line(capsys)
    assert bench(tmp_path, images, out) == 1
    assert "model.json" in error_line(capsys)
    assert bench(bundle, images, out, "--compare", str(images / "0.png")) == 1
    assert "0.png is no JSON or is damaged" in error_line(capsys)
    assert bench(bundle, images, images / "0.png") == 1
    assert "0.png is a file" in error_line(capsys)
    assert not out.exists()


def test_frames_of_different_sizes_are_refused(images: Path) -> None:
    cv2.imwrite(str(images / "3.png"), np.zeros((20, 32, 3), np.uint8))
    with pytest.raises(InputError, match="different sizes \\(30×20, 32×20\\)"):
        read_frames(images)


def test_no_more_frames_are_read_than_fit(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera_frames, "FRAMES_MAX", 2)
    assert read_frames(images)[:, 0, 0, 0].tolist() == [0, 1]


def test_the_generated_frames_are_distinct_and_the_same_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera_frames, "FRAMES_MAX", 2)
    frames = generated_frames()
    assert frames.shape == (2, 512, 1024, 3)
    assert (frames == generated_frames()).all()
    assert not (frames[0] == frames[1]).all()
