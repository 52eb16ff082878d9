"""Day images made dark with the statistics of night images, in milliseconds and without labels.

Two ways of taking over a night image's light, chosen at random, then lamps, gamma, colour cast and sensor noise. What
is drawn at random is a `NightLook`: training draws one an image, a drive keeps one for all of its frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

_SMALL_PX = 64
"""Low frequencies are handled on a copy of this side: the same answer, at a fraction of the time."""


@dataclass
class CheapNight:
    """How day images are darkened.

    Attributes:
        share: of the labelled images that are darkened.
        illumination_share: of the darkened ones that take the night image's illumination; the others its Fourier
            amplitude.
        amplitude_window_max: largest half-width of the swapped Fourier window, in cycles an image.
        lamp_share: of the darkened ones onto which the night image's bright spots are added.
        gamma_max: largest darkening exponent; 1 leaves tones alone.
        noise_max: largest standard deviation of the sensor noise, in grey levels.
    """

    share: float = 0.6
    illumination_share: float = 0.6
    amplitude_window_max: float = 3.0
    lamp_share: float = 0.4
    gamma_max: float = 1.6
    noise_max: float = 12.0


@dataclass(frozen=True)
class IlluminationSwap:
    """Arguments of `swap_illumination`."""

    blur_px: float
    strength: float


@dataclass(frozen=True)
class AmplitudeSwap:
    """Arguments of `swap_low_frequency_amplitude`."""

    window: float


@dataclass(frozen=True)
class NightLook:
    """One outcome of all that is random but the grains of the noise.

    Attributes:
        mirrored: whether the night image is taken left for right.
        swap: how the night image's light is taken over.
        lamp_threshold: grey level above which the night image's bright spots are added; None adds none.
        gains_bgr: of the three channels.
        gamma: darkening exponent.
        noise_sigma: standard deviation of the sensor noise, in grey levels.
    """

    mirrored: bool
    swap: IlluminationSwap | AmplitudeSwap
    lamp_threshold: float | None
    gains_bgr: tuple[float, float, float]
    gamma: float
    noise_sigma: float


def darken(day_bgr: np.ndarray, night_bgr: np.ndarray, settings: CheapNight, rng: np.random.Generator) -> np.ndarray:
    """Give a day image the light of a night image, with a look drawn for it.

    Args:
        day_bgr: (H, W, 3) uint8.
        night_bgr: uint8 BGR of any size.
        settings: how strong.
        rng: source of all randomness.

    Returns:
        (H, W, 3) uint8 BGR.
    """
    return apply_look(day_bgr, night_bgr, draw_look(settings, rng), rng)


def draw_look(settings: CheapNight, rng: np.random.Generator) -> NightLook:
    """Settle what is random."""
    mirrored = bool(rng.random() < 0.5)
    swap: IlluminationSwap | AmplitudeSwap
    if rng.random() < settings.illumination_share:
        swap = IlluminationSwap(blur_px=rng.uniform(2.0, 8.0), strength=rng.uniform(0.7, 1.0))
    else:
        swap = AmplitudeSwap(window=rng.uniform(0.5, settings.amplitude_window_max))
    lamp_threshold = rng.uniform(100, 180) if rng.random() < settings.lamp_share else None
    blue, green, red = rng.uniform(0.85, 1.15, 3)
    gamma = rng.uniform(1.0, settings.gamma_max) if rng.random() < 0.5 else 1.0
    return NightLook(
        mirrored=mirrored,
        swap=swap,
        lamp_threshold=lamp_threshold,
        gains_bgr=(blue, green, red),
        gamma=gamma,
        noise_sigma=rng.uniform(0, settings.noise_max),
    )


def apply_look(day_bgr: np.ndarray, night_bgr: np.ndarray, look: NightLook, rng: np.random.Generator) -> np.ndarray:
    """Give a day image the light of a night image.

    Args:
        day_bgr: (H, W, 3) uint8.
        night_bgr: uint8 BGR of any size.
        look: how.
        rng: of the noise's grains.

    Returns:
        (H, W, 3) uint8 BGR.
    """
    height, width = day_bgr.shape[:2]
    night = cv2.resize(night_bgr, (width, height), interpolation=cv2.INTER_AREA)
    if look.mirrored:
        night = night[:, ::-1]
    day = day_bgr.astype(np.float32)
    night = np.ascontiguousarray(night).astype(np.float32)
    if isinstance(look.swap, IlluminationSwap):
        image = swap_illumination(day, night, blur_px=look.swap.blur_px, strength=look.swap.strength)
    else:
        image = swap_low_frequency_amplitude(day, night, window=look.swap.window)
    if look.lamp_threshold is not None:
        image = add_lamps(image, night, threshold=look.lamp_threshold)
    image = shift_colour(image, gains=np.array(look.gains_bgr))
    image = apply_gamma(image, gamma=look.gamma)
    return add_noise(image, sigma=look.noise_sigma, rng=rng)


def swap_illumination(day: np.ndarray, night: np.ndarray, *, blur_px: float, strength: float) -> np.ndarray:
    """Keep the day image's reflectance, take the night image's illumination.

    image = illumination × reflectance, where the illumination is the low-pass of the image; per colour channel.
    Brightness then no longer tells the class: the sky gets whatever light the real night has up there.

    Args:
        day: (H, W, 3) float, 0…255.
        night: the same shape.
        blur_px: standard deviation of the low-pass, in pixels of a 64×64 copy.
        strength: 0 keeps the day's illumination, 1 takes the night's (geometric interpolation).

    Source: Land and McCann, "Lightness and Retinex Theory", 1971; homomorphic filtering (Stockham 1972).
    """
    day_light = _low_pass(day, blur_px) + 4.0
    night_light = _low_pass(night, blur_px) + 1.0
    return day * (night_light / day_light) ** np.float32(strength)


def swap_low_frequency_amplitude(day: np.ndarray, night: np.ndarray, *, window: float) -> np.ndarray:
    """Replace the low-frequency Fourier amplitude of a day image by that of a night image; the phase stays.

    Args:
        day: (H, W, 3) float, 0…255.
        night: the same shape.
        window: half-width of the swapped square of frequencies, in cycles an image.

    Source: Yang and Soatto, "FDA: Fourier Domain Adaptation for Semantic Segmentation", CVPR 2020 (arXiv 2004.05498),
        equation 3.
    Differs: the change, being of low frequency, is computed on a 64×64 copy and added in full size.
    """
    small_day, small_night = _shrink(day), _shrink(night)
    day_spectrum = np.fft.fft2(small_day, axes=(0, 1))
    night_spectrum = np.fft.fft2(small_night, axes=(0, 1))
    frequency = np.abs(np.fft.fftfreq(_SMALL_PX, 1 / _SMALL_PX))
    inside = (np.maximum(frequency[:, None], frequency[None, :]) <= window)[:, :, None]
    amplitude = np.where(inside, np.abs(night_spectrum), np.abs(day_spectrum))
    swapped = np.fft.ifft2(amplitude * np.exp(1j * np.angle(day_spectrum)), axes=(0, 1)).real
    return day + _enlarge((swapped - small_day).astype(np.float32), day.shape[:2])


def add_lamps(image: np.ndarray, night: np.ndarray, *, threshold: float) -> np.ndarray:
    """Add what is brighter than `threshold` grey levels in the night image: lamps and their glow, where they hang."""
    excess = np.maximum(night - threshold, 0) * (255 / (255 - threshold))
    return image + excess


def shift_colour(image: np.ndarray, *, gains: np.ndarray) -> np.ndarray:
    """Multiply the three channels by their gains."""
    return image * gains.astype(np.float32)


def apply_gamma(image: np.ndarray, *, gamma: float) -> np.ndarray:
    """Darken mid tones: 255 · (image / 255)^gamma."""
    return 255 * (np.clip(image, 0, 255) / 255) ** np.float32(gamma)


def add_noise(image: np.ndarray, *, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian sensor noise of standard deviation `sigma` grey levels; (H, W, 3) uint8 back."""
    noise = rng.standard_normal(image.shape, np.float32)
    return np.clip(image + sigma * noise, 0, 255).astype(np.uint8)


def _shrink(image: np.ndarray) -> np.ndarray:
    return cv2.resize(image, (_SMALL_PX, _SMALL_PX), interpolation=cv2.INTER_AREA)


def _enlarge(image: np.ndarray, size_hw: tuple[int, ...]) -> np.ndarray:
    return cv2.resize(image, (size_hw[1], size_hw[0]), interpolation=cv2.INTER_CUBIC)


def _low_pass(image: np.ndarray, blur_px: float) -> np.ndarray:
    small = cv2.GaussianBlur(_shrink(image), (0, 0), blur_px, borderType=cv2.BORDER_REPLICATE)
    return np.maximum(_enlarge(small, image.shape[:2]), 0)
