from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from darkseg_ros.errors import BundleError, InputError
from darkseg_ros.model.bundle import load_translator_bundle, load_translator_golden
from darkseg_ros.model.translator import Translator
from engines.export_translator import export_translator, golden_day_frames, main
from training.runs.checkpoints import save_checkpoint
from training.translation.unit.network import build_unit

NETWORK = {"channels": 4, "residual_blocks": 1, "shared_blocks": 1, "generator_norm": "layer"}
INPUT_HW = (32, 48)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    unit = build_unit(NETWORK)
    for parameter in unit.parameters():
        if parameter.ndim > 1:
            parameter.data *= 3  # an untrained network answers grey; this one shows its input
    path = tmp_path_factory.mktemp("run") / "last.pt"
    save_checkpoint(
        path, {"step": 3, "config": {"view_px": 32, "network": NETWORK}, "averaged_unit": unit.state_dict()}
    )
    return path


@pytest.fixture(scope="module")
def bundle_folder(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_translator(checkpoint, name="small", out=tmp_path_factory.mktemp("engines"), input_hw=INPUT_HW)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_the_bundle_answers_as_the_network_in_torch(bundle_folder: Path, checkpoint: Path, backend: str) -> None:
    unit = build_unit(NETWORK)
    unit.load_state_dict(torch.load(checkpoint, weights_only=True)["averaged_unit"])
    unit.eval()
    bgr = np.random.default_rng(0).integers(0, 256, (*INPUT_HW, 3)).astype(np.uint8)
    rgb = torch.from_numpy(bgr[:, :, ::-1].copy()).permute(2, 0, 1)[None] / 255 * 2 - 1
    with torch.no_grad():
        night_rgb = unit.generator("night")(unit.encoder("day")(rgb))[0].permute(1, 2, 0).numpy()
    expected = np.clip((night_rgb[:, :, ::-1] + 1) / 2 * 255, 0, 255)
    night = Translator.open(bundle_folder, backend=backend)(bgr)
    assert np.abs(night - expected).max() <= 1
    assert expected.std() > 5  # else the comparison would see nothing


def test_the_bundle_holds_a_generated_scene_and_its_night(bundle_folder: Path) -> None:
    bundle = load_translator_bundle(bundle_folder)
    frames, night = load_translator_golden(bundle)
    assert bundle.network_hw == INPUT_HW
    np.testing.assert_array_equal(frames, golden_day_frames(INPUT_HW))
    assert (night != frames).any()
    assert "channels: 4" in (bundle_folder / "MODEL_CARD.md").read_text(encoding="utf-8")


def test_without_a_size_frames_are_squeezed_as_in_training(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["--checkpoint", str(checkpoint), "--name", "square", "--out", str(tmp_path)])
    assert load_translator_bundle(tmp_path / "square").network_hw == (32, 32)
    assert f"wrote {tmp_path / 'square'}" in capsys.readouterr().out


@pytest.mark.parametrize("input_hw", [(30, 32), (32, 30), (0, 32)])
def test_sizes_that_the_network_cannot_halve_twice_are_refused(
    checkpoint: Path, tmp_path: Path, input_hw: tuple[int, int]
) -> None:
    with pytest.raises(InputError, match="expected multiples of 4"):
        export_translator(checkpoint, name="odd", out=tmp_path, input_hw=input_hw)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a/b", "../b", "b/", ".", ""])
def test_a_name_that_is_no_folders_name_is_refused(checkpoint: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"a bundle's name is that of its folder|is no model bundle"):
        export_translator(checkpoint, name=name, out=tmp_path, input_hw=(16, 16))
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_of_another_stage_is_one_line(tmp_path: Path) -> None:
    other = tmp_path / "segmenter.pt"
    save_checkpoint(other, {"step": 1, "config": {}, "teacher": {}})
    with pytest.raises(SystemExit, match=r"export_translator: .*segmenter\.pt is of another kind of run"):
        main(["--checkpoint", str(other), "--name", "x", "--out", str(tmp_path)])


def test_a_graph_that_differs_from_torch_is_not_written(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engines.export_translator.TORCH_DIFFERENCE_MAX", -1.0)
    with pytest.raises(InputError, match="differs from torch"):
        export_translator(checkpoint, name="off", out=tmp_path, input_hw=(16, 16))
    assert list(tmp_path.iterdir()) == []


def test_an_altered_bundle_is_refused(bundle_folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in bundle_folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    model = copy / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1] + b"\0")
    with pytest.raises(BundleError):
        Translator.open(copy)
