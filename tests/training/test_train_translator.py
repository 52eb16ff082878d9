from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from omegaconf import DictConfig

from darkseg_ros.errors import InputError
from darkseg_ros.model.translator import Translator
from darkseg_ros.synthetic_drive import SyntheticDrive
from engines.export_translator import export_translator
from training.runs import loop
from training.runs.checkpoints import load_checkpoint, save_checkpoint
from training.runs.config import load_config
from training.train_translator import main, train
from training.translate import main as translate_main
from training.translation.catalogue import TRANSLATORS, translator_kind
from training.translation.load import load_translator

REPOSITORY = Path(__file__).parents[2]
NAMES = ("cyclegan", "pix2pix")


def config_of(name: str) -> Path:
    return REPOSITORY / "training" / "configs" / f"{name}_mini.yaml"


def loaded(name: str, overrides: list[str]) -> DictConfig:
    return load_config(translator_kind(name).schema, config_of(name), overrides)


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """day/ and night/ of the same generated places."""
    root = tmp_path_factory.mktemp("pairs")
    for light, night in (("day", False), ("night", True)):
        (root / light).mkdir()
        drive = SyntheticDrive(seed=1, size_hw=(64, 64), night=night)
        for index in range(4):
            cv2.imwrite(str(root / light / f"{index}.png"), drive.frame(index * 10).bgr)
    return root


@pytest.fixture
def small(pairs: Path, tmp_path: Path) -> list[str]:
    """Overrides for a run of a second."""
    return [
        f"output={tmp_path / 'run'}",
        "steps=4",
        "batch_size=2",
        "save_every=1",
        "evaluate_every=4",
        "loader_workers=0",
        "accelerator=cpu",
        "view_px=32",
        "crop_px=16",
        f"data.day=[{pairs / 'day'}]",
        f"data.night=[{pairs / 'night'}]",
        "network.channels=4",
        "network.discriminator_channels=4",
        "network.discriminator_layers=2",
        "optimiser.lr=1e-3",
    ]


def of_its_own(name: str) -> list[str]:
    return {
        "cyclegan": ["network.residual_blocks=1", "pool_size=3"],
        "pix2pix": ["network.downsamplings=4"],
    }[name]


def last(run: Path) -> dict[str, Any]:
    return load_checkpoint(run / "checkpoints" / "last.pt")


@pytest.mark.parametrize("name", NAMES)
def test_a_run_stopped_in_the_middle_and_started_again_ends_like_an_uninterrupted_one(
    name: str, small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = [*small, *of_its_own(name)]
    train(loaded(name, [*settings, f"output={tmp_path / 'whole'}"]))

    def save_twice(path: Path, state: dict[str, Any]) -> None:
        save_checkpoint(path, state)
        if state["step"] == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(loop, "save_checkpoint", save_twice)
        with pytest.raises(KeyboardInterrupt):
            train(loaded(name, [*settings, f"output={tmp_path / 'stopped'}"]))
    torch.rand(7)  # a new process stands elsewhere in its random numbers
    train(loaded(name, [*settings, f"output={tmp_path / 'stopped'}"]))
    whole, resumed = last(tmp_path / "whole"), last(tmp_path / "stopped")
    assert resumed["step"] == whole["step"] == 4
    for part, state in whole.items():
        if part not in ("config", "step", "inputs", "ancestors"):
            torch.testing.assert_close(resumed[part], state, rtol=0, atol=0, msg=part)


@pytest.mark.parametrize("name", NAMES)
def test_a_trained_translator_translates_a_folder_and_runs_as_a_bundle(
    name: str, small: list[str], pairs: Path, tmp_path: Path
) -> None:
    config = tmp_path / "own.yaml"
    config.write_text(config_of(name).read_text())
    main(["--config", str(config), *small, *of_its_own(name), "steps=1"])
    checkpoint = tmp_path / "run" / "checkpoints" / "last.pt"
    sheet = cv2.imread(str(tmp_path / "run" / "samples" / "step_000001.png"))
    assert sheet.shape == ({"cyclegan": 5, "pix2pix": 3}[name] * 32, 4 * 32, 3)
    np.testing.assert_array_equal(
        sheet[:32, :32], cv2.resize(cv2.imread(str(pairs / "day" / "0.png")), (32, 32), interpolation=cv2.INTER_AREA)
    )

    arguments = ["--checkpoint", str(checkpoint), "--source", str(pairs / "day"), "--unlabelled"]
    translate_main([*arguments, "--out", str(tmp_path / "night"), "--resize-px", "32"])
    assert len(list((tmp_path / "night" / "image").iterdir())) == 4

    bundle = export_translator(checkpoint, name="small", out=tmp_path / "engines", input_hw=(32, 48))
    assert TRANSLATORS[name].source in (bundle / "MODEL_CARD.md").read_text(encoding="utf-8")
    bgr = np.random.default_rng(0).integers(0, 256, (32, 48, 3)).astype(np.uint8)
    translator, _ = load_translator(checkpoint)
    with torch.no_grad():
        rgb = torch.from_numpy(bgr[:, :, ::-1].copy()).permute(2, 0, 1)[None] / 127.5 - 1
        expected = ((translator(rgb)[0].permute(1, 2, 0).numpy() + 1) * 127.5).clip(0, 255)[:, :, ::-1]
    assert np.abs(Translator.open(bundle, backend="onnxruntime")(bgr) - expected).max() <= 1


def test_two_processes_of_cyclegan_end_like_one(small: list[str], tmp_path: Path) -> None:
    settings = [*small, *of_its_own("cyclegan"), "save_every=4", "precision=64-true"]
    for run, seed in (("one", 0), ("other_seed", 1)):
        train(loaded("cyclegan", [*settings, f"output={tmp_path / run}", f"seed={seed}"]))
    finished = subprocess.run(
        [sys.executable, "-m", "training.train_translator", "--config", str(config_of("cyclegan")), *settings]
        + [f"output={tmp_path / 'two'}", "devices=2"],
        cwd=REPOSITORY,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr

    def difference(one: str, other: str, part: str) -> float:
        states = (last(tmp_path / one)[part], last(tmp_path / other)[part])
        return (
            torch.cat([(states[0][name] - states[1][name]).abs().flatten().double() for name in states[0]])
            .mean()
            .item()
        )

    for part in ("cyclegan", "discriminators", "day_pool", "night_pool"):
        # the pools hold single precision
        assert difference("one", "two", part) < 1e-6, part
        assert difference("one", "other_seed", part) > 1e-3, "the tolerance must be able to fail"


@pytest.mark.parametrize(
    ("name", "override", "message"),
    [
        ("cyclegan", "crop_px=18", r"crop_px is 18; expected a multiple of 4, such as (16|20)"),
        ("cyclegan", "network.discriminator_layers=3", r"discriminators of 3 layers need 24 or more"),
        ("cyclegan", "pool_size=-1", r"pool_size is -1; expected 0 or more"),
        ("pix2pix", "view_px=40", r"view_px is 40; expected a multiple of 16, such as 32"),
        ("pix2pix", "network.downsamplings=1", r"expected 2…10"),
        ("pix2pix", "translator=stargan", r"there is no translator stargan; expected one of unit, cyclegan, pix2pix"),
    ],
)
def test_unusable_settings_are_refused_before_any_step(
    name: str, override: str, message: str, small: list[str], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        train(loaded(name, [*small, *of_its_own(name), override]))
    assert not (tmp_path / "run").exists()


def test_an_image_without_partner_is_named(small: list[str], pairs: Path, tmp_path: Path) -> None:
    (tmp_path / "night").mkdir()
    for index in range(3):
        (tmp_path / "night" / f"{index}.png").write_bytes((pairs / "night" / f"{index}.png").read_bytes())
    with pytest.raises(InputError, match=r"day/3\.png has no partner by night; add 3\.\* there"):
        train(loaded("pix2pix", [*small, *of_its_own("pix2pix"), f"data.night=[{tmp_path / 'night'}]"]))


@pytest.mark.parametrize(
    ("content", "message"),
    [("translator: stargan\n", "there is no translator stargan"), ("- a\n", "holds no settings"), (None, "no config")],
)
def test_a_file_that_names_no_translator_is_refused_in_one_line(
    content: str | None, message: str, tmp_path: Path
) -> None:
    config = tmp_path / "own.yaml"
    if content is not None:
        config.write_text(content)
    with pytest.raises(SystemExit, match=rf"^train_translator: [^\n]*{message}[^\n]*$"):
        main(["--config", str(config)])
