from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darkseg_ros.errors import BundleError
from darkseg_ros.model.bundle import load_bundle
from darkseg_ros.model.exposure import Exposure, normalise_exposure
from darkseg_ros.model.segmenter import Segmenter, preprocess
from darkseg_ros.stream.camera_health import CameraHealth
from tests.bundles import write_tiny_bundle

EXPOSURE = Exposure(target_mean=55.0, gamma_min=0.3)


def scene(seed: int, mean: float, size_hw: tuple[int, int] = (96, 128)) -> np.ndarray:
    """A picture of blocks with about this mean grey level."""
    rng = np.random.default_rng(seed)
    blocks = np.kron(rng.gamma(1.5, 1.0, (size_hw[0] // 8, size_hw[1] // 8, 3)), np.ones((8, 8, 1)))
    return np.clip(blocks / blocks.mean() * mean, 0, 255).astype(np.uint8)


def mean_grey(bgr: np.ndarray) -> float:
    return float(cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY).mean())


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), mean=st.floats(1, 250), target=st.floats(1, 254), gamma_min=st.floats(0.2, 1))
def test_no_pixel_gets_darker_and_the_order_of_greys_stays(
    seed: int, mean: float, target: float, gamma_min: float
) -> None:
    before = scene(seed, mean)
    after = before.copy()
    normalise_exposure(after, Exposure(target, gamma_min))
    assert (after >= before).all()
    order = np.argsort(before.ravel(), kind="stable")
    assert (np.diff(after.ravel()[order].astype(int)) >= 0).all()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), mean=st.floats(15, 50))
def test_a_dark_frame_comes_close_to_the_target_and_not_past_it(seed: int, mean: float) -> None:
    frame = scene(seed, mean, (384, 384))
    normalise_exposure(frame, EXPOSURE)
    assert EXPOSURE.target_mean - 6 < mean_grey(frame) < EXPOSURE.target_mean + 6


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), mean=st.floats(62, 250))
def test_a_day_frame_stays_bit_by_bit(seed: int, mean: float) -> None:
    frame = scene(seed, mean)
    before = frame.copy()
    normalise_exposure(frame, EXPOSURE)
    assert mean_grey(before) < EXPOSURE.target_mean or np.array_equal(frame, before)


def test_the_limit_keeps_black_frames_dark() -> None:
    frame = np.full((64, 64, 3), 2, np.uint8)
    normalise_exposure(frame, Exposure(target_mean=55, gamma_min=0.5))
    assert (frame == round(255 * (2 / 255) ** 0.5)).all()
    black = np.zeros((64, 64, 3), np.uint8)
    normalise_exposure(black, EXPOSURE)
    assert (black == 0).all()


def test_preprocessing_without_an_exposure_is_the_stretch_alone() -> None:
    bgr = scene(1, 20)
    stretched = cv2.resize(bgr, (64, 64), interpolation=cv2.INTER_LINEAR)
    assert np.array_equal(preprocess(bgr, (64, 64))[0], stretched)
    assert mean_grey(preprocess(bgr, (64, 64), EXPOSURE)[0]) > mean_grey(stretched) + 10


@pytest.fixture(scope="module")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle"))


def with_exposure(bundle: Path, parent: Path, exposure: object) -> Path:
    folder = shutil.copytree(bundle, parent / "bright")
    manifest = json.loads((folder / "model.json").read_text())
    manifest["input"]["exposure"] = exposure
    (folder / "model.json").write_text(json.dumps(manifest))
    return folder


def test_a_bundle_without_the_fact_brightens_nothing(tiny_bundle: Path) -> None:
    assert load_bundle(tiny_bundle).exposure is None


def test_a_bundle_s_exposure_changes_dark_frames_alone_and_never_the_camera_s(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    bright = write_tiny_bundle(tmp_path, exposure=EXPOSURE)
    assert load_bundle(bright).exposure == EXPOSURE
    plain, brightening = (Segmenter.open(folder, backend="onnxruntime") for folder in (tiny_bundle, bright))
    night, day = scene(3, 20), scene(4, 120)
    kept, health = night.copy(), CameraHealth().check(night)
    assert not np.array_equal(plain(night).confidence, brightening(night).confidence)
    assert np.array_equal(night, kept)
    assert CameraHealth().check(night) == health
    assert np.array_equal(plain(day).class_map, brightening(day).class_map)
    assert np.array_equal(plain(day).confidence, brightening(day).confidence)


@pytest.mark.parametrize(
    "exposure",
    [
        55,
        {},
        {"target_mean": 0, "gamma_min": 0.3},
        {"target_mean": 300, "gamma_min": 0.3},
        {"target_mean": 55, "gamma_min": 0},
        {"target_mean": "55", "gamma_min": 0.3},
    ],
)
def test_an_exposure_that_is_none_is_refused(tiny_bundle: Path, tmp_path: Path, exposure: object) -> None:
    with pytest.raises(BundleError, match=r"exposure|target_mean|gamma_min"):
        load_bundle(with_exposure(tiny_bundle, tmp_path, exposure))
