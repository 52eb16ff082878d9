from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from darkseg_ros.classes import IGNORE_INDEX, NUM_CLASSES
from darkseg_ros.errors import InputError
from training.checkpoints import load_checkpoint, save_checkpoint
from training.segmenter_config import load_config
from training.train_segmenter import segmentation_loss, set_learning_rate, train

CONFIG = Path("training/configs/segmenter_slim.yaml")
REPOSITORY = Path(__file__).parents[2]


EQUAL = torch.ones(NUM_CLASSES)


def run_training(overrides: list[str]) -> None:
    train(load_config(REPOSITORY / CONFIG, overrides))


def test_a_run_killed_in_the_middle_and_started_again_ends_like_an_uninterrupted_one(
    small_run: list[str], tmp_path: Path
) -> None:
    run_training([*small_run, f"output={tmp_path / 'whole'}"])

    killed = tmp_path / "killed"
    command = [sys.executable, "-m", "training.train_segmenter", "--config", str(CONFIG), *small_run]
    process = subprocess.Popen([*command, f"output={killed}", "steps=4"], cwd=REPOSITORY, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    last = killed / "checkpoints" / "last.pt"
    while process.poll() is None and time.monotonic() < deadline:
        if last.is_file() and load_checkpoint(last)["step"] >= 2:
            process.kill()
        time.sleep(0.005)
    process.communicate()
    stopped_at = load_checkpoint(last)["step"]
    if process.returncode == 0 or stopped_at == 4:
        pytest.skip("the run ended before it could be killed on this machine")
    run_training([*small_run, f"output={killed}"])

    whole, resumed = (load_checkpoint(run / "checkpoints" / "last.pt") for run in (tmp_path / "whole", killed))
    assert resumed["step"] == whole["step"] == 4
    for part in ("student", "teacher"):
        for name, value in whole[part].items():
            torch.testing.assert_close(resumed[part][name], value, rtol=0, atol=0, msg=f"{part} {name}")


def test_a_run_writes_metrics_of_both_validation_sets(small_run: list[str], tmp_path: Path) -> None:
    run_training([*small_run, "steps=1"])
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert set(metrics) == {"day", "night"}
    assert metrics["day"]["images"] == 2
    assert 0 <= metrics["night"]["miou_present"] <= 1


def test_the_network_can_learn_one_batch_by_heart() -> None:
    """Loss of a memorised batch falls to a fraction of its start."""
    from training.slim_fpn import SlimFpn

    torch.manual_seed(0)
    network = SlimFpn(channels=16).train()
    images, labels = torch.randn(2, 3, 64, 64), torch.zeros(2, 64, 64, dtype=torch.int64)
    images[:, :, :32] += 2.0  # the upper half is brighter, and sky
    labels[:, :32] = 10
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-2)
    losses = []
    for _ in range(40):
        loss = segmentation_loss(network(images), labels, weights=EQUAL, stride=2)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]


def test_loss_of_uniform_logits_is_the_logarithm_of_the_class_count() -> None:
    logits = torch.zeros(1, NUM_CLASSES, 4, 4)
    labels = torch.full((1, 16, 16), 3)
    assert segmentation_loss(logits, labels, weights=EQUAL, stride=2).item() == pytest.approx(
        2.944439, abs=1e-5
    )  # ln 19


def test_loss_is_the_mean_weighted_by_the_class_of_the_label() -> None:
    logits = torch.zeros(1, NUM_CLASSES, 4, 4)
    logits[:, 3, :, 2:] = 50.0  # the right half is surely class 3, the left half undecided
    labels = torch.full((1, 16, 16), 3)
    labels[:, :, :8] = 7
    weights = torch.ones(NUM_CLASSES)
    weights[7] = 3.0
    loss = segmentation_loss(logits[..., [0, 0, 3, 3]], labels, weights=weights, stride=4)
    assert loss.item() == pytest.approx(3 * 2.944439 / 4, abs=1e-4)  # (3 · ln 19 + 1 · 0) / (3 + 1)


def test_loss_does_not_count_unlabelled_pixels_and_is_zero_without_labelled_ones() -> None:
    logits = torch.zeros(1, NUM_CLASSES, 4, 4)
    logits[:, 5] = 100.0
    labels = torch.full((1, 16, 16), IGNORE_INDEX)
    assert segmentation_loss(logits, labels, weights=EQUAL, stride=2).item() == 0
    labels[:, :8] = 5
    assert segmentation_loss(logits, labels, weights=EQUAL, stride=2).item() == pytest.approx(0, abs=1e-6)


def test_learning_rate_rises_linearly_and_ends_at_its_final_factor() -> None:
    config = load_config(REPOSITORY / CONFIG, ["steps=100", "optimiser.warmup_steps=10", "optimiser.final_factor=0.1"])
    optimiser = torch.optim.SGD([{"params": [torch.zeros(1)], "peak_lr": 2.0}], lr=1.0)
    set_learning_rate(optimiser, config, 0)
    assert optimiser.param_groups[0]["lr"] == pytest.approx(0.2)  # 2 · 1/10
    set_learning_rate(optimiser, config, 50)
    assert optimiser.param_groups[0]["lr"] == pytest.approx(2 * 0.55)  # half-way between 0.1 and 1
    set_learning_rate(optimiser, config, 100)
    assert optimiser.param_groups[0]["lr"] == pytest.approx(0.2)


def test_a_checkpoint_of_other_settings_is_refused_and_named(small_run: list[str]) -> None:
    run_training([*small_run, "steps=1"])
    with pytest.raises(InputError, match=r"other settings of .*optimiser.*start_checkpoint"):
        run_training([*small_run, "steps=1", "optimiser.encoder_lr=1"])


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_good_checkpoint(
    small_run: list[str], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"loss is (nan|inf) at step [0-3]; the last good state"):
        run_training([*small_run, "optimiser.decoder_lr=1e30", "optimiser.encoder_lr=1e30", "optimiser.warmup_steps=0"])
    state = load_checkpoint(tmp_path / "run" / "checkpoints" / "last.pt")
    assert state["step"] >= 1


@pytest.mark.parametrize(
    "path", sorted((REPOSITORY / "training" / "configs").glob("*.yaml")), ids=lambda path: path.stem
)
def test_every_shipped_config_is_complete_and_says_what_it_cost(path: Path) -> None:
    assert load_config(path, []).steps > 0
    assert "# Cost and result:" in path.read_text(encoding="utf-8")


def test_an_unknown_key_is_an_error_that_names_it() -> None:
    with pytest.raises(InputError, match="batchsize"):
        load_config(REPOSITORY / CONFIG, ["batchsize=3"])


def test_a_missing_image_folder_is_named(small_run: list[str]) -> None:
    with pytest.raises(InputError, match=r"nowhere.*DARKSEG_DATA"):
        run_training([*small_run, "data.night=nowhere"])


def test_a_truncated_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"step": 1, "weights": torch.zeros(1000)})
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match="no whole checkpoint"):
        load_checkpoint(path)


def test_a_checkpoint_of_another_network_is_named_with_its_cure(small_run: list[str], tmp_path: Path) -> None:
    run_training([*small_run, "steps=1"])
    start = tmp_path / "run" / "checkpoints" / "last.pt"
    with pytest.raises(InputError, match=r"last\.pt holds a network of other encoder or channels"):
        run_training(
            [*small_run, f"output={tmp_path / 'other'}", "network.channels=16", f"network.start_checkpoint={start}"]
        )


def test_a_checkpoint_that_cannot_be_written_leaves_the_last_one(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"step": 1})
    with pytest.raises(InputError, match="cannot be written"):
        save_checkpoint(path, {"step": 2, "weights": FullDisk()})
    assert load_checkpoint(path)["step"] == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["last.pt"]


class FullDisk:
    """Fails while it is written."""

    def __reduce__(self) -> str:
        raise OSError(28, "No space left on device")
