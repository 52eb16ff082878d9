"""Turns surfaces, lamps and distances into what a camera records, by day and by night.

Light is linear in here: a surface's grey level is taken as the square root of its reflectance, and the
picture as the square root of the light (gamma 2, so that OpenCV's fast square root does it).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np

from darkseg_ros.synthetic_drive.camera import MOUNT_HEIGHT_M, Camera
from darkseg_ros.synthetic_drive.canvas import GROUND_CODE, METRES_OF_CODE, SKY_CODE, Canvas
from darkseg_ros.synthetic_drive.street import SODIUM, VEHICLE_LENGTH_M, WHITE_LED, StreetLight, Vehicle

MOON_AND_SKYGLOW = (0.0085, 0.0072, 0.0075)
STREET_LIGHT_POWER = 23.0
NIGHT_EXPOSURE = 0.42
"""Set so that frames are as dark as recorded night drives: a mean of 25 to 45 of 255."""
HEADLAMP_COLOUR = (0.93, 0.98, 1.0)
HAZE_BGR = (222, 214, 206)
HAZE_M = 420.0
LAMP_GAIN = 6.0
"""How much brighter than white paint in full light a glow of 255 is; faint glows gain nothing."""
LAMP_RADIANCE = 2.2
"""What is brighter than this, lamps but not windows, has a halo."""

_GREY = np.linspace(0.0, 1.0, 256, dtype=np.float32)
REFLECTANCE_OF_GREY = _GREY**2
RADIANCE_OF_GLOW = _GREY**2 * (1.0 + (LAMP_GAIN - 1.0) * _GREY**2)


def light_by_day(canvas: Canvas) -> np.ndarray:
    """(H, W, 3) uint8 BGR before sensor noise: even light, and haze that grows with distance."""
    camera = canvas.camera
    clearness = np.exp(-METRES_OF_CODE / HAZE_M).astype(np.float32)
    clearness[SKY_CODE] = 0.0
    codes = cv2.extractChannel(canvas.glow, 3)
    clear = cv2.LUT(codes, clearness)
    on_ground = (codes[camera.horizon_px :] == GROUND_CODE).astype(np.uint8)
    ground = np.exp(-camera.ground_distances_m() / HAZE_M).astype(np.float32)
    cv2.copyTo(np.repeat(ground[:, None], codes.shape[1], axis=1), on_ground, clear[camera.horizon_px :])

    veil = np.empty((*codes.shape, 3), np.uint8)
    veil[:] = HAZE_BGR
    cv2.copyTo(cv2.cvtColor(canvas.glow, cv2.COLOR_BGRA2BGR), (codes == SKY_CODE).astype(np.uint8), veil)
    surface = cv2.cvtColor(canvas.surface, cv2.COLOR_BGRA2BGR)
    return cv2.blendLinear(surface, veil, clear, 1.0 - clear)


def light_by_night(canvas: Canvas, lights: Sequence[StreetLight], vehicles: Sequence[Vehicle]) -> np.ndarray:
    """(H, W, 3) uint8 BGR before sensor noise: lamps, what they light up, and their halos.

    Args:
        canvas: the drawn frame.
        lights: street lights near enough to matter.
        vehicles: vehicles whose lamps are on.
    """
    height, width = canvas.surface.shape[:2]
    step = max(1, height // 256)
    light = _irradiance(canvas, lights, vehicles, step)
    light = cv2.resize(light, (width, height), interpolation=cv2.INTER_LINEAR)

    radiance = cv2.LUT(cv2.cvtColor(canvas.surface, cv2.COLOR_BGRA2BGR), REFLECTANCE_OF_GREY)
    cv2.multiply(radiance, light, radiance)
    cv2.add(radiance, cv2.LUT(cv2.cvtColor(canvas.glow, cv2.COLOR_BGRA2BGR), RADIANCE_OF_GLOW), radiance)
    cv2.add(radiance, _halo(radiance, canvas), radiance)
    cv2.sqrt(radiance, radiance)
    return cv2.convertScaleAbs(radiance, alpha=255.0 * NIGHT_EXPOSURE**0.5)


def _irradiance(canvas: Canvas, lights: Sequence[StreetLight], vehicles: Sequence[Vehicle], step: int) -> np.ndarray:
    """(h, w, 3) float32 light that arrives at each step-th pixel."""
    camera = canvas.camera
    codes = canvas.glow[::step, ::step, 3]
    height, width = codes.shape
    rows = (np.arange(height, dtype=np.float32) * step + 0.5 - camera.horizon_px)[:, None]
    columns = (np.arange(width, dtype=np.float32) * step + 0.5 - camera.centre_px)[None, :]
    ground_m = camera.focal_px * MOUNT_HEIGHT_M / np.maximum(rows, 0.5)
    ahead = np.where(codes == GROUND_CODE, ground_m, METRES_OF_CODE[codes])
    per_px = ahead / np.float32(camera.focal_px)
    right, up = columns * per_px, MOUNT_HEIGHT_M - rows * per_px

    # low beam: a broad cone that widens ahead, cut off above the height of the lamps
    spread = np.exp(-((right / (0.2 * ahead + 1.2)) ** 2))
    reach = (1.0 - np.exp(-ahead / 5.0)) / (1.0 + (ahead / 15.0) ** 2)
    beam = 1.3 * spread * reach * (0.1 + 0.9 * np.exp(-np.maximum(up - 0.75, 0.0) / 0.45))
    for vehicle in vehicles:
        lit_m = 0.5 * VEHICLE_LENGTH_M[vehicle.kind] + 6.0
        front = (vehicle.x_m, 0.0, vehicle.z_m + vehicle.heading * lit_m)
        place = camera.to_camera(np.array([front]))[0].astype(np.float32)
        squared = ((right - place[0]) / 1.4) ** 2 + ((ahead - place[2]) / 4.5) ** 2 + np.maximum(up - 0.4, 0.0) ** 2
        beam += 0.4 * np.exp(-squared)

    pools = {SODIUM: np.zeros_like(beam), WHITE_LED: np.zeros_like(beam)}
    for lamp in lights:
        place = camera.to_camera(np.array([lamp.lamp_xyz_m]))[0].astype(np.float32)
        below = np.maximum(place[1] + MOUNT_HEIGHT_M - up, 0.0)
        squared = (right - place[0]) ** 2 + (ahead - place[2]) ** 2 + below**2 + 2.0
        pools[lamp.colour] += STREET_LIGHT_POWER * below / (squared * np.sqrt(squared))
    channels = [
        MOON_AND_SKYGLOW[c] + HEADLAMP_COLOUR[c] * beam + sum(colour[c] * pool for colour, pool in pools.items())
        for c in range(3)
    ]
    return cv2.GaussianBlur(cv2.merge(channels), (0, 0), 0.8)


def _halo(radiance: np.ndarray, canvas: Canvas) -> np.ndarray:
    """(H, W, 3) float32 light that the lens scatters around lamps, and their reflections on the road."""
    height, width = radiance.shape[:2]
    small_wh = (max(width // 4, 1), max(height // 4, 1))
    tiny_wh = (max(width // 16, 1), max(height // 16, 1))
    bright = cv2.threshold(radiance, LAMP_RADIANCE, 0.0, cv2.THRESH_TOZERO)[1]
    small = cv2.resize(bright, small_wh, interpolation=cv2.INTER_AREA)
    tiny = cv2.resize(small, tiny_wh, interpolation=cv2.INTER_AREA)
    unit = width / 1024
    near = cv2.GaussianBlur(small, (0, 0), max(1.6 * unit, 0.3))
    middle = cv2.GaussianBlur(small, (0, 0), max(5.0 * unit, 0.3))
    wide = cv2.resize(cv2.GaussianBlur(tiny, (0, 0), max(5.0 * unit, 0.3)), small_wh)
    scattered = 0.45 * near + 0.5 * middle + 0.55 * wide

    length = max(3, small_wh[1] // 4) | 1
    streak = cv2.blur(small, (3, length), anchor=(1, length - 1))
    streak = cv2.GaussianBlur(streak, (0, 0), sigmaX=max(2.0 * unit, 0.3), sigmaY=max(8.0 * unit, 0.3))
    ground = canvas.glow[::4, ::4, 3][: small_wh[1], : small_wh[0]] == GROUND_CODE
    scattered += 0.4 * streak * ground[..., None]
    return cv2.resize(scattered, (width, height), interpolation=cv2.INTER_LINEAR)


@lru_cache(maxsize=4)
def _vignette(size_hw: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) uint8 share of light that the lens lets through: 255 in the middle, less at the corners."""
    rows = np.linspace(-1, 1, size_hw[0], dtype=np.float32)[:, None]
    columns = np.linspace(-1, 1, size_hw[1], dtype=np.float32)[None, :]
    through = np.rint(255 * (1.0 - 0.09 * (rows**2 + columns**2))).astype(np.uint8)
    return cv2.merge((through, through, through))


def record(bgr: np.ndarray, grain: np.ndarray, *, rng: np.random.Generator, camera: Camera) -> np.ndarray:
    """Adds what the camera adds: soft edges, darker corners, noise.

    Args:
        bgr: (H, W, 3) uint8.
        grain: int16 noise in sixteenths of a grey level, larger than the frame.
        rng: chooses the place of the noise, new for each frame.
        camera: for the size.
    """
    height, width = camera.size_hw
    soft = cv2.GaussianBlur(bgr, (3, 3), 0.55)
    top, left = (
        int(rng.integers(extent - size + 1)) for extent, size in zip(grain.shape, (height, width), strict=False)
    )
    noise = grain[top : top + height, left : left + width]
    soft = cv2.multiply(soft, _vignette(camera.size_hw), scale=1 / 255)
    return cv2.addWeighted(soft, 1.0, noise, 1 / 16, 0.0, dtype=cv2.CV_8U)
