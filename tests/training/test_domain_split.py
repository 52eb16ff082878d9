from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from darkseg_ros.errors import InputError
from darkseg_ros.frames.levels import histogram_level
from training.domain_split import main, split_domains
from training.selection.charts import draw_distribution
from training.selection.levels import SplitSettings


def _write_grey(folder: Path, **levels: int) -> Path:
    folder.mkdir()
    for name, level in levels.items():
        cv2.imwrite(str(folder / f"{name}.png"), np.full((6, 8, 3), level, np.uint8))
    return folder


def _names(path: Path) -> list[str]:
    return path.read_text().split()


@pytest.mark.parametrize(
    ("rgb", "red_weight", "level"),
    [
        ((10, 10, 10), 0.5, 10.0),
        ((255, 255, 255), 0.5, 255.0),
        ((100, 0, 0), 0.5, 20.0),  # 0.5 × 100 / 2.5
        ((0, 100, 0), 0.5, 40.0),
        ((0, 0, 100), 0.5, 40.0),
        ((30, 60, 90), 0.5, 66.0),  # (15 + 60 + 90) / 2.5
        ((30, 60, 90), 1.0, 60.0),
        ((30, 60, 90), 0.0, 75.0),
    ],
)
def test_red_counts_by_its_weight_and_grey_keeps_its_value(
    rgb: tuple[int, int, int], red_weight: float, level: float
) -> None:
    bgr = np.full((3, 5, 3), rgb[::-1], np.uint8)
    assert histogram_level(bgr, red_weight=red_weight) == pytest.approx(level)


def test_the_level_is_the_mean_over_the_pixels() -> None:
    bgr = np.zeros((2, 2, 3), np.uint8)
    bgr[0, 0] = 200
    assert histogram_level(bgr) == pytest.approx(50.0)


def test_images_are_split_at_the_threshold_and_the_band_holds_its_ends(tmp_path: Path) -> None:
    images = _write_grey(tmp_path / "images", a=64, b=65, c=15, d=20, e=14, f=21, g=200)
    split_domains(images, tmp_path / "out", SplitSettings())
    assert _names(tmp_path / "out" / "day.txt") == ["b.png", "g.png"]
    assert _names(tmp_path / "out" / "night.txt") == ["a.png", "c.png", "d.png", "e.png", "f.png"]
    assert _names(tmp_path / "out" / "band.txt") == ["c.png", "d.png"]
    with (tmp_path / "out" / "levels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["name"]: float(row["level"]) for row in rows} == {
        "a.png": 64, "b.png": 65, "c.png": 15, "d.png": 20, "e.png": 14, "f.png": 21, "g.png": 200,
    }  # fmt: skip


def test_the_settings_are_settings(tmp_path: Path) -> None:
    images = _write_grey(tmp_path / "images", a=64, b=100)
    cv2.imwrite(str(images / "red.png"), np.full((4, 4, 3), (0, 0, 255), np.uint8))  # 51 at weight 0.5, 85 at 1
    command = ["--images", str(images), "--out", str(tmp_path / "out"), "--night-threshold", "86"]
    main([*command, "--band", "80", "90", "--red-weight", "1"])
    assert _names(tmp_path / "out" / "night.txt") == ["a.png", "red.png"]
    assert _names(tmp_path / "out" / "band.txt") == ["red.png"]


def test_an_empty_band_is_an_error_that_leaves_the_split_and_no_earlier_band(tmp_path: Path) -> None:
    images, out = _write_grey(tmp_path / "images", a=30, b=120), tmp_path / "out"
    split_domains(images, out, SplitSettings(band=(25, 35)))
    assert _names(out / "band.txt") == ["a.png"]
    with pytest.raises(InputError, match=r"band 15…20: levels are 30\.0…120\.0; choose a --band"):
        split_domains(images, out, SplitSettings())
    assert sorted(path.name for path in out.iterdir()) == ["day.txt", "distribution.png", "levels.csv", "night.txt"]


def test_a_split_without_a_band_can_be_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images, out = _write_grey(tmp_path / "images", a=120), tmp_path / "out"
    main(["--images", str(images), "--out", str(out), "--no-band"])
    assert sorted(path.name for path in out.iterdir()) == ["day.txt", "distribution.png", "levels.csv"]
    assert "night: no image, no night.txt" in capsys.readouterr().out


def test_an_unreadable_image_is_named_and_nothing_written(tmp_path: Path) -> None:
    images = _write_grey(tmp_path / "images", a=30)
    (images / "b.jpg").write_bytes(b"no image")
    with pytest.raises(SystemExit, match=r"domain_split: .*b\.jpg cannot be decoded"):
        main(["--images", str(images), "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    with pytest.raises(InputError, match="images holds no images"):
        split_domains(tmp_path / "images", tmp_path / "out", SplitSettings())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (SplitSettings(band=(20, 15)), "band 20 15"),
        (SplitSettings(band=(15, float("inf"))), "band 15 inf"),
        (SplitSettings(night_threshold=300), "night threshold 300"),
        (SplitSettings(red_weight=-1), "red weight -1"),
    ],
)
def test_impossible_settings_are_refused(tmp_path: Path, settings: SplitSettings, message: str) -> None:
    images = _write_grey(tmp_path / "images", a=18)
    with pytest.raises(InputError, match=message):
        split_domains(images, tmp_path / "out", settings)


def test_a_place_that_cannot_be_written_is_said_in_one_line(tmp_path: Path) -> None:
    images = _write_grey(tmp_path / "images", a=18)
    (tmp_path / "out").touch()
    with pytest.raises(SystemExit, match=r"domain_split: .*out"):
        main(["--images", str(images), "--out", str(tmp_path / "out")])


def test_the_picture_shows_every_part_at_its_place() -> None:
    """Colours counted left and right of the threshold, which stands at 65 of 70."""
    picture = draw_distribution(np.array([17.0] * 3 + [40.5] * 5 + [66.2] * 2), SplitSettings())
    assert picture.shape == (800, 1600, 3)
    plot = picture[150:690]
    places = {}
    for name, bgr in (("chosen", (80, 76, 214)), ("night", (140, 92, 58)), ("day", (92, 178, 240))):
        rows, columns = np.nonzero((plot == bgr).all(2))
        places[name] = (columns.mean(), np.ptp(rows) + 1)
    width = 1550 - 130
    assert places["chosen"][0] == pytest.approx(130 + width * 17.5 / 70, abs=4)
    assert places["night"][0] == pytest.approx(130 + width * 40.5 / 70, abs=4)
    assert places["day"][0] == pytest.approx(130 + width * 66.5 / 70, abs=4)
    assert places["night"][1] == pytest.approx(540, abs=3)  # 5 of 5
    assert places["chosen"][1] == pytest.approx(540 * 3 / 5, abs=3)


@pytest.mark.parametrize("levels", [[0.0], [255.0], [0.0, 255.0], [3.3] * 40_000])
def test_any_levels_can_be_drawn(levels: list[float]) -> None:
    for settings in (SplitSettings(), SplitSettings(band=None, night_threshold=0), SplitSettings(band=(255, 255))):
        assert draw_distribution(np.array(levels), settings).shape == (800, 1600, 3)
