from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from darkseg_ros.errors import InputError
from darkseg_ros.frames.bags import IMAGE_TOPIC, BagWriter
from training.data.pairs import find_labelled_images
from training.runs.checkpoints import load_checkpoint, save_checkpoint
from training.translate import main, translate_folder
from training.translation.load import load_translator
from training.translation.tiles import TranslationSettings, translate_image
from training.translation.unit.network import build_unit

REPOSITORY = Path(__file__).parents[2]
NETWORK = {"channels": 2, "residual_blocks": 1, "shared_blocks": 1, "generator_norm": "layer"}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "unit.pt"
    save_checkpoint(
        path, {"step": 1, "config": {"network": NETWORK}, "averaged_unit": build_unit(NETWORK).state_dict()}
    )
    return path


def translate(checkpoint: Path, source: Path, out: Path, *arguments: str) -> None:
    main(["--checkpoint", str(checkpoint), "--source", str(source), "--out", str(out), *arguments])


class RowsDiffer(nn.Module):
    """Adds 0.1 to every tile but the first it sees: the strongest seam there can be."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, rgb: Tensor) -> Tensor:
        self.calls += 1
        return rgb if self.calls == 1 else rgb + 0.1


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("size_hw", [(16, 16), (17, 50), (100, 75), (5, 3), (33, 31)])
@pytest.mark.parametrize("settings", [TranslationSettings(), TranslationSettings(tile_px=16)])
def test_what_a_translator_leaves_as_it_is_comes_back_as_it_was(
    size_hw: tuple[int, int], settings: TranslationSettings
) -> None:
    bgr = noise(*size_hw)
    translated = translate_image(nn.Identity(), bgr, settings)
    assert translated.shape == bgr.shape
    assert np.abs(translated.astype(int) - bgr).max() <= 1


@pytest.mark.parametrize("size_hw", [(1, 1), (3, 9)])
def test_images_smaller_than_the_network_reaches_are_translated(checkpoint: Path, size_hw: tuple[int, int]) -> None:
    translator, _config = load_translator(checkpoint)
    assert translate_image(translator, noise(*size_hw), TranslationSettings()).shape == (*size_hw, 3)


def test_two_processes_share_the_images_and_make_what_one_makes(
    checkpoint: Path, generated_data: Path, tmp_path: Path
) -> None:
    source = generated_data / "source"
    translate(checkpoint, source, tmp_path / "one")
    fabric = [sys.executable, "-m", "lightning_fabric.cli", "--accelerator", "cpu", "--devices", "2"]
    finished = subprocess.run(
        [*fabric, "training/translate.py", "--checkpoint", checkpoint, "--source", source, "--out", tmp_path / "two"],
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.count("0 of 3 images") == 2
    for path in sorted((tmp_path / "one").rglob("*.*g")):
        twin = tmp_path / "two" / path.relative_to(tmp_path / "one")
        assert np.abs(cv2.imread(str(twin)).astype(int) - cv2.imread(str(path))).max() <= 2, path


def test_tiles_fade_into_each_other() -> None:
    """Two tiles of 16 over 28 columns overlap in four; there the answer climbs from 100 to 113 in steps of 2.6."""
    grey = np.full((16, 28, 3), 100, np.uint8)
    row = translate_image(RowsDiffer(), grey, TranslationSettings(tile_px=16))[8, :, 0].astype(int)
    assert row[:12].tolist() == [100] * 12
    assert row[16:].tolist() == [113] * 12  # 100 + 0.1 · 127.5
    steps = np.diff(row[11:17])
    assert (steps >= 2).all()
    assert (steps <= 3).all()


def test_squeezed_images_keep_their_size_and_a_grey_stays_the_same_grey() -> None:
    grey = np.full((30, 61, 3), 77, np.uint8)
    translated = translate_image(nn.Identity(), grey, TranslationSettings(resize_px=16))
    assert translated.shape == grey.shape
    assert np.abs(translated.astype(int) - 77).max() <= 1


def test_red_stays_red() -> None:
    """The translator sees RGB: one that erases its first channel leaves blue and green."""

    class WithoutRed(nn.Module):
        def forward(self, rgb: Tensor) -> Tensor:
            return torch.cat([torch.full_like(rgb[:, :1], -1), rgb[:, 1:]], 1)

    bgr = noise(16, 16)
    translated = translate_image(WithoutRed(), bgr, TranslationSettings())
    assert (translated[..., 2] == 0).all()
    assert np.abs(translated[..., :2].astype(int) - bgr[..., :2]).max() <= 1


def test_a_labelled_folder_becomes_one_of_the_same_names_sizes_and_label_bytes(
    checkpoint: Path, generated_data: Path, tmp_path: Path
) -> None:
    source, out = generated_data / "source", tmp_path / "night"
    translate(checkpoint, source, out, "--resize-px", "32")
    before, after = find_labelled_images(source), find_labelled_images(out)
    assert [pair.image.stem for pair in after] == [pair.image.stem for pair in before]
    for old, new in zip(before, after, strict=True):
        assert new.label.read_bytes() == old.label.read_bytes()
        assert cv2.imread(str(new.image)).shape == cv2.imread(str(old.image)).shape
    sheet = cv2.imread(str(out / "contact_sheet.png"))
    assert sheet.shape == (2 * 256, 6 * 256, 3)  # six images there are, above their translations


def test_what_is_there_is_skipped_and_what_is_missing_made(
    checkpoint: Path, generated_data: Path, tmp_path: Path
) -> None:
    source, out = generated_data / "source", tmp_path / "night"
    translate(checkpoint, source, out)
    images = sorted((out / "image").iterdir())
    whole = images[1].read_bytes()
    images[1].unlink()
    stamps = {path: path.stat().st_mtime_ns for path in images if path.exists()}
    translate(checkpoint, source, out)
    assert images[1].read_bytes() == whole
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps


def test_both_directions_differ_and_unlabelled_folders_need_no_labels(
    checkpoint: Path, generated_data: Path, tmp_path: Path
) -> None:
    night = generated_data / "night"
    for direction in ("day_to_night", "night_to_day"):
        translate(checkpoint, night, tmp_path / direction, "--unlabelled", "--direction", direction)
        assert not (tmp_path / direction / "label").exists()
    first, second = ((tmp_path / name / "image" / "0.jpg").read_bytes() for name in ("day_to_night", "night_to_day"))
    assert first != second


def test_images_of_another_checkpoint_source_or_setting_are_not_mixed(
    checkpoint: Path, generated_data: Path, tmp_path: Path
) -> None:
    source, out = generated_data / "source", tmp_path / "night"
    translate(checkpoint, source, out)
    with pytest.raises(SystemExit, match="another tile_px; choose another --out"):
        translate(checkpoint, source, out, "--tile-px", "32")
    with pytest.raises(SystemExit, match="another source"):
        translate(checkpoint, generated_data / "validation", out)
    state = load_checkpoint(checkpoint)
    save_checkpoint(checkpoint, {**state, "step": 2})
    with pytest.raises(SystemExit, match="another checkpoint_sha256"):
        translate(checkpoint, source, out)
    (out / "translation.json").unlink()
    with pytest.raises(SystemExit, match=r"no translation\.json"):
        translate(checkpoint, source, out)


def test_unusable_input_is_named(checkpoint: Path, generated_data: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="expected a multiple of 4"):
        translate(checkpoint, generated_data / "source", tmp_path / "a", "--tile-px", "30")
    with pytest.raises(SystemExit, match="there is no checkpoint"):
        translate(tmp_path / "none.pt", generated_data / "source", tmp_path / "a")
    with pytest.raises(SystemExit, match="nowhere"):
        translate(checkpoint, tmp_path / "nowhere", tmp_path / "a")

    broken = tmp_path / "broken"
    for part in ("image", "label"):
        (broken / part).mkdir(parents=True)
    cv2.imwrite(str(broken / "image" / "0.png"), noise(8, 8))
    cv2.imwrite(str(broken / "label" / "0.png"), np.full((8, 8), 40, np.uint8))
    with pytest.raises(SystemExit, match=r"0\.png holds the value 40"):
        translate(checkpoint, broken, tmp_path / "b")
    cv2.imwrite(str(broken / "label" / "0.png"), np.zeros((8, 9), np.uint8))
    with pytest.raises(SystemExit, match=r"0\.png is 9×8, its image 8×8"):
        translate(checkpoint, broken, tmp_path / "b")
    (broken / "image" / "0.png").write_bytes(b"not an image")
    with pytest.raises(SystemExit, match=r"0\.png cannot be decoded"):
        translate(checkpoint, broken, tmp_path / "b")
    assert not (tmp_path / "b" / "image").exists()


def test_an_output_that_cannot_be_written_is_named(checkpoint: Path, generated_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "night"
    out.mkdir()
    (out / "image").write_text("a file where a folder should be")
    with pytest.raises(InputError, match=r"cannot be written .*make room"):
        translate_folder(checkpoint, generated_data / "source", out, settings=TranslationSettings(), labelled=True)


def test_what_made_the_images_is_written_beside_them(checkpoint: Path, generated_data: Path, tmp_path: Path) -> None:
    translate(checkpoint, generated_data / "night", tmp_path / "out", "--unlabelled", "--resize-px", "32")
    record = json.loads((tmp_path / "out" / "translation.json").read_text())
    assert record["direction"] == "day_to_night"
    assert record["resize_px"] == 32
    assert record["tile_px"] is None


def test_many_drives_have_a_folder_each(checkpoint: Path, generated_data: Path, tmp_path: Path) -> None:
    for name in ("first", "second"):
        shutil.copytree(generated_data / "source", tmp_path / "drives" / name)
    out = tmp_path / "out"
    drives = ["--checkpoint", str(checkpoint), "--source", f"{tmp_path}/drives/*", "--out", str(out)]
    main(drives)
    translate(checkpoint, generated_data / "source", tmp_path / "one")
    for name in ("first", "second"):
        for path in (tmp_path / "one").rglob("*.*g"):
            assert (out / name / path.relative_to(tmp_path / "one")).read_bytes() == path.read_bytes()
    with pytest.raises(SystemExit, match="another settings"):
        main([*drives, "--resume", "--resize-px", "32"])


def test_many_drives_are_not_started_by_fabric_run(
    checkpoint: Path, generated_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LT_CLI_USED", "1")
    drives = [str(generated_data / name) for name in ("source", "validation")]
    with pytest.raises(SystemExit, match="start many drives without it"):
        main(["--checkpoint", str(checkpoint), "--source", *drives, "--out", str(tmp_path / "out")])


def test_frames_of_a_bag_are_translated(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with BagWriter(tmp_path / "drive") as writer:
        for index in range(2):
            writer.write_image(IMAGE_TOPIC, noise(16 + index, 16), stamp_ns=index + 1, frame_id="camera")
    drive = ["--checkpoint", str(checkpoint), "--source", str(tmp_path / "drive"), "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit, match="go on with --resume"):
        main(drive)
    assert "drive" in capsys.readouterr().err
    main([*drive, "--unlabelled"])
    assert {path.name for path in (tmp_path / "out/drive/image").iterdir()} == {"drive_000000.jpg", "drive_000001.jpg"}
    record = json.loads((tmp_path / "out/drive/translation.json").read_text())
    assert record["source"] == str(tmp_path / "drive")
