from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from darkseg_ros.model.fid import FeatureStatistics, frechet_distance
from tests.core.model.mean_colour import write_mean_colour_onnx
from training.frechet_distance import main


def test_in_one_dimension_it_is_the_difference_of_mean_and_of_deviation_squared() -> None:
    """(3 - 1)² + (√9 - √4)² = 5."""
    distance = frechet_distance(np.array([3.0]), np.array([[9.0]]), np.array([1.0]), np.array([[4.0]]))
    assert distance == pytest.approx(5.0)


def test_a_worked_case_in_two_dimensions_whose_covariances_do_not_commute() -> None:
    """‖(1, 2)‖² + Tr Σx + Tr Σy - 2 Tr (Σx Σy)^½ with Σx = diag(4, 1), Σy = [[2, 1], [1, 2]].

    Tr M^½ = √(Tr M + 2 √det M) for 2×2; Tr Σx Σy = 8 + 2 = 10, det = 4 · 3 = 12.
    """
    distance = frechet_distance(
        np.array([1.0, 2.0]), np.diag([4.0, 1.0]), np.zeros(2), np.array([[2.0, 1.0], [1.0, 2.0]])
    )
    assert distance == pytest.approx(5 + 5 + 4 - 2 * np.sqrt(10 + 2 * np.sqrt(12)))


@given(
    seed=st.integers(0, 10_000),
    size=st.integers(1, 12),
    ranks=st.tuples(st.integers(1, 24), st.integers(1, 24)),
)
@settings(max_examples=60, deadline=None)
def test_it_agrees_with_the_matrix_root_of_scipy(seed: int, size: int, ranks: tuple[int, int]) -> None:
    rng = np.random.default_rng(seed)
    factors = [rng.normal(size=(size, max(rank, size))) for rank in ranks]  # full rank: scipy is unsure otherwise
    covariances = [factor @ factor.T for factor in factors]
    means = rng.normal(size=(2, size))
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1]).real
    expected = ((means[0] - means[1]) ** 2).sum() + np.trace(covariances[0] + covariances[1] - 2 * root)
    found = frechet_distance(means[0], covariances[0], means[1], covariances[1])
    assert found == pytest.approx(max(expected, 0), rel=1e-6, abs=1e-6)
    swapped = frechet_distance(means[1], covariances[1], means[0], covariances[0])
    assert found == pytest.approx(swapped, rel=1e-6, abs=1e-6)


def test_singular_covariances_of_equal_distributions_give_zero() -> None:
    features = np.random.default_rng(0).normal(size=(10, 64))
    statistics = FeatureStatistics()
    statistics.add(features)
    distance = frechet_distance(statistics.mean, statistics.covariance, statistics.mean, statistics.covariance)
    assert 0 <= distance < 1e-9


def test_disjoint_singular_covariances_share_nothing() -> None:
    """Spread along different axes: Σx Σy = 0, so the traces add up."""
    distance = frechet_distance(np.zeros(3), np.diag([2.0, 0, 0]), np.zeros(3), np.diag([0, 0, 5.0]))
    assert distance == pytest.approx(7.0)


@given(
    features=hnp.arrays(
        np.float32, st.tuples(st.integers(2, 60), st.integers(1, 5)), elements=st.floats(-50, 50, width=32)
    ),
    cuts=st.lists(st.integers(0, 60), max_size=4),
)
@settings(max_examples=60, deadline=None)
def test_statistics_in_parts_are_those_of_all(features: np.ndarray, cuts: list[int]) -> None:
    statistics = FeatureStatistics()
    for part in np.split(features, sorted(min(cut, len(features)) for cut in cuts)):
        statistics.add(part)
    assert statistics.count == len(features)
    np.testing.assert_allclose(statistics.mean, features.astype(np.float64).mean(0), rtol=1e-9, atol=1e-9)
    expected = np.cov(features.astype(np.float64), rowvar=False).reshape(features.shape[1], -1)
    np.testing.assert_allclose(statistics.covariance, expected, rtol=1e-7, atol=1e-7)


def test_statistics_of_features_far_from_zero_keep_their_spread() -> None:
    """A plain sum of squares in float32 would lose it."""
    features = (1e4 + np.random.default_rng(0).normal(size=(5000, 3))).astype(np.float32)
    statistics = FeatureStatistics()
    statistics.add(features)
    np.testing.assert_allclose(statistics.covariance, np.cov(features.astype(np.float64), rowvar=False), rtol=1e-9)


def test_too_few_images_for_a_covariance_are_refused() -> None:
    statistics = FeatureStatistics()
    with pytest.raises(ValueError, match="no features"):
        _ = statistics.mean
    statistics.add(np.ones((1, 2)))
    with pytest.raises(ValueError, match="1 images have no covariance"):
        _ = statistics.covariance


def _write_images(folder: Path, levels: list[int]) -> Path:
    folder.mkdir()
    for index, level in enumerate(levels):
        cv2.imwrite(str(folder / f"{index}.png"), np.full((8, 8, 3), level, np.uint8))
    return folder


def _command(tmp_path: Path, images: Path, against: Path) -> list[str]:
    extractor = write_mean_colour_onnx(tmp_path / "mean.onnx")
    return [
        *("--images", str(images), "--against", str(against), "--extractor", str(extractor), "--input-px", "8"),
        *("--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "metrics.json")),
    ]


def test_a_folder_has_no_distance_to_itself(tmp_path: Path) -> None:
    folder = _write_images(tmp_path / "images", [10, 20, 60, 90, 130])
    main(_command(tmp_path, folder, folder))
    assert json.loads((tmp_path / "metrics.json").read_text()) == {
        "fid": 0.0, "images": 5, "against": 5, "features": 3,
    }  # fmt: skip


def test_the_distance_of_grey_folders_is_the_one_worked_by_hand(tmp_path: Path) -> None:
    """Every channel is (level - 128) / 128: Σ = v · 1, an all-ones 3×3, whose root product has the trace 3 √(vx vy)."""
    dark, light = [10, 20, 30, 40], [100, 140, 180, 220]
    main(_command(tmp_path, _write_images(tmp_path / "dark", dark), _write_images(tmp_path / "light", light)))
    means = [np.mean(levels) / 128 for levels in (dark, light)]
    deviations = [np.std(levels, ddof=1) / 128 for levels in (dark, light)]
    expected = 3 * (means[0] - means[1]) ** 2 + 3 * (deviations[0] - deviations[1]) ** 2
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["fid"] == pytest.approx(expected, abs=1e-4)
    assert "warning" not in metrics


def test_fewer_images_than_features_are_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few, enough = _write_images(tmp_path / "few", [1, 2, 3]), _write_images(tmp_path / "enough", [1, 2, 3, 4])
    main(_command(tmp_path, few, enough))
    warning = json.loads((tmp_path / "metrics.json").read_text())["warning"]
    assert warning.startswith("3 images for 3 features")
    assert warning in capsys.readouterr().err


def test_a_folder_of_one_image_is_refused(tmp_path: Path) -> None:
    one, two = _write_images(tmp_path / "one", [1]), _write_images(tmp_path / "two", [1, 2])
    with pytest.raises(SystemExit, match=r"frechet_distance: .*one holds one image"):
        main(_command(tmp_path, two, one))
    assert not (tmp_path / "metrics.json").exists()


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    with pytest.raises(SystemExit, match="none holds no images"):
        main(_command(tmp_path, _write_images(tmp_path / "two", [1, 2]), tmp_path / "none"))


def test_a_damaged_extractor_is_named(tmp_path: Path) -> None:
    folder = _write_images(tmp_path / "two", [1, 2])
    command = _command(tmp_path, folder, folder)
    (tmp_path / "mean.onnx").write_bytes(b"not a network")
    with pytest.raises(SystemExit, match=r"mean\.onnx is no ONNX network"):
        main(command)
