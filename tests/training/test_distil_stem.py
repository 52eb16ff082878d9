from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from darkseg_ros.errors import InputError
from training import distil_stem
from training.adaptation.teacher import load_teacher
from training.distil_stem import distil, main, student_of, unexplained_variance
from training.networks.build import batch_norm_layers, build_network
from training.networks.config import NetworkConfig
from training.networks.dense_stem import ENCODER_NAME
from training.runs.checkpoints import load_checkpoint, save_checkpoint


def write_segmenter(path: Path, config: NetworkConfig) -> Path:
    """A segmenter with random weights, whose normalisations fit its features, as training leaves them."""
    torch.manual_seed(0)
    network = build_network(config).train()
    for layer in batch_norm_layers(network):
        layer.momentum = None  # the plain mean over all that is seen
    network(torch.randn(2, 3, 64, 64))
    save_checkpoint(path, {"step": 1, "config": {"network": asdict(config)}, "teacher": network.state_dict()})
    return path


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_segmenter(tmp_path / "segmenter.pt", NetworkConfig(options={"channels": 8}))


def test_a_stem_of_a_few_steps_starts_a_run_with_the_other_blocks_of_its_teacher(
    checkpoint: Path, tmp_path: Path, generated_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "stem.pt"
    folders = ["--source", str(generated_data / "source"), "--night", str(generated_data / "night")]
    main(["--checkpoint", str(checkpoint), *folders, "--out", str(out), "--steps", "3", "--accelerator", "cpu"])
    assert f"wrote {out}; in the last steps its stem explains" in capsys.readouterr().out

    teacher, _ = load_teacher(checkpoint)
    config = NetworkConfig(encoder=ENCODER_NAME, encoder_weights=str(out), options={"channels": 8})
    started = build_network(config).encoder.state_dict()
    for name, value in teacher.encoder.state_dict().items():
        if name in started:
            torch.testing.assert_close(started[name], value)
    assert sum(name.startswith("features.") for name in started) == sum(
        name.startswith("features.") and 4 <= int(name.split(".")[1]) < 18 for name in teacher.encoder.state_dict()
    )
    trained = load_checkpoint(out)["teacher"]["encoder.stem.layers.0.1.running_mean"]
    assert trained.abs().max() > 0  # it has seen images


def test_it_learns(checkpoint: Path, tmp_path: Path, generated_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distil_stem, "_WARMUP_STEPS", 1)
    few, more = (
        distil(
            checkpoint,
            [generated_data / "source"],
            generated_data / "night",
            out=tmp_path / "stem.pt",
            steps=steps,
            accelerator="cpu",
        )
        for steps in (1, 6)
    )
    assert more > few


def test_the_unexplained_variance_is_worked_by_hand() -> None:
    wanted = torch.tensor([[[[0.0, 2.0]], [[10.0, 30.0]]]])  # variances 2 and 200
    answer = torch.tensor([[[[0.0, 1.0]], [[10.0, 30.0]]]])  # squared errors 0.5 and 0
    assert unexplained_variance(answer, wanted).item() == pytest.approx(0.125)


def test_another_encoder_is_refused_by_name(tmp_path: Path) -> None:
    path = write_segmenter(tmp_path / "resnet.pt", NetworkConfig(encoder="resnet18", options={"channels": 8}))
    network, _ = load_teacher(path)
    with pytest.raises(
        InputError, match=r"the encoder of .*resnet\.pt is no MobileNetV2 .*network\.encoder=mobilenet_v2"
    ):
        student_of(network.encoder, path)


def test_no_step_is_refused(checkpoint: Path, tmp_path: Path, generated_data: Path) -> None:
    with pytest.raises(InputError, match="--steps is 0; expected at least 1"):
        distil(checkpoint, [generated_data / "source"], generated_data / "night", out=tmp_path / "stem.pt", steps=0)
    assert not (tmp_path / "stem.pt").exists()
