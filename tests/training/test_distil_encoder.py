from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from torch import nn

from darkseg_ros.errors import InputError
from training.distil_encoder import distil, feature_loss, main
from training.networks.build import build_network
from training.networks.config import NetworkConfig
from training.networks.dense_stem import ENCODER_NAME
from training.runs.checkpoints import load_checkpoint, save_checkpoint


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    config = NetworkConfig(encoder="resnet18", options={"channels": 8})
    path = tmp_path / "teacher.pt"
    state = build_network(config).state_dict()
    save_checkpoint(path, {"step": 1, "config": {"network": asdict(config)}, "teacher": state})
    return path


def test_an_encoder_of_another_kind_learns_a_teachers_features_and_starts_a_run(
    teacher: Path, tmp_path: Path, generated_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "encoder.pt"
    main(
        ["--checkpoint", str(teacher), "--images", str(generated_data / "night"), "--encoder", ENCODER_NAME]
        + ["--out", str(out), "--steps", "2", "--batch-size", "2", "--crop-px", "64", "--accelerator", "cpu"]
    )
    assert "of the features' variance" in capsys.readouterr().out
    learned = load_checkpoint(out)["teacher"]
    started = build_network(
        NetworkConfig(encoder=ENCODER_NAME, encoder_weights=str(out), options={"channels": 8})
    ).encoder.state_dict()
    for name, value in started.items():
        torch.testing.assert_close(value, learned[f"encoder.{name}"])


def test_more_steps_explain_more(teacher: Path, tmp_path: Path, generated_data: Path) -> None:
    few, more = (
        distil(
            teacher,
            [generated_data / "night"],
            encoder=ENCODER_NAME,
            encoder_weights=None,
            out=tmp_path / "encoder.pt",
            steps=steps,
            batch_size=2,
            crop_px=64,
            peak_lr=5e-3,
            accelerator="cpu",
        )
        for steps in (1, 8)
    )
    assert more < few


def test_the_teachers_own_features_leave_nothing_unexplained() -> None:
    features = [torch.randn(2, 3, 8, 8), torch.randn(2, 5, 4, 4)]
    same = nn.ModuleList(nn.Conv2d(channels, channels, 1, bias=False) for channels in (3, 5))
    for layer in same:
        nn.init.dirac_(layer.weight)  # type: ignore[arg-type]
    assert feature_loss(features, features, same).item() == pytest.approx(0, abs=1e-9)
    assert feature_loss([each.mean((2, 3), keepdim=True).expand_as(each) for each in features], features, same) > 0.5


def test_a_crop_that_encoders_cannot_take_is_refused(teacher: Path, tmp_path: Path, generated_data: Path) -> None:
    with pytest.raises(InputError, match="multiple of 32"):
        distil(
            teacher,
            [generated_data / "night"],
            encoder=ENCODER_NAME,
            encoder_weights=None,
            out=tmp_path / "encoder.pt",
            steps=1,
            crop_px=100,
        )
