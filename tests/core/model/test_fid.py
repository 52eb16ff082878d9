from __future__ import annotations

import pickle
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darkseg_ros.commands.cli import main
from darkseg_ros.errors import InputError
from darkseg_ros.frames.bags import BagWriter
from darkseg_ros.model.fid import (
    FeatureStatistics,
    ReferenceDistance,
    choose_by_distance,
    distances_to_reference,
    frechet_distance,
)
from tests.core.model.mean_colour import write_mean_colour_onnx


def test_one_images_distance_is_that_of_equation_4_2_without_its_covariance() -> None:
    rng = np.random.default_rng(0)
    reference = FeatureStatistics()
    reference.add(rng.normal(size=(40, 6)))
    features = rng.normal(size=(5, 6)).astype(np.float32)
    expected = [
        frechet_distance(row.astype(np.float64), np.zeros((6, 6)), reference.mean, reference.covariance)
        for row in features
    ]
    np.testing.assert_allclose(distances_to_reference(features, reference), expected, rtol=1e-9)


@given(distances=st.lists(st.integers(0, 9), min_size=1, max_size=30), count=st.integers(1, 40))
@settings(deadline=None)
def test_the_nearest_are_chosen_and_ties_go_by_name(distances: list[int], count: int) -> None:
    chosen = choose_by_distance(np.array(distances, float), threshold=None, count=count)
    assert chosen.tolist() == [index for _, index in sorted(zip(distances, range(len(distances)), strict=True))][:count]


def test_a_threshold_below_all_distances_names_them() -> None:
    with pytest.raises(InputError, match=r"at most 450: distances are 500\.0…700\.0, half of them below 600\.0"):
        choose_by_distance(np.array([500.0, 700.0, 600.0]), threshold=450, count=None)


def write_images(folder: Path, *greys: int) -> Path:
    folder.mkdir()
    for index, grey in enumerate(greys):
        cv2.imwrite(str(folder / f"{index}.png"), np.full((6, 8, 3), grey, np.uint8))
    return folder


@pytest.fixture
def extractor(tmp_path: Path) -> Path:
    return write_mean_colour_onnx(tmp_path / "mean.onnx")


@pytest.fixture
def drive(tmp_path: Path) -> Path:
    """Frames of grey 0, 10, … 90."""
    with BagWriter(tmp_path / "drive") as writer:
        for index in range(10):
            bgr = np.full((4, 6, 3), 10 * index, np.uint8)
            writer.write_image("/camera", bgr, stamp_ns=10**18 + index, frame_id="")
    return tmp_path / "drive"


def test_the_distance_of_one_image_is_worked_by_hand(tmp_path: Path, extractor: Path) -> None:
    """Features are (grey - 128) / 128, three times; the reference's are ±1/4, with a variance of 1/8 each."""
    distance = ReferenceDistance(write_images(tmp_path / "reference", 96, 160), extractor=extractor)
    assert distance(np.full((4, 4, 3), 128, np.uint8)) == pytest.approx(3 / 8)
    assert distance(np.full((4, 4, 3), 64, np.uint8)) == pytest.approx(3 / 8 + 3 / 4)


def test_a_distance_goes_to_other_processes_and_is_known_by_its_text(tmp_path: Path, extractor: Path) -> None:
    distance = ReferenceDistance(write_images(tmp_path / "reference", 96, 160), extractor=extractor)
    moved = pickle.loads(pickle.dumps(distance))
    assert moved(np.zeros((4, 4, 3), np.uint8)) == distance(np.zeros((4, 4, 3), np.uint8))
    copy = ReferenceDistance(write_images(tmp_path / "copy", 96, 160), extractor=extractor)
    other = ReferenceDistance(write_images(tmp_path / "other", 96, 161), extractor=extractor)
    assert str(copy) == str(distance) == str(moved)
    assert str(other) != str(distance)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--count", "3"], [3, 4, 5]),  # nearest to 42
        (["--fid-max", "0.05"], [3, 4, 5]),  # 3 (d² + 8) / 128² ≤ 0.05: d ≤ 16.3
        (["--fid-max", "0.05", "--count", "1"], [4]),
        (["--fid-max", "0.05", "--level", "45", "255"], [5]),
    ],
)
def test_a_drives_frames_are_chosen_by_their_nearness_to_a_folder(
    tmp_path: Path, drive: Path, extractor: Path, options: list[str], expected: list[int]
) -> None:
    reference = write_images(tmp_path / "reference", 40, 44)
    command = ["bag", "to-images", str(drive), "--out", str(tmp_path / "out"), "--fid-to", str(reference)]
    assert main([*command, "--extractor", str(extractor), *options]) == 0
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == [f"drive_{index:06d}.png" for index in expected]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--fid-to", "REFERENCE", "--count", "1"], "needs --extractor FILE.*`python -m training.fetch_inception"),
        (["--fid-to", "REFERENCE", "--extractor", "EXTRACTOR"], "needs --count N or --fid-max D"),
        (["--extractor", "EXTRACTOR"], "go with --fid-to FOLDER"),
        (
            ["--fid-to", "REFERENCE", "--count", "1", "--extractor", "no.onnx"],
            "no feature extractor .*no.onnx; `py",
        ),
        (["--fid-to", "REFERENCE", "--count", "1", "--extractor", "REFERENCE/0.png"], "is no ONNX network"),
        (["--fid-to", "ONE", "--count", "1", "--extractor", "EXTRACTOR"], "has one image; expected two or more"),
        (["--fid-to", "REFERENCE", "--fid-max", "0.001", "--extractor", "EXTRACTOR"], "distances are .*; allow more"),
    ],
)
def test_what_is_missing_for_nearness_is_told_in_one_line(
    tmp_path: Path,
    drive: Path,
    extractor: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    places = {
        "REFERENCE": str(write_images(tmp_path / "reference", 40, 44)),
        "ONE": str(write_images(tmp_path / "one", 40)),
        "EXTRACTOR": str(extractor),
    }
    for name, place in places.items():
        options = [option.replace(name, place) for option in options]
    assert main(["bag", "to-images", str(drive), "--out", str(tmp_path / "out"), *options]) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert re.search(message, line)
    assert not (tmp_path / "out").exists()
