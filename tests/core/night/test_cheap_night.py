from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from darkseg_ros.night.cheap_night import (
    AmplitudeSwap,
    CheapNight,
    IlluminationSwap,
    NightLook,
    add_lamps,
    add_noise,
    apply_gamma,
    apply_look,
    darken,
    draw_look,
    shift_colour,
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


def test_gamma_leaves_black_and_white_and_what_lies_beyond_them_is_white() -> None:
    assert [float(apply_gamma(flat(value), gamma=1)[0, 0, 0]) for value in (-5, 0, 255, 300)] == [0, 0, 255, 255]


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


def test_illumination_of_flat_images_is_that_of_night_over_day_worked_by_hand() -> None:
    # the day's light is its low-pass and 4, the night's its low-pass and 1
    image = swap_illumination(flat(100), flat(40), blur_px=4, strength=1)
    np.testing.assert_allclose(image, flat(100 * 41 / 104), rtol=1e-4)
    half = swap_illumination(flat(100), flat(40), blur_px=4, strength=0.5)
    np.testing.assert_allclose(half, flat(100 * np.sqrt(41 / 104)), rtol=1e-4)


def test_what_swings_as_fast_as_the_window_is_wide_is_swapped() -> None:
    rows, columns = np.mgrid[:64, :64]
    for wave in (np.cos(2 * np.pi * 3 * columns / 64), np.cos(2 * np.pi * 3 * rows / 64)):
        day = flat(120) + 10 * wave[..., None].astype(np.float32)
        np.testing.assert_allclose(swap_low_frequency_amplitude(day, flat(20), window=3), flat(20), atol=1e-2)


def plain_look(**changes: Any) -> NightLook:
    plain: dict[str, Any] = {
        "mirrored": False,
        "swap": IlluminationSwap(blur_px=2, strength=1),
        "lamp_threshold": None,
        "gains_bgr": (1.0, 1.0, 1.0),
        "gamma": 1.0,
        "noise_sigma": 0.0,
    }
    return NightLook(**plain | changes)


@pytest.mark.parametrize(("mirrored", "bright"), [(False, (0, 0)), (True, (0, 1))])
def test_a_mirrored_night_is_bright_on_the_other_side_and_as_high_as_before(
    mirrored: bool, bright: tuple[int, int]
) -> None:
    night = flat(5).astype(np.uint8)
    night[:32, :32] = 200  # above, left
    rng = np.random.default_rng(0)
    image = apply_look(flat(100).astype(np.uint8), night, plain_look(mirrored=mirrored), rng)
    quarters = image.reshape(2, 32, 2, 32, 3).mean(axis=(1, 3, 4))
    assert np.unravel_index(quarters.argmax(), quarters.shape) == bright


def test_each_part_of_a_look_does_what_it_says() -> None:
    day, night = flat(104).astype(np.uint8), flat(53).astype(np.uint8)
    rng = np.random.default_rng(0)
    lit = 104 * 54 / 108
    assert apply_look(day, night, plain_look(), rng)[0, 0].tolist() == [int(lit)] * 3
    gains = apply_look(day, night, plain_look(gains_bgr=(0.5, 1.0, 1.5)), rng)
    assert gains[0, 0].tolist() == [int(lit / 2), int(lit), int(lit * 1.5)]
    assert apply_look(day, night, plain_look(gamma=2.0), rng)[0, 0, 0] == int(lit**2 / 255)
    lamps = apply_look(day, night, plain_look(lamp_threshold=43.0), rng)
    assert lamps[0, 0, 0] == int(lit + 10 * 255 / 212)
    swapped = apply_look(day, night, plain_look(swap=AmplitudeSwap(window=1)), rng)
    assert abs(int(swapped[0, 0, 0]) - 53) <= 1
    assert apply_look(day, night, plain_look(noise_sigma=4.0), rng).std() == pytest.approx(4, rel=0.1)


def test_looks_are_drawn_from_the_ranges_that_the_settings_give() -> None:
    rng = np.random.default_rng(0)
    looks = [draw_look(CheapNight(), rng) for _ in range(2000)]

    def reach(values: list[float], low: float, high: float) -> None:
        assert low <= min(values) < low + 0.03 * (high - low)
        assert high - 0.03 * (high - low) < max(values) <= high

    by_light = [look.swap for look in looks if isinstance(look.swap, IlluminationSwap)]
    reach([swap.blur_px for swap in by_light], 2, 8)
    reach([swap.strength for swap in by_light], 0.7, 1)
    reach([look.swap.window for look in looks if isinstance(look.swap, AmplitudeSwap)], 0.5, 3)
    reach([look.lamp_threshold for look in looks if look.lamp_threshold is not None], 100, 180)
    reach([gain for look in looks for gain in look.gains_bgr], 0.85, 1.15)
    reach([look.gamma for look in looks if look.gamma != 1], 1, 1.6)
    reach([look.noise_sigma for look in looks], 0, 12)
    shares = [
        np.mean([look.mirrored for look in looks]),
        len(by_light) / 2000,
        np.mean([look.lamp_threshold is not None for look in looks]),
        np.mean([look.gamma != 1 for look in looks]),
    ]
    np.testing.assert_allclose(shares, [0.5, 0.6, 0.4, 0.5], atol=0.04)


def test_shares_of_zero_and_one_leave_nothing_to_chance() -> None:
    rng = np.random.default_rng(1)
    never = CheapNight(illumination_share=0.0, amplitude_window_max=0.5, lamp_share=0.0, gamma_max=1.0, noise_max=0.0)
    for look in (draw_look(never, rng) for _ in range(50)):
        assert look.swap == AmplitudeSwap(window=0.5)
        assert (look.lamp_threshold, look.gamma, look.noise_sigma) == (None, 1.0, 0.0)
    always = CheapNight(illumination_share=1.0, lamp_share=1.0)
    for look in (draw_look(always, rng) for _ in range(50)):
        assert isinstance(look.swap, IlluminationSwap)
        assert look.lamp_threshold is not None


def test_training_darkens_three_images_of_five_unless_told_otherwise() -> None:
    assert CheapNight() == CheapNight(
        share=0.6, illumination_share=0.6, amplitude_window_max=3.0, lamp_share=0.4, gamma_max=1.6, noise_max=12.0
    )


def test_colours_of_each_channel_are_multiplied_by_its_own_gain() -> None:
    assert shift_colour(flat(100), gains=np.array([0.5, 1.0, 2.0]))[3, 5].tolist() == [50, 100, 200]


def test_noise_stays_within_8_bits_and_without_it_fractions_are_cut_off() -> None:
    rng = np.random.default_rng(0)
    for level in (0, 255):
        noisy = add_noise(flat(level, 40), sigma=30, rng=rng)
        assert (noisy == level).mean() == pytest.approx(0.5, abs=0.05)
    assert add_noise(flat(7.9), sigma=0, rng=rng)[0, 0].tolist() == [7, 7, 7]


def test_noise_differs_from_channel_to_channel_and_pixel_to_pixel() -> None:
    noisy = add_noise(flat(128, 60), sigma=6, rng=np.random.default_rng(0)).astype(float) - 128
    assert abs(np.corrcoef(noisy[..., 0].ravel(), noisy[..., 2].ravel())[0, 1]) < 0.1
    assert abs(np.corrcoef(noisy[:, 1:].ravel(), noisy[:, :-1].ravel())[0, 1]) < 0.1


def test_a_narrow_window_takes_the_mean_alone() -> None:
    wave = 10 * np.cos(2 * np.pi * np.arange(64) / 64)[None, :].repeat(64, axis=0)  # one cycle
    day = flat(120) + wave[..., None].astype(np.float32)
    kept = swap_low_frequency_amplitude(day, flat(20), window=0.5)
    np.testing.assert_allclose(kept, flat(20) + wave[..., None], atol=1e-2)


def test_swapping_keeps_the_size_of_the_day_whatever_that_of_the_night() -> None:
    day = np.full((30, 50, 3), 100, np.uint8)
    night = np.full((7, 200, 3), 40, np.uint8)
    for swap in (IlluminationSwap(blur_px=2, strength=1), AmplitudeSwap(window=1)):
        image = apply_look(day, night, plain_look(swap=swap), np.random.default_rng(0))
        assert (image.shape, image.dtype) == ((30, 50, 3), np.uint8)


def test_no_light_of_the_night_is_negative_and_nothing_is_divided_by_none() -> None:
    black, white = flat(0), flat(0)
    white[20:24, 20:24] = 255
    image = swap_illumination(white, black, blur_px=1, strength=1)
    assert np.isfinite(image).all()
    assert image.min() >= 0
    assert swap_illumination(black, white, blur_px=1, strength=1).max() == 0
