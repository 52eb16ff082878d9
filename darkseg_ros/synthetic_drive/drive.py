"""A generated drive: the street, the camera that moves along it, one frame after another."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from darkseg_ros.synthetic_drive import lighting, painting
from darkseg_ros.synthetic_drive.camera import FAR_M, NEAR_M, Camera
from darkseg_ros.synthetic_drive.canvas import Canvas
from darkseg_ros.synthetic_drive.street import LANE_X_M, Street, StreetLight, Vehicle
from darkseg_ros.synthetic_drive.textures import make_textures

EGO_SPEED_M_PER_S = 10.0
SMALLEST_HW = (16, 16)
LIGHT_REACH_M = 120.0
BEND_PER_M = 1 / 700


@dataclass(frozen=True)
class Scene:
    """One frame and its truth.

    Attributes:
        bgr: (H, W, 3) uint8 picture.
        label_map: (H, W) uint8 train ids; every pixel has a class.
    """

    bgr: np.ndarray
    label_map: np.ndarray


class SyntheticDrive:
    """A drive along a generated street, by day or by night, with exact label maps.

    A frame is a pure function of the seed, the size, the rate and its index, so any frame can be drawn alone.
    The same seed gives the same label maps by day and by night.

        >>> scene = SyntheticDrive(seed=1, size_hw=(64, 128)).frame(0)
        >>> scene.bgr.shape, scene.label_map.shape
        ((64, 128, 3), (64, 128))
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        size_hw: tuple[int, int] = (512, 1024),
        night: bool = True,
        rate_hz: float = 30.0,
    ) -> None:
        """Makes the street and its surfaces.

        Args:
            seed: 0 or more; another seed is another street.
            size_hw: frame size in pixels, at least 16 × 16.
            night: night with lamps, or day.
            rate_hz: frames per second of the drive.

        Raises:
            ValueError: if the seed is negative, the size too small, or the rate not a positive number.
        """
        if seed < 0:
            raise ValueError(f"expected a seed of 0 or more, got {seed}; pass a non-negative integer")
        if size_hw[0] < SMALLEST_HW[0] or size_hw[1] < SMALLEST_HW[1]:
            raise ValueError(
                f"expected size_hw of at least 16 x 16 pixels, got {size_hw[0]} x {size_hw[1]};"
                " pass (height, width) of the frames wanted, e.g. (512, 1024)"
            )
        if not (math.isfinite(rate_hz) and rate_hz > 0):
            raise ValueError(f"expected rate_hz above 0, got {rate_hz}; pass frames per second, e.g. 30.0")
        self.seed = seed
        self.size_hw = size_hw
        self.night = night
        self.rate_hz = rate_hz
        self._street = Street(seed)
        horizon_px = self._camera(0.0).horizon_px
        self._textures = make_textures(seed, size_hw=size_hw, horizon_px=horizon_px, night=night)

    def frame(self, index: int) -> Scene:
        """Draws one frame.

        Args:
            index: 0 or more; frame `index` is taken ``index / rate_hz`` seconds into the drive.

        Raises:
            ValueError: if the index is negative.
        """
        if index < 0:
            raise ValueError(f"expected a frame index of 0 or more, got {index}; the drive begins at frame 0")
        time_s = index / self.rate_hz
        camera = self._camera(time_s)
        items = self._street.items(from_m=camera.z_m - 20.0, to_m=camera.z_m + FAR_M, time_s=time_s, ego_z_m=camera.z_m)
        canvas = Canvas(camera, self._textures, night=self.night)
        painting.paint_sky(canvas)
        painting.paint_ground(canvas)
        for item in items:
            if item.far_m > camera.z_m + NEAR_M:
                painting.paint(item, canvas)
        if self.night:
            near = [item for item in items if item.far_m < camera.z_m + LIGHT_REACH_M]
            bgr = lighting.light_by_night(
                canvas,
                [item for item in near if isinstance(item, StreetLight)],
                [item for item in near if isinstance(item, Vehicle) and item.lamps_on],
            )
        else:
            bgr = lighting.light_by_day(canvas)
        rng = np.random.default_rng((self.seed, 30, index))
        recorded = lighting.record(bgr, self._textures.grain, rng=rng, camera=camera)
        return Scene(bgr=recorded, label_map=canvas.surface[..., 3].copy())

    def _camera(self, time_s: float) -> Camera:
        """The ego vehicle at constant speed on a street that winds slowly, swaying a little in its lane."""
        phase = 2.0 * math.pi * float(np.random.default_rng((self.seed, 31)).random())
        slow_hz, sway_hz = 0.05, 0.11
        omega = 2.0 * math.pi * slow_hz
        turned = (math.cos(phase) - math.cos(omega * time_s + phase)) / omega
        return Camera(
            size_hw=self.size_hw,
            x_m=LANE_X_M + 0.18 * math.sin(2.0 * math.pi * sway_hz * time_s + phase),
            z_m=EGO_SPEED_M_PER_S * time_s,
            bend_per_m=BEND_PER_M * math.sin(omega * time_s + phase),
            heading_rad=BEND_PER_M * EGO_SPEED_M_PER_S * turned,
        )
