from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from training.network_study import main


@pytest.fixture
def study(small_settings: list[str], generated_data: Path, tmp_path: Path) -> Path:
    content = {
        "segmenter": "training/configs/segmenter_slim.yaml",
        "output": str(tmp_path / "runs"),
        "figures": str(tmp_path / "figures"),
        "coarse": str(tmp_path / "coarse"),
        "settings": [
            *(setting for setting in small_settings if "self_training" not in setting),
            "self_training.batch_size=0",
            "steps=1",
            f"data.validation.other_weather={generated_data / 'validation'}",
        ],
        "networks": {"slim_fpn": []},
        "coarse_labels": ["slim_fpn"],
    }
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_runs_are_made_once_and_the_page_has_them(study: Path, tmp_path: Path) -> None:
    arguments = ["--config", str(study), "--out", str(tmp_path / "docs" / "study.md")]
    main([*arguments, "--only", "coarse"])
    page = (tmp_path / "docs" / "study.md").read_text(encoding="utf-8")
    assert "1 of 2 runs were made" in page
    figures = tmp_path / "figures" / "slim_fpn" / "labels" / "coarse.json"
    assert set(json.loads(figures.read_text())["miou"]) == {"day", "night", "other_weather"}
    made = figures.stat().st_mtime_ns
    main(arguments)
    assert figures.stat().st_mtime_ns == made
    assert "2 of 2 runs were made" in (tmp_path / "docs" / "study.md").read_text(encoding="utf-8")


def test_a_run_that_is_not_there_is_named(study: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no run is called focal"):
        main(["--config", str(study), "--only", "focal", "--out", str(tmp_path / "study.md")])
