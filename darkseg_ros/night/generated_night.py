"""The light of a night that never was: sky glow, the vehicle's own headlamps and street lamps that pass by.

Drawn by a seed, so that day images can be darkened where no night image is at hand; no image is stored.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

_FIELD_HW = (64, 64)
"""Light is smooth: it is drawn at this size, in fractions of the image, and enlarged."""

_SODIUM_BGR = (0.42, 0.75, 1.0)
_LED_BGR = (1.0, 0.97, 0.9)
_CAMERA_HEIGHT_M = 1.4
_HEIGHTS_A_WIDTH = 1.8
"""Width by height of the image that the street is laid out for; on another one the lamps hang a little off."""

_FOCAL_LENGTH = 1.0
"""In image widths: a horizontal view of 53°, about that of a driving camera."""

_LAMPS_FROM_M, _LAMPS_TO_M, _LAMPS_FULL_M = 6.0, 150.0, 90.0
_HOUR_NS = 3600 * 10**9
"""The street repeats itself after an hour: of today's stamps a float would keep no milliseconds."""


@dataclass(frozen=True)
class _Street:
    """What the seed settles.

    Attributes:
        ambient_bgr: light that is everywhere, in grey levels.
        glow_bgr: of the sky just above the horizon, in grey levels.
        horizon: height of the horizon as a fraction of the image's, from the top.
        beam_bgr: of the headlamps where they are strongest, in grey levels.
        lamp_bgr: colour of the street lamps.
        lamp_power: grey levels that a street lamp throws on the ground beneath it.
        lamp_distance_m: from one lamp to the next, along the road.
        lamp_height_m: above the road.
        lamp_sides_m: distances of the two rows from the camera, to the left (negative) and to the right.
        first_lamp_m: distance of the first lamp at stamp 0.
        speed_mps: at which the lamps come nearer, whatever the vehicle does: a picture does not tell its speed.
    """

    ambient_bgr: np.ndarray
    glow_bgr: np.ndarray
    horizon: float
    beam_bgr: np.ndarray
    lamp_bgr: np.ndarray
    lamp_power: float
    lamp_distance_m: float
    lamp_height_m: float
    lamp_sides_m: tuple[float, ...]
    first_lamp_m: float
    speed_mps: float


class GeneratedNight:
    """Light and lamps of one drive by night, a function of the seed and the time alone.

    Args:
        seed: ≥ 0; another one is another street.
    """

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        sodium = rng.random() < 0.5
        lamp_bgr = np.array(_SODIUM_BGR if sodium else _LED_BGR)
        left_m, right_m = -rng.uniform(4.0, 6.5), rng.uniform(4.5, 8.0)
        sides_m = ((left_m,), (right_m,), (left_m, right_m))[rng.integers(3)]
        self._street = _Street(
            ambient_bgr=rng.uniform(5.0, 10.0) * np.array((1.15, 1.0, 0.95)),
            glow_bgr=rng.uniform(6.0, 22.0) * (0.4 + 0.6 * lamp_bgr),
            horizon=rng.uniform(0.44, 0.5),
            beam_bgr=rng.uniform(50.0, 85.0) * np.array((0.9, 0.97, 1.0)),
            lamp_bgr=lamp_bgr,
            lamp_power=rng.uniform(20.0, 55.0),
            lamp_distance_m=rng.uniform(25.0, 40.0),
            lamp_height_m=rng.uniform(6.5, 9.0),
            lamp_sides_m=sides_m,
            first_lamp_m=rng.uniform(0.0, 40.0),
            speed_mps=rng.uniform(8.0, 14.0),
        )

    def light(self, stamp_ns: int) -> np.ndarray:
        """What arrives on the surfaces: (64, 64, 3) float32 BGR, grey levels of a white surface."""
        street = self._street
        rows, columns = _grid()
        below = rows - street.horizon
        light = np.zeros((*_FIELD_HW, 3)) + street.ambient_bgr
        light += np.exp(-((below / 0.16) ** 2))[..., None] * street.glow_bgr * (below < 0.1)[..., None]
        # two cones side by side: brightest on the road a few metres ahead, cut off just above the horizon
        cone = sum(np.exp(-(((columns - 0.5 - side) / 0.2) ** 2)) for side in (-0.12, 0.12))
        reach = np.exp(-(((below - 0.24) / 0.2) ** 2)) / (1 + np.exp(-below / 0.03))
        light += (cone * reach)[..., None] * street.beam_bgr
        for x, y, distance_m in self._lamps(stamp_ns):
            spread = min(1.6 / distance_m, 0.35) + 0.03
            ground = street.horizon + _HEIGHTS_A_WIDTH * _FOCAL_LENGTH * _CAMERA_HEIGHT_M / distance_m
            centre = 0.3 * y + 0.7 * ground
            pool = np.exp(-(((columns - x) / (2.2 * spread)) ** 2) - ((rows - centre) / (2.5 * spread)) ** 2)
            light += pool[..., None] * street.lamp_bgr * street.lamp_power * _fade(distance_m)
        return light.astype(np.float32)

    def lamps(self, stamp_ns: int, size_hw: tuple[int, int]) -> np.ndarray:
        """The street lamps themselves with their halos: (H, W, 3) float32 BGR, grey levels to be added."""
        height, width = size_hw
        step = max(1, height // 256)  # halos are smooth
        small_hw = (max(1, height // step), max(1, width // step))
        aspect = width / height
        rows = ((np.arange(small_hw[0]) + 0.5) / small_hw[0])[:, None]
        columns = ((np.arange(small_hw[1]) + 0.5) / small_hw[1])[None, :]
        glow = np.zeros(small_hw)
        for x, y, distance_m in self._lamps(stamp_ns):
            radius = 0.11 / distance_m + 0.0016
            squared = ((columns - x) / radius) ** 2 + ((rows - y) / (radius * aspect)) ** 2
            glow += _fade(distance_m) * (420 * np.exp(-squared) + 60 / (1 + squared / 6) ** 1.5)
        lamps = (glow[..., None] * self._street.lamp_bgr).astype(np.float32)
        return cv2.resize(lamps, (width, height), interpolation=cv2.INTER_LINEAR)

    def _lamps(self, stamp_ns: int) -> list[tuple[float, float, float]]:
        """Where the lamps in sight are: x and y as fractions of the image, and the distance in metres."""
        street = self._street
        spacing_m = street.lamp_distance_m
        travelled_m = street.speed_mps * (stamp_ns % _HOUR_NS) / 1e9
        nearest_m = (street.first_lamp_m - travelled_m) % spacing_m
        found = []
        for row, side_m in enumerate(street.lamp_sides_m):
            for distance_m in np.arange((nearest_m + row * spacing_m / 2) % spacing_m, _LAMPS_TO_M, spacing_m):
                if distance_m > _LAMPS_FROM_M:
                    x = 0.5 + _FOCAL_LENGTH * side_m / distance_m
                    above_m = street.lamp_height_m - _CAMERA_HEIGHT_M
                    y = street.horizon - _HEIGHTS_A_WIDTH * _FOCAL_LENGTH * above_m / distance_m
                    found.append((float(x), float(y), float(distance_m)))
        return found


def _fade(distance_m: float) -> float:
    """Lamps come into sight and leave it little by little."""
    coming = (_LAMPS_TO_M - distance_m) / (_LAMPS_TO_M - _LAMPS_FULL_M)
    leaving = distance_m / _LAMPS_FROM_M - 1
    return float(np.clip(min(coming, leaving), 0, 1))


def _grid() -> tuple[np.ndarray, np.ndarray]:
    height, width = _FIELD_HW
    return ((np.arange(height) + 0.5) / height)[:, None], ((np.arange(width) + 0.5) / width)[None, :]
