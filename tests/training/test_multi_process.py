from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from darkseg_ros.errors import InputError
from training.data.pairs import find_labelled_images
from training.data.shards import write_shards
from training.runs.checkpoints import load_checkpoint
from training.runs.config import load_config
from training.runs.fabric import start_fabric
from training.segmenter_config import SegmenterConfig
from training.train_segmenter import train

REPOSITORY = Path(__file__).parents[2]
CONFIG = "training/configs/segmenter_panoptic_light.yaml"


@pytest.fixture(scope="module")
def settings(small_settings: list[str]) -> list[str]:
    """A run without anything that depends on the number of processes; its images differ in how much is labelled."""
    return [
        *(setting for setting in small_settings if not setting.startswith("network.options.")),  # of another network
        "network.encoder=resnet18",
        "network.options.pyramid_channels=8",
        "network.options.segmentation_channels=32",
        "network.freeze_batch_norm=true",
        "network.options.dropout=0",
        "augmentation.scale_min=0.3",
        "self_training.mix_share=0.7",
        "cheap_night.share=0.5",
        "optimiser.warmup_steps=1",
        "evaluate_every=2",
        "steps=3",
    ]


@pytest.fixture(scope="module")
def alone(settings: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process."""
    output = tmp_path_factory.mktemp("alone")
    train(load_config(SegmenterConfig, REPOSITORY / CONFIG, [*settings, f"output={output}"]))
    return output


def last_step(run: Path) -> Tensor:
    """What the third step changed: one long vector."""
    before, after = (load_checkpoint(run / "checkpoints" / name) for name in ("step_000002.pt", "last.pt"))
    assert after["step"] == 3
    names = [name for name, value in after["student"].items() if value.is_floating_point()]
    return torch.cat([(after["student"][name] - before["student"][name]).ravel() for name in names])


BY_ITSELF = ("-m", "training.train_segmenter")
FABRIC_RUN = ("-m", "lightning_fabric.cli", "--accelerator", "cpu", "--devices", "2", "training/train_segmenter.py")
"""What `fabric run` runs."""


def run_two_processes(command: tuple[str, ...], settings: list[str]) -> None:
    finished = subprocess.run(
        [sys.executable, *command, "--config", CONFIG, *settings],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert "Starting with 2 processes" in finished.stderr


def refuse_another_end(expected: Tensor, found: Tensor) -> None:
    """Rounding alone makes 1e-5, or up to 0.04 where AdamW turns the sign of a gradient near 0; each process taking its
    own mean makes 0.7.
    """
    assert (found - expected).norm() < 0.1 * expected.norm()


def test_two_processes_end_where_one_does(settings: list[str], alone: Path, tmp_path: Path) -> None:
    run_two_processes(BY_ITSELF, [*settings, f"output={tmp_path}", "devices=2"])
    refuse_another_end(last_step(alone), last_step(tmp_path))
    assert json.loads((tmp_path / "metrics.json").read_text()).keys() == {"day", "night"}


def test_two_processes_of_fabric_run_that_read_shards_of_their_own_end_where_one_does(
    settings: list[str], generated_data: Path, tmp_path: Path
) -> None:
    shards = tmp_path / "shards"
    assert write_shards(find_labelled_images(generated_data / "source"), shards, data_set="plain", shard_bytes=1) == 6
    sharded = [*settings, f"data.source=[{{folder: {shards}, data_set: shards}}]", "data.shard_groups=2"]
    train(load_config(SegmenterConfig, REPOSITORY / CONFIG, [*sharded, f"output={tmp_path / 'one'}"]))
    run_two_processes(FABRIC_RUN, [*sharded, f"output={tmp_path / 'two'}"])
    refuse_another_end(last_step(tmp_path / "one"), last_step(tmp_path / "two"))


def test_a_precision_that_the_checkpoints_would_not_name_is_refused(
    settings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LT_PRECISION", "bf16-mixed")
    with pytest.raises(InputError, match=r"--precision bf16-mixed, the config 32-true.*precision=bf16-mixed"):
        start_fabric(load_config(SegmenterConfig, REPOSITORY / CONFIG, settings))
