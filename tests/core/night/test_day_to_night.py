from __future__ import annotations

import itertools
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darkseg_ros.errors import BundleError, InputError
from darkseg_ros.night.day_to_night import NightSettings, open_day_to_night
from darkseg_ros.night.generated_night import GeneratedNight
from darkseg_ros.synthetic_drive import SyntheticDrive
from tests.bundles import write_tiny_translator

SECOND_NS = 10**9
STAMP_NS = 1_700_000_000 * SECOND_NS


@pytest.fixture(scope="module")
def day_bgr() -> np.ndarray:
    return SyntheticDrive(seed=3, size_hw=(96, 176), night=False).frame(0).bgr


@pytest.fixture(scope="module")
def night_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("night")
    for seed in range(3):
        scene = SyntheticDrive(seed=seed, size_hw=(64, 128), night=True).frame(0)
        cv2.imwrite(str(folder / f"{seed}.png"), scene.bgr)
    return folder


def night_of(day_bgr: np.ndarray, *, stamp_ns: int = STAMP_NS, **values: object) -> np.ndarray:
    return open_day_to_night(NightSettings(**values))(day_bgr, stamp_ns=stamp_ns)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(8))
def test_it_gets_dark_but_not_black(day_bgr: np.ndarray, seed: int) -> None:
    night = night_of(day_bgr, seed=seed)
    assert day_bgr.mean() > 90
    assert 12 < night.mean() < 60  # recorded night drives have means of 15 to 50
    assert night.max() > 200  # lamps


def test_the_sky_becomes_darker_than_the_road_ahead(day_bgr: np.ndarray) -> None:
    height, width = day_bgr.shape[:2]
    sky = (slice(0, height // 6), slice(width // 4, 3 * width // 4))
    road = (slice(2 * height // 3, 5 * height // 6), slice(2 * width // 5, 3 * width // 5))
    night = night_of(day_bgr, noise=0.0)
    assert day_bgr[sky].mean() > day_bgr[road].mean()
    assert np.median(night[sky]) < np.median(night[road])


@pytest.mark.parametrize("borrowed", [False, True])
def test_a_frame_does_not_depend_on_frames_before_it(day_bgr: np.ndarray, night_images: Path, borrowed: bool) -> None:
    values = NightSettings(seed=5, night_images=night_images if borrowed else None)
    drive = open_day_to_night(values)
    for step in range(3):
        drive(day_bgr[::-1].copy(), stamp_ns=STAMP_NS + step)
    after_others = drive(day_bgr, stamp_ns=STAMP_NS + 7)
    np.testing.assert_array_equal(after_others, open_day_to_night(values)(day_bgr, stamp_ns=STAMP_NS + 7))


@pytest.mark.parametrize("borrowed", [False, True])
def test_nothing_flickers_but_the_noise(day_bgr: np.ndarray, night_images: Path, borrowed: bool) -> None:
    folder = night_images if borrowed else None
    drive = open_day_to_night(NightSettings(seed=1, noise=0.0, night_images=folder))
    frames = [drive(day_bgr, stamp_ns=STAMP_NS + step * SECOND_NS // 30).astype(float) for step in range(4)]
    for before, after in itertools.pairwise(frames):
        assert np.abs(after - before).mean() < 0.5
    noisy = NightSettings(seed=1, noise=6.0, night_images=folder)
    difference = open_day_to_night(noisy)(day_bgr, stamp_ns=STAMP_NS).astype(float)
    difference -= open_day_to_night(noisy)(day_bgr, stamp_ns=STAMP_NS + 1).astype(float)
    assert difference.std() > 3


def test_seeds_are_different_nights(day_bgr: np.ndarray) -> None:
    nights = [night_of(day_bgr, seed=seed, noise=0.0).astype(float) for seed in range(4)]
    for index, night in enumerate(nights):
        for other in nights[index + 1 :]:
            assert np.abs(night - other).mean() > 1


def test_strength_zero_leaves_the_generated_nights_day(day_bgr: np.ndarray) -> None:
    day = night_of(day_bgr, strength=0.0, noise=0.0)
    assert np.abs(day.astype(int) - day_bgr).max() <= 1


def test_a_translator_decides_alone(day_bgr: np.ndarray, tmp_path: Path) -> None:
    bundle = write_tiny_translator(tmp_path, (96, 176))
    drive = open_day_to_night(NightSettings(bundle=bundle, seed=4, backend="onnxruntime"))
    np.testing.assert_array_equal(drive(day_bgr, stamp_ns=9), 255 - day_bgr)
    assert drive.name.startswith("negative on onnxruntime")


def test_missing_inputs_are_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is no model bundle"):
        open_day_to_night(NightSettings(bundle=tmp_path))
    with pytest.raises(InputError, match="holds no images"):
        open_day_to_night(NightSettings(night_images=tmp_path))


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    grey=st.integers(0, 255),
    stamp_ns=st.integers(-(2**31) * SECOND_NS, 2**31 * SECOND_NS),
    seed=st.integers(0, 2**31 - 1),
)
def test_any_frame_at_any_time_gets_a_night(height: int, width: int, grey: int, stamp_ns: int, seed: int) -> None:
    night = night_of(np.full((height, width, 3), grey, np.uint8), stamp_ns=stamp_ns, seed=seed)
    assert (night.shape, night.dtype) == ((height, width, 3), np.uint8)


def test_street_lamps_come_nearer() -> None:
    night = GeneratedNight(seed=0)
    spread = []
    for step in range(10):
        lamps = night.lamps(STAMP_NS + step * SECOND_NS // 30, (180, 320)).sum(axis=2)
        bright = np.argwhere(lamps > 0.6 * lamps.max())
        spread.append(np.abs(bright[:, 1] - 160).max())
    assert spread == sorted(spread)
    assert spread[-1] > spread[0]


@pytest.mark.parametrize("seed", range(20))
def test_light_changes_smoothly_all_the_time(seed: int) -> None:
    night = GeneratedNight(seed)
    lights = [night.light(STAMP_NS + step * SECOND_NS // 30) for step in range(150)]
    steps = [np.abs(after - before).max() for before, after in itertools.pairwise(lights)]
    assert max(steps) < 6  # grey levels a frame, at 30 Hz
