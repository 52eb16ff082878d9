from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from darkseg_ros.errors import InputError
from tests.training.test_distil_stem import write_segmenter
from training import distil_blocks
from training.adaptation.teacher import load_teacher
from training.data.augmentation import Augmentation
from training.distil_blocks import distil, main
from training.networks import dense_blocks, dense_stem
from training.networks.config import NetworkConfig
from training.runs.checkpoints import load_checkpoint


@pytest.fixture(autouse=True)
def _small_images_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distil_blocks, "Augmentation", partial(Augmentation, view_px=64, crop_px=64))
    monkeypatch.setattr(distil_blocks, "_LOADER_WORKERS", 0)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_segmenter(
        tmp_path / "segmenter.pt", NetworkConfig(encoder=dense_stem.ENCODER_NAME, options={"channels": 8})
    )


@pytest.fixture
def folders(generated_data: Path) -> dict[str, Any]:
    return {"day": [generated_data / "source" / "image"], "night": [generated_data / "night"], "accelerator": "cpu"}


def test_fitted_blocks_stand_among_the_other_parts_of_their_teacher(
    checkpoint: Path, tmp_path: Path, folders: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "student.pt"
    paths = ["--day", *map(str, folders["day"]), "--night", *map(str, folders["night"])]
    sizes = ["--fit-images", "8", "--steps", "0", "--accelerator", "cpu"]
    main(["--checkpoint", str(checkpoint), *paths, "--out", str(out), *sizes])
    assert f"wrote {out}" in capsys.readouterr().out

    teacher, (student, state) = load_teacher(checkpoint)[0], load_teacher(out)
    assert state["config"]["network"]["encoder"] == dense_blocks.ENCODER_NAME
    assert [run["network"]["encoder"] for run in state["ancestors"]] == [dense_stem.ENCODER_NAME]
    of_teacher = teacher.state_dict()
    dense = ("encoder.features.4.", "encoder.features.5.", "encoder.features.16.")
    for name, value in student.state_dict().items():
        if name in of_teacher and not name.startswith(dense):
            torch.testing.assert_close(value, of_teacher[name])


def test_a_run_that_was_killed_goes_on_as_if_it_had_not_been(
    checkpoint: Path, tmp_path: Path, folders: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distil_blocks, "_REPORT_EVERY", 1)
    monkeypatch.setattr(distil_blocks, "fit_blocks", lambda *_: None)  # nothing of it is kept beside the state
    of_run = {**folders, "fit_images": 8, "steps": 2}
    distil(checkpoint, out=tmp_path / "whole.pt", **of_run)

    with monkeypatch.context() as patch:
        saved = distil_blocks.save_checkpoint

        def save_and_die(path: Path, state: dict[str, Any]) -> None:
            saved(path, state)
            raise KeyboardInterrupt

        patch.setattr(distil_blocks, "save_checkpoint", save_and_die)
        with pytest.raises(KeyboardInterrupt):
            distil(checkpoint, out=tmp_path / "killed.pt", **of_run)
    assert not (tmp_path / "killed.pt").exists()
    with pytest.raises(InputError, match=r"killed\.pt\.state is of a run with another steps; remove it"):
        distil(checkpoint, out=tmp_path / "killed.pt", **{**of_run, "steps": 3})
    distil(checkpoint, out=tmp_path / "killed.pt", **of_run)
    assert not (tmp_path / "killed.pt.state").exists()
    whole, killed = (load_checkpoint(tmp_path / name)["teacher"] for name in ("whole.pt", "killed.pt"))
    for name, value in whole.items():
        torch.testing.assert_close(killed[name], value, rtol=1e-4, atol=1e-5)


def test_another_encoder_is_refused_by_name(tmp_path: Path, folders: dict[str, Any]) -> None:
    path = write_segmenter(tmp_path / "plain.pt", NetworkConfig(options={"channels": 8}))
    with pytest.raises(InputError, match=r"the encoder of .*plain\.pt is mobilenet_v2; take a run of .*dense_stem"):
        distil(path, out=tmp_path / "student.pt", fit_images=8, steps=1, **folders)


@pytest.mark.parametrize(("fit_images", "steps"), [(7, 1), (8, -1)])
def test_numbers_that_do_not_fit_are_refused(
    checkpoint: Path, tmp_path: Path, folders: dict[str, Any], fit_images: int, steps: int
) -> None:
    with pytest.raises(InputError, match=f"--fit-images is {fit_images} and --steps {steps}"):
        distil(checkpoint, out=tmp_path / "student.pt", fit_images=fit_images, steps=steps, **folders)
