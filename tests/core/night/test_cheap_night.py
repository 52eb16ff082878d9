from __future__ import annotations

import numpy as np
import pytest

from darkseg_ros.night.cheap_night import (
    CheapNight,
    add_lamps,
    add_noise,
    apply_gamma,
    darken,
    swap_illumination,
    swap_low_frequency_amplitude,
)


def flat(value: float, side: int = 64) -> np.ndarray:
    return np.full((side, side, 3), value, np.float32)


def test_amplitude_swap_of_flat_images_takes_the_night_mean() -> None:
    # a flat image has only the zero frequency, and its amplitude is the mean
    np.testing.assert_allclose(swap_low_frequency_amplitude(flat(120), flat(20), window=1), flat(20), atol=1e-3)


def test_amplitude_swap_keeps_what_is_above_the_window() -> None:
    x = np.arange(64)
    wave = 10 * np.cos(2 * np.pi * 8 * x / 64)  # 8 cycles, window 3
    day = flat(120) + wave[None, :, None].astype(np.float32)
    expected = flat(20) + wave[None, :, None].astype(np.float32)
    np.testing.assert_allclose(swap_low_frequency_amplitude(day, flat(20), window=3), expected, atol=1e-2)


def test_illumination_swap_makes_a_bright_sky_as_dark_as_the_night_above_it() -> None:
    day, night = flat(100), flat(40)
    day[:32] = 240  # bright sky by day
    night[:32] = 5  # black sky by night
    image = swap_illumination(day, night, blur_px=2, strength=1)
    assert image[:16].mean() < 10
    assert image[48:].mean() > 30


def test_illumination_swap_keeps_local_contrast() -> None:
    day = flat(100)
    day[30:34, 30:34] = 150
    image = swap_illumination(day, flat(50), blur_px=8, strength=1)
    assert image[32, 32, 0] / image[5, 5, 0] == pytest.approx(1.5, rel=0.1)


def test_lamps_add_only_what_is_above_the_threshold() -> None:
    night = flat(100)
    night[0, 0] = 255
    image = add_lamps(flat(10), night, threshold=155)
    assert image[0, 0, 0] == pytest.approx(10 + 255)  # (255 − 155) stretched to 255
    assert image[5, 5, 0] == 10


def test_gamma_two_squares() -> None:
    assert apply_gamma(flat(127.5), gamma=2)[0, 0, 0] == pytest.approx(255 / 4)


def test_noise_has_the_asked_deviation() -> None:
    noisy = add_noise(flat(128, 200), sigma=5, rng=np.random.default_rng(0))
    assert noisy.dtype == np.uint8
    assert noisy.std() == pytest.approx(5, rel=0.05)


def test_darkening_depends_on_the_generator_alone() -> None:
    day = np.random.default_rng(1).integers(0, 255, (48, 96, 3)).astype(np.uint8)
    night = (day[::2, ::2] // 8).astype(np.uint8)
    first, again = (darken(day, night, CheapNight(), np.random.default_rng(7)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert first.shape == day.shape
    assert first.mean() < day.mean()
