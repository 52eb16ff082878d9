from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from darkseg_ros.errors import InputError
from training import train_unit
from training.data.image_lists import find_domain_images
from training.runs import loop
from training.runs.checkpoints import load_checkpoint, save_checkpoint
from training.runs.config import load_config
from training.train_unit import train
from training.translation.load import load_translator
from training.translation.optimiser import set_learning_rate
from training.translation.samples import UnpairedSamples
from training.translation.unit.config import UnitConfig

REPOSITORY = Path(__file__).parents[2]
CONFIG = Path("training/configs/unit_mini_no_perceptual.yaml")
PARTS = ("unit", "averaged_unit", "discriminators")


def run_training(overrides: list[str]) -> None:
    train(load_config(UnitConfig, REPOSITORY / CONFIG, overrides))


@pytest.fixture
def small_unit_run(generated_data: Path, tmp_path: Path) -> list[str]:
    """Overrides of the config for a run of seconds."""
    return [
        f"output={tmp_path / 'run'}",
        "steps=4",
        "batch_size=2",
        "save_every=1",
        "loader_workers=0",
        "accelerator=cpu",
        "view_px=32",
        "crop_px=16",
        f"data.day=[{generated_data / 'source' / 'image'}]",
        f"data.night=[{generated_data / 'night'}]",
        "network.channels=4",
        "network.residual_blocks=2",
        "network.discriminator_channels=4",
        "network.discriminator_layers=2",
        "network.discriminator_scales=2",
        "optimiser.lr=1e-3",
    ]


def assert_equal_states(one: dict[str, Any], other: dict[str, Any]) -> None:
    for part in PARTS:
        for name, value in one[part].items():
            torch.testing.assert_close(other[part][name], value, rtol=0, atol=0, msg=f"{part} {name}")
    for part in ("unit_optimiser", "discriminator_optimiser"):
        for index, values in one[part]["state"].items():
            for name, value in values.items():
                torch.testing.assert_close(
                    other[part]["state"][index][name], value, rtol=0, atol=0, msg=f"{part} {index} {name}"
                )


def test_a_run_stopped_in_the_middle_and_started_again_ends_like_an_uninterrupted_one(
    small_unit_run: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_training([*small_unit_run, f"output={tmp_path / 'whole'}"])

    def save_twice(path: Path, state: dict[str, Any]) -> None:
        save_checkpoint(path, state)
        if state["step"] == 2:
            raise KeyboardInterrupt

    stopped = tmp_path / "stopped"
    with monkeypatch.context() as patched:
        patched.setattr(loop, "save_checkpoint", save_twice)
        with pytest.raises(KeyboardInterrupt):
            run_training([*small_unit_run, f"output={stopped}"])
    assert load_checkpoint(stopped / "checkpoints" / "last.pt")["step"] == 2
    torch.rand(7)  # a new process stands elsewhere in its random numbers
    run_training([*small_unit_run, f"output={stopped}"])

    whole, resumed = (load_checkpoint(run / "checkpoints" / "last.pt") for run in (tmp_path / "whole", stopped))
    assert resumed["step"] == whole["step"] == 4
    assert_equal_states(whole, resumed)


def test_two_processes_end_like_one(small_unit_run: list[str], tmp_path: Path) -> None:
    # In double precision: Adam divides by the gradient's size, so where that is nearly 0 rounding would show.
    overrides = [*small_unit_run, "steps=3", "save_every=3", "evaluate_every=3", "precision=64-true"]
    run_training([*overrides, f"output={tmp_path / 'one'}"])
    run_training([*overrides, f"output={tmp_path / 'other_seed'}", "seed=1"])
    command = [sys.executable, "-m", "training.train_unit", "--config", str(CONFIG), *overrides]
    finished = subprocess.run(
        [*command, f"output={tmp_path / 'two'}", "devices=2"],
        cwd=REPOSITORY,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert finished.returncode == 0, finished.stderr

    one, two, other = (
        load_checkpoint(tmp_path / run / "checkpoints" / "last.pt") for run in ("one", "two", "other_seed")
    )
    for part in PARTS:
        assert mean_difference(one[part], two[part]) < 1e-9, part
        assert mean_difference(one[part], other[part]) > 1e-3, "the tolerance must be able to fail"


def mean_difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    return torch.cat([(one[name] - other[name]).abs().flatten() for name in one]).mean().item()


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_good_checkpoint(
    small_unit_run: list[str], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"loss is (nan|inf) at step [1-3]; the last good state"):
        run_training([*small_unit_run, "optimiser.lr=1e30"])
    state = load_checkpoint(tmp_path / "run" / "checkpoints" / "last.pt")
    assert state["step"] >= 1


def test_a_run_leaves_a_sample_sheet_of_six_rows_and_a_translator(
    small_unit_run: list[str], generated_data: Path, tmp_path: Path
) -> None:
    run_training([*small_unit_run, "steps=2", "evaluate_every=1"])
    sheets = sorted((tmp_path / "run" / "samples").iterdir())
    assert [sheet.name for sheet in sheets] == ["step_000001.png", "step_000002.png"]
    sheet = cv2.imread(str(sheets[-1]))
    assert sheet.shape == (6 * 32, 4 * 32, 3)  # four night images
    for row, image in ((0, generated_data / "source" / "image" / "0.png"), (4, generated_data / "night" / "0.png")):
        expected = cv2.resize(cv2.imread(str(image)), (32, 32), interpolation=cv2.INTER_AREA)
        np.testing.assert_array_equal(sheet[row * 32 : (row + 1) * 32, :32], expected)
    translator, config = load_translator(tmp_path / "run" / "checkpoints" / "last.pt")
    assert config["view_px"] == 32
    day_rgb = torch.from_numpy(np.ascontiguousarray(sheet[:32, :32, ::-1])).permute(2, 0, 1)[None] / 127.5 - 1
    translated_bgr = ((translator(day_rgb)[0].permute(1, 2, 0) + 1) * 127.5).numpy()[:, :, ::-1]
    np.testing.assert_allclose(sheet[32:64, :32], translated_bgr, atol=0.51 + 1e-3)


def test_the_perceptual_term_is_trained_with_and_needs_its_weights(small_unit_run: list[str], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"weights.perceptual is set without perceptual.vgg_weights"):
        run_training([*small_unit_run, "weights.perceptual=1"])
    with pytest.raises(InputError, match=r"no VGG-16 weights .*absent"):
        run_training([*small_unit_run, "weights.perceptual=1", f"perceptual.vgg_weights={tmp_path / 'absent'}"])
    state = {
        "features.0.weight": torch.randn(2, 3, 3, 3, generator=torch.Generator().manual_seed(0)),
        "features.0.bias": torch.ones(2),
    }
    torch.save(state, tmp_path / "vgg.pth")
    short = [*small_unit_run, "steps=2", "perceptual.layer=relu1_1", f"perceptual.vgg_weights={tmp_path / 'vgg.pth'}"]
    run_training([*short, f"output={tmp_path / 'with'}", "weights.perceptual=100"])
    run_training([*short, f"output={tmp_path / 'without'}"])
    weights = [load_checkpoint(tmp_path / run / "checkpoints" / "last.pt")["unit"] for run in ("with", "without")]
    assert mean_difference(weights[0], weights[1]) > 1e-5


def test_a_checkpoint_of_other_settings_is_refused_and_named(small_unit_run: list[str]) -> None:
    run_training([*small_unit_run, "steps=1"])
    with pytest.raises(InputError, match=r"other settings of .*weights.*another output"):
        run_training([*small_unit_run, "steps=1", "weights.gan=1"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("crop_px=18", r"crop_px is 18; expected a multiple of 4, such as (16|20)"),
        ("view_px=0", r"view_px is 0; expected a multiple of 4, such as 4"),
        ("crop_px=36", r"crop_px is 36, larger than view_px, 32"),
        ("network.discriminator_layers=4", r"crop_px is 16; discriminators of 4 layers and 2 scales need 32 or more"),
        ("data.day=[]", r"need a folder each"),
        ("data.night=[absent]", r"absent is not a folder"),
    ],
)
def test_unusable_settings_are_refused_before_any_step(
    override: str, message: str, small_unit_run: list[str], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        run_training([*small_unit_run, override])
    assert not (tmp_path / "run").exists()


def test_an_unreadable_image_is_named(small_unit_run: list[str], tmp_path: Path) -> None:
    (tmp_path / "night").mkdir()
    (tmp_path / "night" / "torn.jpg").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"torn.jpg cannot be decoded"):
        run_training([*small_unit_run, f"data.night=[{tmp_path / 'night'}]"])


def test_an_error_in_a_loader_process_is_one_line(small_unit_run: list[str], tmp_path: Path) -> None:
    (tmp_path / "night").mkdir()
    (tmp_path / "night" / "torn.jpg").write_bytes(b"no picture")
    changed = [f"data.night=[{tmp_path / 'night'}]", "loader_workers=1"]
    with pytest.raises(SystemExit, match=r"^train_unit: [^\n]*torn\.jpg cannot be decoded[^\n]*$"):
        train_unit.main(["--config", str(REPOSITORY / CONFIG), *small_unit_run, *changed])


def test_folders_form_one_pool_and_a_list_narrows_its_only_folder(generated_data: Path, tmp_path: Path) -> None:
    source, validation = generated_data / "source" / "image", generated_data / "validation" / "image"
    assert find_domain_images([str(source), str(validation)], None) == [
        *(source / f"{i}.png" for i in range(6)),
        *(validation / f"{i}.png" for i in range(2)),
    ]
    chosen = tmp_path / "chosen.txt"
    chosen.write_text("4.png\n1.png\n")
    assert find_domain_images([str(source)], str(chosen)) == [source / "1.png", source / "4.png"]
    with pytest.raises(InputError, match=r"chosen.txt lists images of one folder, got 2"):
        find_domain_images([str(source), str(validation)], str(chosen))


def test_what_stands_at_a_position_is_a_function_of_seed_and_position(generated_data: Path) -> None:
    day, night = (
        find_domain_images([str(generated_data / "source" / "image")], None),
        [generated_data / "night" / "1.png"],
    )

    def samples(seed: int) -> UnpairedSamples:
        return UnpairedSamples(day, night, view_px=32, crop_px=16, noise_shape=(4, 8, 4, 4), seed=seed)

    first, again, other = samples(0), samples(0), samples(1)
    again[3]
    for name, value in first[7].items():
        assert torch.equal(value, again[7][name]), name
        assert not torch.equal(value, other[7][name]), name
        assert not torch.equal(value, first[8][name]), name
    assert first[7]["noise"].shape == (4, 8, 4, 4)
    assert first[7]["day"].shape == (3, 16, 16)


def test_noise_is_standard_normal_and_images_reach_from_minus_one_to_one(tmp_path: Path) -> None:
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[:8] = (0, 128, 255)  # orange above black, in BGR
    cv2.imwrite(str(tmp_path / "orange.png"), pixels)
    images = [tmp_path / "orange.png"]
    sample = UnpairedSamples(images, images, view_px=16, crop_px=16, noise_shape=(4, 64, 4, 4), seed=0)[0]
    assert sample["day"][:, 0, 0].tolist() == pytest.approx([1.0, 128 / 127.5 - 1, -1.0], abs=1e-6)
    assert sample["day"][:, -1, 0].tolist() == [-1.0, -1.0, -1.0]
    assert sample["noise"].mean().item() == pytest.approx(0, abs=0.05)  # 4096 draws: six standard errors are 0.09
    assert sample["noise"].std().item() == pytest.approx(1, abs=0.05)


def test_domains_of_equal_size_do_not_always_meet_in_the_same_pairs(generated_data: Path, tmp_path: Path) -> None:
    folder = generated_data / "source" / "image"
    shutil.copytree(folder, tmp_path / "same")
    day, night = (find_domain_images([str(f)], None) for f in (folder, tmp_path / "same"))
    samples = UnpairedSamples(day, night, view_px=64, crop_px=64, noise_shape=(4, 1, 16, 16), seed=0)
    means = [(samples[p]["day"].mean().item(), samples[p]["night"].mean().item()) for p in range(12)]
    assert len({round(day_mean, 5) for day_mean, _ in means[:6]}) == 6  # every image once an epoch
    assert any(abs(day_mean - night_mean) > 1e-4 for day_mean, night_mean in means)


def test_learning_rate_is_constant_for_half_the_run_and_ends_at_zero() -> None:
    config = load_config(UnitConfig, REPOSITORY / CONFIG, ["steps=100", "optimiser.lr=2.0"])
    optimiser = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    rates = []
    for step in (0, 50, 75, 100):
        set_learning_rate(optimiser, config, step)
        rates.append(optimiser.param_groups[0]["lr"])
    assert rates == pytest.approx([2.0, 2.0, 1.0, 0.0])


@pytest.mark.parametrize(
    "path", sorted((REPOSITORY / "training" / "configs").glob("unit_*.yaml")), ids=lambda path: path.stem
)
def test_every_shipped_config_is_complete_and_says_what_it_cost(path: Path) -> None:
    assert load_config(UnitConfig, path, []).steps > 0
    assert "# Cost and result:" in path.read_text(encoding="utf-8")


def test_the_two_mini_configs_differ_in_the_perceptual_term_and_the_folder_only() -> None:
    with_term, without = (
        load_config(UnitConfig, REPOSITORY / "training" / "configs" / name, [])
        for name in ("unit_mini.yaml", "unit_mini_no_perceptual.yaml")
    )
    assert (with_term.weights.perceptual, without.weights.perceptual) == (1, 0)
    without.weights.perceptual = 1.0
    without.perceptual, without.output = with_term.perceptual, with_term.output
    assert with_term == without
