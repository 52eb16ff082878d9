from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from darkseg_ros.errors import InputError
from training.adaptation import teacher
from training.networks.config import NetworkConfig
from training.study.results import figures_file, measure, read_results
from training.study.settings import StudyConfig, StudyRun

RUN = StudyRun(network="fcn", group="loss", change="focal", settings=())


def study_in(folder: Path) -> StudyConfig:
    return StudyConfig(segmenter="s.yaml", output="o", figures=str(folder / "figures"), coarse="c")


def test_a_run_is_measured_in_percent_and_timed_at_its_own_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, seen = torch.nn.Conv2d(3, 2, 1), []
    network.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape)))
    monkeypatch.setattr(teacher, "load_teacher", lambda path: (network, {}))
    night = {"miou_present": 0.25678, "ci95": {"miou_present": [0.2, 0.3]}}
    (tmp_path / "metrics.json").write_text(json.dumps({"night": night, "elsewhere": night}))
    config = OmegaConf.structured(
        {"output": str(tmp_path), "steps": 7, "network": NetworkConfig(input_px=64, width_over_height=2)}
    )
    study = study_in(tmp_path)
    measure(study, RUN, config)
    assert set(seen) == {(1, 3, 64, 128)}
    figures = read_results(study, [RUN])[RUN]
    assert (figures.miou, figures.low, figures.high) == ({"night": 25.68}, {"night": 20.0}, {"night": 30.0})
    assert (figures.steps, figures.parameters) == (7, 8)
    assert figures.latency_ms >= 0


def test_what_was_not_run_has_no_figures_and_others_are_refused(tmp_path: Path) -> None:
    study = study_in(tmp_path)
    assert read_results(study, [RUN]) == {}
    path = figures_file(study, RUN)
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"miou": 1}))
    with pytest.raises(InputError, match=r"holds other figures .*; delete it and run the study again"):
        read_results(study, [RUN])
    path.write_text("half a fi")
    with pytest.raises(InputError, match=r"cannot be read .*; delete it and run the study again"):
        read_results(study, [RUN])


def test_a_run_without_metrics_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"metrics\.json cannot be read"):
        measure(study_in(tmp_path), RUN, OmegaConf.create({"output": str(tmp_path)}))
    assert not (tmp_path / "figures").exists()
