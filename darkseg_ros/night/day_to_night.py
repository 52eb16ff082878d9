"""Day frames of a drive turned into night frames: by a translator's bundle, or cheaply without any model.

A night frame is a function of the day frame, its stamp and the settings. It does not matter which frames came before,
and the same drive looks the same after a restart.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from darkseg_ros.frames.source import image_files, read_image
from darkseg_ros.model.translator import Translator
from darkseg_ros.night.cheap_night import (
    CheapNight,
    IlluminationSwap,
    add_noise,
    apply_look,
    draw_look,
    swap_illumination,
)
from darkseg_ros.night.generated_night import GeneratedNight

NIGHT_TOPIC = "/day2night_node/night"
"""Night frames, as day2night_node publishes them."""

_BLUR_PX = 2.5
_SATURATION = 0.6
"""Of the day's: in little light a camera sees fewer colours."""


@dataclass(frozen=True)
class NightSettings:
    """How a drive is turned into night.

    Attributes:
        bundle: folder of a translator's bundle; None darkens without a model, and only then the next four count.
        seed: ≥ 0; settles street lamps, sky glow and all else that is random.
        night_images: folder of real night images, of which the seed takes one for its light; None generates light.
        strength: 0…1; 0 leaves the day's light, 1 takes the night's.
        noise: standard deviation of the sensor noise, in grey levels.
        backend: one of TRANSLATOR_BACKENDS, for the bundle.
        threads: of the bundle's inference; 0 leaves the choice to the library.
    """

    bundle: Path | None = None
    seed: int = 0
    night_images: Path | None = None
    strength: float = 0.92
    noise: float = 4.0
    backend: str = "auto"
    threads: int = 0


class DayToNight(Protocol):
    """Makes night frames. Not thread-safe: one thread owns it."""

    @property
    def name(self) -> str:
        """For logs and diagnostics."""

    def __call__(self, day_bgr: np.ndarray, *, stamp_ns: int) -> np.ndarray:
        """The night frame, of the day frame's size; both (H, W, 3) uint8 BGR."""

    def close(self) -> None:
        """Release what is held; no frame can be made afterwards."""


def open_day_to_night(settings: NightSettings) -> DayToNight:
    """Load the model or draw the drive's night.

    Raises:
        BundleError: if the bundle is none, or does not translate.
        EngineError: if the bundle's graph cannot run.
        InputError: if the folder of night images holds none.
    """
    if settings.bundle is not None:
        return _TranslatedDrive(Translator.open(settings.bundle, backend=settings.backend, threads=settings.threads))
    if settings.night_images is not None:
        return _BorrowedNight(settings, settings.night_images)
    return _GeneratedNightDrive(settings)


class _TranslatedDrive:
    """Every frame through the translator, which knows no time."""

    def __init__(self, translator: Translator) -> None:
        self.name = translator.name
        self._translator = translator

    def __call__(self, day_bgr: np.ndarray, *, stamp_ns: int) -> np.ndarray:
        del stamp_ns
        return self._translator(day_bgr)

    def close(self) -> None:
        self._translator.close()


class _GeneratedNightDrive:
    """The light of a `GeneratedNight` over the day's reflectance."""

    def __init__(self, settings: NightSettings) -> None:
        self.name = f"generated night, seed {settings.seed}"
        self._settings = settings
        self._night = GeneratedNight(settings.seed)

    def __call__(self, day_bgr: np.ndarray, *, stamp_ns: int) -> np.ndarray:
        height, width = day_bgr.shape[:2]
        strength = self._settings.strength
        light = cv2.resize(self._night.light(stamp_ns), (width, height), interpolation=cv2.INTER_LINEAR)
        image = swap_illumination(day_bgr.astype(np.float32), light, blur_px=_BLUR_PX, strength=strength)
        grey = image.mean(axis=2, keepdims=True)
        image = grey + (image - grey) * np.float32(1 - strength * (1 - _SATURATION))
        image += strength * self._night.lamps(stamp_ns, (height, width))
        return add_noise(image, sigma=self._settings.noise, rng=_grains(self._settings, stamp_ns))

    def close(self) -> None:
        """Nothing to release."""


class _BorrowedNight:
    """The light of one real night image over the day's reflectance."""

    def __init__(self, settings: NightSettings, folder: Path) -> None:
        files = image_files(folder)
        rng = np.random.default_rng(settings.seed)
        file = files[rng.integers(len(files))]
        look = draw_look(CheapNight(lamp_share=1.0), rng)
        # not the Fourier amplitude: its phase, and with it the light, would change with what drives by
        swap = IlluminationSwap(blur_px=_BLUR_PX, strength=settings.strength)
        self.name = f"light of {file.name}, seed {settings.seed}"
        self._settings = settings
        self._night_bgr = read_image(file)
        self._look = replace(look, swap=swap, noise_sigma=settings.noise)

    def __call__(self, day_bgr: np.ndarray, *, stamp_ns: int) -> np.ndarray:
        return apply_look(day_bgr, self._night_bgr, self._look, _grains(self._settings, stamp_ns))

    def close(self) -> None:
        """Nothing to release."""


def _grains(settings: NightSettings, stamp_ns: int) -> np.random.Generator:
    """Noise is new in each frame, and the same again for the same frame."""
    return np.random.default_rng((settings.seed, stamp_ns % 2**64))  # a driver's stamp may be negative
