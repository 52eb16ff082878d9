from __future__ import annotations

import json
import os
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest

from darkseg_ros.commands.cli import main
from tests.bundles import write_tiny_bundle
from tests.core.evaluation.fleet.drives import HW, write_drive


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle"), HW)


@pytest.fixture(scope="module")
def made_drives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six drives of rising faults; one more is cut off."""
    folder = tmp_path_factory.mktemp("drives")
    for index in range(6):
        write_drive(folder / f"drive_{index}", wrong_share=index / 8, hours=index)
    shutil.copytree(folder / "drive_0", folder / "broken")
    os.truncate(folder / "broken" / "drive_0.mcap", 60)
    return folder


def evaluate(drives: Path | str, out: Path | str, bundle: Path, *options: str) -> int:
    return main(["evaluate", str(drives), "--out", str(out), "--bundle", str(bundle), "--backend", "fake", *options])


def lines_of(out: Path) -> dict[str, dict[str, Any]]:
    rows = map(json.loads, (out / "result.jsonl").read_text(encoding="utf-8").splitlines())
    return {row["name"]: row for row in rows}


def test_many_drives_have_one_report_and_a_line_each(
    tmp_path: Path, bundle: Path, made_drives: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert evaluate(made_drives, out, bundle, "--at-least", "miou_present=0.5") == 0
    metrics = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["drives"] == 6
    assert metrics["failed_drives"] == 1
    assert metrics["pixel_accuracy"] == pytest.approx(1 - 15 / 48)
    assert Path(metrics["worst_drives"][0]["drive"]).name == "drive_5"
    assert metrics["groups"]["hour"]["22"]["pixel_accuracy"] == 1
    assert metrics["failed"][0]["reason"].startswith(str(made_drives / "broken"))
    lines = lines_of(out)
    assert lines["drive_2"]["pixel_accuracy"] == 0.75
    assert "cut off or damaged" in lines["broken"]["error"]
    assert "drive_5" in (out / "report.html").read_text(encoding="utf-8")
    assert "broken" in capsys.readouterr().err


def test_the_command_of_a_line_repeats_its_drive(
    tmp_path: Path, bundle: Path, made_drives: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate(made_drives, tmp_path / "out", bundle)
    row = lines_of(tmp_path / "out")["drive_3"]
    words = shlex.split(row["command"])
    assert words[0] == "darkseg"
    monkeypatch.chdir(tmp_path)
    assert main(words[1:]) == 0
    (metrics,) = tmp_path.glob("out/drive_3-*/metrics.json")
    alone = json.loads(metrics.read_text(encoding="utf-8"))
    for name in ("miou", "miou_present", "pixel_accuracy", "images"):
        assert alone[name] == row[name]


def test_resume_judges_only_what_is_missing(
    tmp_path: Path, bundle: Path, made_drives: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    evaluate(made_drives, out, bundle)
    before = {name: (out / name).read_bytes() for name in ("metrics.json", "result.jsonl")}
    times = {path.name: path.stat().st_mtime_ns for path in (out / "drives").iterdir()}
    (gone,) = (out / "drives").glob("drive_4-*.parquet")
    gone.unlink()
    capsys.readouterr()
    assert evaluate(made_drives, out, bundle) == 1
    assert "--resume" in capsys.readouterr().err
    assert evaluate(made_drives, out, bundle, "--resume") == 0
    assert "5 of 7 drives have their result already" in capsys.readouterr().out
    assert {name: (out / name).read_bytes() for name in before} == before
    again = {path.name for path in (out / "drives").iterdir() if path.stat().st_mtime_ns != times[path.name]}
    assert again == {gone.name}


def test_resume_refuses_results_of_other_settings(
    tmp_path: Path, bundle: Path, made_drives: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate(made_drives, tmp_path / "out", bundle)
    assert evaluate(made_drives, tmp_path / "out", bundle, "--resume", "--timezone", "Asia/Tokyo") == 1
    assert "another timezone" in capsys.readouterr().err


def test_drives_that_fell_are_listed_with_status_3(
    tmp_path: Path, bundle: Path, made_drives: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drives = tmp_path / "drives"
    shutil.copytree(made_drives, drives)
    evaluate(drives, tmp_path / "old", bundle)
    assert evaluate(drives, tmp_path / "same", bundle, "--compare", str(tmp_path / "old")) == 0
    shutil.rmtree(drives / "drive_1")
    write_drive(drives / "drive_1", wrong_share=0.6, hours=1)
    shutil.rmtree(drives / "drive_5")
    write_drive(drives / "drive_5", wrong_share=0.0, hours=5)
    capsys.readouterr()
    assert evaluate(drives, tmp_path / "new", bundle, "--compare", str(tmp_path / "old")) == 3
    fallen = json.loads((tmp_path / "new" / "metrics.json").read_text(encoding="utf-8"))["fallen"]
    assert [Path(each["drive"]).name for each in fallen] == ["drive_1"]
    assert "1 of 6 drives fell" in capsys.readouterr().out


def test_a_missed_gate_ends_with_3_and_figures_of_the_fleet_can_be_gates(
    tmp_path: Path, bundle: Path, made_drives: Path
) -> None:
    assert evaluate(made_drives, tmp_path / "a", bundle, "--at-most", "failed_drives=0") == 3
    assert evaluate(made_drives, tmp_path / "b", bundle, "--at-most", "failed_drives=1") == 0


def test_strict_ends_at_the_first_bad_drive(tmp_path: Path, bundle: Path, made_drives: Path) -> None:
    assert evaluate(made_drives, tmp_path / "out", bundle, "--strict") == 1
    assert not (tmp_path / "out" / "metrics.json").exists()


def test_unlabelled_drives_are_ranked_by_trust(tmp_path: Path, bundle: Path) -> None:
    for name, confidence in (("sure", 250), ("unsure", 60), ("middling", 150)):
        write_drive(tmp_path / "drives" / name, labelled=False, confidence=confidence, wrong_share=0.5)
    assert evaluate(tmp_path / "drives", tmp_path / "out", bundle) == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8"))
    assert [Path(each["drive"]).name for each in metrics["least_trusted_drives"]] == ["unsure", "middling", "sure"]
    assert metrics["miou_present"] is None
    assert "--unlabelled" in lines_of(tmp_path / "out")["unsure"]["command"]


def test_a_gpu_is_not_asked_of_the_workers_of_a_cluster(
    tmp_path: Path, bundle: Path, made_drives: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(made_drives, tmp_path / "out", bundle, "--ray", "local[1]", "--device", "cuda") == 1
    assert "leave out --device cuda" in capsys.readouterr().err


def test_tags_make_groups_and_unknown_drives_are_told(
    tmp_path: Path, bundle: Path, made_drives: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tags.csv").write_text("drive,weather\ndrive_0,rain\ndrive_4,rain\nnone,fog\n", encoding="utf-8")
    assert evaluate(made_drives, tmp_path / "out", bundle, "--tags", str(tmp_path / "tags.csv")) == 0
    weather = json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8"))["groups"]["weather"]
    assert weather["rain"]["pixel_accuracy"] == 0.75
    assert weather["no tag"]["images"] == 12
    assert "names none" in capsys.readouterr().err
