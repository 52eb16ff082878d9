"""The pinhole camera of the ego vehicle, on a street that may bend."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

NEAR_M = 2.0
"""Nothing but the ground is drawn closer than this."""

FAR_M = 260.0
"""Nothing but the ground is drawn farther than this."""

MOUNT_HEIGHT_M = 1.4


@dataclass(frozen=True)
class Camera:
    """Where the ego vehicle is, and how street coordinates become pixels.

    Street coordinates are metres: x to the right of the centre line, y above the ground, z along the street.

    Attributes:
        size_hw: picture size in pixels.
        x_m: the camera's place across the street.
        z_m: the camera's place along the street.
        bend_per_m: curvature of the street ahead; positive bends to the right.
        heading_rad: direction of travel, which moves sky and skyline sideways.
    """

    size_hw: tuple[int, int]
    x_m: float
    z_m: float
    bend_per_m: float
    heading_rad: float

    @property
    def focal_px(self) -> float:
        return 0.8 * self.size_hw[1]

    @property
    def centre_px(self) -> float:
        return 0.5 * self.size_hw[1]

    @property
    def horizon_px(self) -> int:
        """First row of the ground; every row above it lies above the horizon."""
        return round(0.46 * self.size_hw[0])

    def to_camera(self, points: np.ndarray) -> np.ndarray:
        """(N, 3) street coordinates to (N, 3) metres right of, above and ahead of the camera."""
        ahead = points[:, 2] - self.z_m
        right = points[:, 0] - self.x_m + 0.5 * self.bend_per_m * ahead**2
        return np.stack((right, points[:, 1] - MOUNT_HEIGHT_M, ahead), axis=1)

    def to_pixels(self, points: np.ndarray) -> np.ndarray:
        """(N, 3) camera coordinates with z > 0 to (N, 2) pixels (column, row)."""
        scale = self.focal_px / points[:, 2]
        return np.stack(
            (self.centre_px + points[:, 0] * scale, self.horizon_px - points[:, 1] * scale),
            axis=1,
        )

    def ground_distances_m(self) -> np.ndarray:
        """(H - horizon,) distance ahead of the ground seen in each row from the horizon down."""
        rows = np.arange(self.size_hw[0] - self.horizon_px, dtype=np.float32) + 0.5
        return self.focal_px * MOUNT_HEIGHT_M / rows


def clip_to_near(points: np.ndarray) -> np.ndarray:
    """Cuts a polygon in camera coordinates at the near plane (Sutherland and Hodgman, CACM 1974).

    Args:
        points: (N, 3) corners of a planar polygon.

    Returns:
        (M, 3) corners of the part that is at least NEAR_M ahead; M = 0 when there is none.
    """
    if (points[:, 2] >= NEAR_M).all():
        return points
    kept: list[np.ndarray] = []
    for start, end in zip(points, np.roll(points, -1, axis=0), strict=True):
        if start[2] >= NEAR_M:
            kept.append(start)
        if (start[2] >= NEAR_M) != (end[2] >= NEAR_M):
            kept.append(start + (end - start) * (NEAR_M - start[2]) / (end[2] - start[2]))
    return np.array(kept, dtype=points.dtype).reshape(-1, 3)
