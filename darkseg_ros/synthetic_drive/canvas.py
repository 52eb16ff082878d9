"""What a frame is drawn on: colour, label, emitted light and distance of every pixel."""

from __future__ import annotations

import math

import cv2
import numpy as np

from darkseg_ros.synthetic_drive.camera import FAR_M, Camera
from darkseg_ros.synthetic_drive.street import Colour
from darkseg_ros.synthetic_drive.textures import PYRAMID_LEVELS, Facade, Textures

GROUND_CODE = 0
SKY_CODE = 255
DARK: Colour = (0, 0, 0)
SUBPIXEL_BITS = 4


CODES_PER_E_FOLD = 253.0 / math.log(2.0 * FAR_M)

METRES_OF_CODE = np.exp((np.arange(256, dtype=np.float32) - 1.0) / np.float32(CODES_PER_E_FOLD))
"""(256,) float32: distance ahead of each code, on a logarithmic scale of 1…254; 0 is ground, 255 sky."""


def distance_code(distance_m: float) -> int:
    """The code of a distance ahead."""
    return min(254, 1 + int(CODES_PER_E_FOLD * math.log(max(distance_m, 1.0))))


def distance_codes(distances_m: np.ndarray) -> np.ndarray:
    """uint8 codes of distances ahead, in the shape of `distances_m`."""
    codes = 1.0 + CODES_PER_E_FOLD * np.log(np.maximum(distances_m, 1.0))
    return np.minimum(codes, 254.0).astype(np.uint8)


class Canvas:
    """A frame while it is drawn. One call draws colour and label together, so they cannot disagree.

    Attributes:
        surface: (H, W, 4) uint8: BGR of the surface under white light, then its train id.
        glow: (H, W, 4) uint8: BGR of what the surface sends out itself, then the code of its distance.
        night: whether lamps are on.
    """

    def __init__(self, camera: Camera, textures: Textures, *, night: bool) -> None:
        self.camera = camera
        self.textures = textures
        self.night = night
        self.surface = np.zeros((*camera.size_hw, 4), np.uint8)
        self.glow = np.zeros((*camera.size_hw, 4), np.uint8)

    def fill(
        self, polygon_px: np.ndarray, colour: Colour, *, train_id: int, distance_m: float, glow: Colour = DARK
    ) -> None:
        """Fills a polygon of (N, 2) pixel positions."""
        if len(polygon_px) < 3:
            return
        corners = np.rint(polygon_px * (1 << SUBPIXEL_BITS)).astype(np.int32)
        code = distance_code(distance_m)
        emitted = glow if self.night else DARK
        cv2.fillPoly(self.surface, [corners], (*colour, train_id), cv2.LINE_8, SUBPIXEL_BITS)
        cv2.fillPoly(self.glow, [corners], (*emitted, code), cv2.LINE_8, SUBPIXEL_BITS)

    def limb(
        self,
        start_px: np.ndarray,
        end_px: np.ndarray,
        colour: Colour,
        *,
        width_px: float,
        train_id: int,
        distance_m: float,
    ) -> None:
        """Draws a thick stroke with round ends."""
        first, last = np.rint(np.stack((start_px, end_px)) * (1 << SUBPIXEL_BITS)).astype(np.int32).tolist()
        width = max(1, round(width_px))
        code = distance_code(distance_m)
        cv2.line(self.surface, first, last, (*colour, train_id), width, cv2.LINE_8, SUBPIXEL_BITS)
        cv2.line(self.glow, first, last, (*DARK, code), width, cv2.LINE_8, SUBPIXEL_BITS)

    def texture(self, quad_px: np.ndarray, facade: Facade, *, near_m: float, far_m: float, part: float = 1.0) -> None:
        """Lays a texture onto the quadrilateral near-top, far-top, far-bottom, near-bottom.

        Args:
            quad_px: (4, 2) pixel positions.
            facade: the texture.
            near_m: distance of the first and last corner.
            far_m: distance of the second and third corner.
            part: share of the texture that is used, from its far edge.
        """
        height, width = self.surface.shape[:2]
        low = np.maximum(np.floor(quad_px.min(axis=0)).astype(int), 0)
        high = np.minimum(np.ceil(quad_px.max(axis=0)).astype(int) + 1, (width, height))
        roi_w, roi_h = (int(value) for value in high - low)
        if roi_w < 1 or roi_h < 1:
            return
        extent_px = max(float(np.ptp(quad_px[:, 0])), float(np.ptp(quad_px[:, 1])), 1.0)
        level = int(np.clip(math.log2(max(facade.surfaces[0].shape[0] / extent_px, 1.0)), 0, PYRAMID_LEVELS - 1))
        roi = (slice(low[1], high[1]), slice(low[0], high[0]))
        corners = np.rint((quad_px - low) * (1 << SUBPIXEL_BITS)).astype(np.int32)
        mask = np.zeros((roi_h, roi_w), np.uint8)
        cv2.fillPoly(mask, [corners], 255, cv2.LINE_8, SUBPIXEL_BITS)

        source = facade.surfaces[level]
        rows, columns = source.shape[:2]
        first = columns * (1.0 - part)
        texture_px = np.array([(first, 0), (columns, 0), (columns, rows), (first, rows)], np.float32)
        homography = cv2.getPerspectiveTransform(texture_px, (quad_px - low).astype(np.float32))
        patch = cv2.warpPerspective(source, homography, (roi_w, roi_h), borderMode=cv2.BORDER_REPLICATE)
        cv2.copyTo(patch, mask, self.surface[roi])

        # 1/z is linear across the picture, so the distance of each column follows from the two edges
        share = np.linspace(low[0], high[0], roi_w) - quad_px[0, 0]
        share = np.clip(share / ((quad_px[1, 0] - quad_px[0, 0]) or 1.0), 0.0, 1.0)
        codes = distance_codes(1.0 / ((1.0 - share) / near_m + share / far_m))
        if self.night and facade.lit_windows:
            lit = cv2.warpPerspective(
                facade.lit_windows[level], homography, (roi_w, roi_h), borderMode=cv2.BORDER_REPLICATE
            )
        else:
            lit = np.zeros((roi_h, roi_w, 4), np.uint8)
        lit[..., 3] = codes
        cv2.copyTo(lit, mask, self.glow[roi])

    def sprite(
        self,
        levels: tuple[np.ndarray, ...],
        centre_px: np.ndarray,
        size_px: float,
        *,
        train_id: int,
        distance_m: float,
    ) -> None:
        """Draws a square texture whose fourth channel says where it covers."""
        height, width = self.surface.shape[:2]
        corner = centre_px - 0.5 * size_px
        low = np.maximum(np.floor(corner).astype(int), 0)
        high = np.minimum(np.ceil(corner + size_px).astype(int), (width, height))
        roi_w, roi_h = (int(value) for value in high - low)
        if roi_w < 1 or roi_h < 1 or size_px < 2.0:
            return
        level = int(np.clip(math.log2(max(levels[0].shape[0] / size_px, 1.0)), 0, PYRAMID_LEVELS - 1))
        zoom = levels[level].shape[0] / size_px
        offset = (low - corner) * zoom
        to_source = np.array([[zoom, 0, offset[0]], [0, zoom, offset[1]]])
        patch = cv2.warpAffine(levels[level], to_source, (roi_w, roi_h), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        mask = (patch[..., 3] > 127).astype(np.uint8)
        patch[..., 3] = train_id
        roi = (slice(low[1], high[1]), slice(low[0], high[0]))
        cv2.copyTo(patch, mask, self.surface[roi])
        behind = np.empty_like(patch)
        behind[:] = (*DARK, distance_code(distance_m))
        cv2.copyTo(behind, mask, self.glow[roi])

    def darken(self, polygon_px: np.ndarray, factor: float) -> None:
        """Lays a shadow on what is drawn so far; labels stay."""
        height, width = self.surface.shape[:2]
        low = np.maximum(np.floor(polygon_px.min(axis=0)).astype(int), 0)
        high = np.minimum(np.ceil(polygon_px.max(axis=0)).astype(int) + 1, (width, height))
        if (high <= low).any():
            return
        mask = np.full((high[1] - low[1], high[0] - low[0]), 255, np.uint8)
        corners = np.rint((polygon_px - low) * (1 << SUBPIXEL_BITS)).astype(np.int32)
        cv2.fillPoly(mask, [corners], round(255 * factor), cv2.LINE_8, SUBPIXEL_BITS)
        softness = 2 * (min(mask.shape) // 6) + 1
        mask = cv2.blur(mask, (softness, softness))
        below = self.surface[low[1] : high[1], low[0] : high[0], :3]
        below[:] = cv2.multiply(np.ascontiguousarray(below), cv2.merge((mask, mask, mask)), scale=1 / 255)
