"""Surfaces made once per drive from noise: ground seen from above, house fronts, foliage, sky, skyline.

Every four-channel array holds colour in its first three channels (BGR, as seen by day) and in the fourth
either the train id or, where said, a coverage of 0 or 255.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from darkseg_ros.classes import CITYSCAPES
from darkseg_ros.synthetic_drive.street import (
    BLOCK_M,
    CROSS_STREET_M,
    FACADE_VARIANTS,
    LANE_X_M,
    PARKING_LINE_M,
    ROAD_HALF_M,
    SIDEWALK_HALF_M,
    TREE_VARIANTS,
    Colour,
)

GROUND_HALF_M = 20.0
PYRAMID_LEVELS = 4


@dataclass(frozen=True)
class Facade:
    """A house front at falling sizes: `surfaces` by day's light, `lit_windows` what it sends out by night.

    Each level is (h, w, 4) uint8 and half the size of the one before.
    """

    surfaces: tuple[np.ndarray, ...]
    lit_windows: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Textures:
    """Everything a drive draws from.

    Attributes:
        ground: top views of one block at falling sizes; columns run from -GROUND_HALF_M to GROUND_HALF_M,
            rows from 0 to BLOCK_M. Each (h, w, 3) uint8.
        ground_labels: (h, w) uint8 train ids at the size of ``ground[0]``.
        ground_px_per_m: scale of ``ground[0]``; level n has 2^-n of it across and 4^-n along.
        facades: house fronts.
        barriers: wall and fence, by kind.
        crowns: foliage, fourth channel coverage, at falling sizes.
        sky: (horizon rows, panorama columns, 3) uint8 panorama; its first frame width is repeated at its end.
        skyline: (rows, panorama columns, 4) uint8 silhouettes on the horizon in the same form,
            fourth channel the train id.
        grain: (h, w, 3) int16 sensor noise with unit 1/16 of a grey level, larger than a frame.
    """

    ground: tuple[np.ndarray, ...]
    ground_labels: np.ndarray
    ground_px_per_m: float
    facades: tuple[Facade, ...]
    barriers: dict[str, Facade]
    crowns: tuple[tuple[np.ndarray, ...], ...]
    sky: np.ndarray
    skyline: np.ndarray
    grain: np.ndarray


def make_textures(seed: int, *, size_hw: tuple[int, int], horizon_px: int, night: bool) -> Textures:
    """Makes the surfaces of one drive.

    Args:
        seed: the drive's seed; the same seed gives the same shapes by day and by night.
        size_hw: frame size, which sets the detail worth making.
        horizon_px: rows of sky.
        night: whether the sky is a night sky.
    """
    ground_px_per_m = float(np.clip(size_hw[0] / 22.0, 4.0, 24.0))
    ground, ground_labels = _ground(np.random.default_rng((seed, 20)), ground_px_per_m)
    levels = [ground]
    for level in range(1, PYRAMID_LEVELS):
        height, width = ground.shape[:2]
        smaller_wh = (max(width >> level, 8), max(height >> 2 * level, 8))
        levels.append(cv2.resize(ground, smaller_wh, interpolation=cv2.INTER_AREA))
    panorama_px = 4 * size_hw[1]
    skyline_hw = (max(horizon_px // 5, 2), panorama_px)
    sky_rng = np.random.default_rng((seed, 24))
    return Textures(
        ground=tuple(levels),
        ground_labels=ground_labels,
        ground_px_per_m=ground_px_per_m,
        facades=tuple(_facade(np.random.default_rng((seed, 21, n)), n) for n in range(FACADE_VARIANTS)),
        barriers={
            "wall": _wall(np.random.default_rng((seed, 22))),
            "fence": _fence(np.random.default_rng((seed, 26))),
        },
        crowns=tuple(_crown(np.random.default_rng((seed, 23, n))) for n in range(TREE_VARIANTS)),
        sky=_once_more((_night_sky if night else _day_sky)(sky_rng, (horizon_px, panorama_px)), size_hw[1]),
        skyline=_once_more(_skyline(np.random.default_rng((seed, 25)), skyline_hw), size_hw[1]),
        grain=_grain(np.random.default_rng((seed, 27)), size_hw, sigma=3.8 if night else 2.0),
    )


def fractal_noise(
    rng: np.random.Generator, size_hw: tuple[int, int], *, cells_hw: tuple[int, int], octaves: int = 4
) -> np.ndarray:
    """Smooth noise at several scales that repeats at its borders.

    Args:
        rng: source of randomness.
        size_hw: size of the result.
        cells_hw: how many lumps the coarsest scale has down and across.
        octaves: number of scales; each doubles the lumps and halves their weight.

    Returns:
        (H, W) float32 about 0, mostly within ±1.
    """
    height, width = size_hw
    total = np.zeros(size_hw, np.float32)
    for octave in range(octaves):
        rows, columns = cells_hw[0] << octave, cells_hw[1] << octave
        lattice = rng.standard_normal((rows, columns), dtype=np.float32)
        around = np.pad(lattice, 1, mode="wrap")
        step_y, step_x = height / rows, width / columns
        enlarge = np.array([[1 / step_x, 0, 1.0], [0, 1 / step_y, 1.0]], np.float32)
        total += 0.5**octave * cv2.warpAffine(
            around, enlarge, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        )
    return total * 0.7


def _once_more(panorama: np.ndarray, columns: int) -> np.ndarray:
    """The panorama with its first columns appended, so that every view of it is one slice."""
    return np.concatenate((panorama, panorama[:, :columns]), axis=1)


def _tint(colour: Colour, variation: np.ndarray) -> np.ndarray:
    """(H, W, 3) float32: a colour made lighter and darker by (H, W) relative variation."""
    return np.asarray(colour, np.float32) * (1.0 + variation)[..., None]


def _with_label(bgr: np.ndarray, train_id: int) -> np.ndarray:
    label_map = np.full(bgr.shape[:2], train_id, np.uint8)
    return np.dstack((np.clip(bgr, 0, 255).astype(np.uint8), label_map))


def _halvings(texture: np.ndarray) -> tuple[np.ndarray, ...]:
    levels = [texture]
    for _ in range(1, PYRAMID_LEVELS):
        height, width = levels[-1].shape[:2]
        half_wh = (max(width // 2, 1), max(height // 2, 1))
        levels.append(cv2.resize(levels[-1], half_wh, interpolation=cv2.INTER_AREA))
    return tuple(levels)


def _ground(rng: np.random.Generator, px_per_m: float) -> tuple[np.ndarray, np.ndarray]:
    """Top view of a block: colours and train ids."""
    rows, columns = round(BLOCK_M * px_per_m), round(2 * GROUND_HALF_M * px_per_m)
    z_m = ((np.arange(rows) + 0.5) / px_per_m)[:, None]
    x_m = ((np.arange(columns) + 0.5) / px_per_m - GROUND_HALF_M)[None, :]
    across = np.abs(x_m)
    size_hw = (rows, columns)

    coarse = fractal_noise(rng, size_hw, cells_hw=(25, 10))
    grit = rng.standard_normal(size_hw, dtype=np.float32)

    crossing = z_m < CROSS_STREET_M
    road = (across < ROAD_HALF_M) | crossing
    grass = (across > SIDEWALK_HALF_M + 3.0) | (
        (across > SIDEWALK_HALF_M) & (np.abs(z_m - np.where(x_m > 0, 62.0, 38.0)) < 17.0)
    )
    grass = grass & ~road
    kerb = ~road & ((across < ROAD_HALF_M + 0.25) | (z_m > BLOCK_M - 0.25) | (z_m < CROSS_STREET_M + 0.25))

    # wheels polish the asphalt where they run
    track = np.exp(-((np.abs(across - LANE_X_M) - 0.75) ** 2) / 0.12) * ~crossing
    bgr = _tint((108, 101, 102), 0.07 * coarse + 0.05 * grit + 0.05 * track.astype(np.float32))
    patches = np.zeros(size_hw, np.uint8)
    for _ in range(9):
        corner = (int(rng.integers(columns)), int(rng.integers(rows)))
        extent = (
            corner[0] + int(px_per_m * rng.uniform(1, 3)),
            corner[1] + int(px_per_m * rng.uniform(2, 9)),
        )
        cv2.rectangle(patches, corner, extent, 1, -1)
    bgr[patches.astype(bool)] *= 0.84
    crack_width_px = max(1, round(0.04 * px_per_m))
    for _ in range(14):
        walk = np.cumsum(rng.normal((0.0, 0.25), (0.12, 0.1), (40, 2)), axis=0)
        start = (rng.uniform(14, 26), rng.uniform(0, BLOCK_M))
        cv2.polylines(bgr, [((walk + start) * px_per_m).astype(np.int32)], False, (66, 62, 62), crack_width_px)

    seam = ((across % 1.2) < 0.05) | ((z_m % 1.2) < 0.05)
    paving = _tint((142, 145, 150), 0.05 * coarse + 0.04 * grit - 0.14 * seam)
    lawn = _tint((58, 104, 88), 0.2 * coarse + 0.15 * grit)
    bgr = np.where(road[..., None], bgr, np.where(grass[..., None], lawn, paving))
    bgr[kerb & ~grass] = (172, 174, 178)

    marks = (across < 0.08) & (z_m % 8.0 < 4.0) & (z_m > 22.0) & (z_m < 84.0)
    marks |= (np.abs(across - PARKING_LINE_M) < 0.06) & (z_m > 22.0) & (z_m < 88.0)
    zebra_rows = (np.abs(z_m - 96.5) < 1.6) | (np.abs(z_m - 15.5) < 1.6)
    marks |= zebra_rows & (across < ROAD_HALF_M - 0.3) & ((across % 1.0) > 0.5)
    marks |= (np.abs(z_m - 93.3) < 0.22) & (x_m > 0.15) & (x_m < PARKING_LINE_M)
    marks |= (np.abs(z_m - 18.7) < 0.22) & (x_m < -0.15) & (x_m > -PARKING_LINE_M)
    worn = marks & road & (coarse + 0.35 * grit < 1.5)
    bgr[worn] = 0.25 * bgr[worn] + 0.75 * np.array((214, 216, 218))
    for _ in range(4):
        centre = (
            round((GROUND_HALF_M + rng.uniform(-4, 4)) * px_per_m),
            round(rng.uniform(20, 88) * px_per_m),
        )
        cv2.circle(bgr, centre, max(1, round(0.33 * px_per_m)), (72, 70, 70), -1)

    label_map = np.full(size_hw, CITYSCAPES.train_ids["sidewalk"], np.uint8)
    label_map[np.broadcast_to(grass, size_hw)] = CITYSCAPES.train_ids["terrain"]
    label_map[np.broadcast_to(road, size_hw)] = CITYSCAPES.train_ids["road"]
    return np.clip(bgr, 0, 255).astype(np.uint8), label_map


FACADE_COLOURS: tuple[Colour, ...] = (
    (150, 172, 188),
    (74, 92, 142),
    (150, 150, 150),
    (132, 168, 196),
    (120, 126, 134),
    (92, 112, 158),
    (176, 184, 190),
    (128, 118, 106),
)


def _facade(rng: np.random.Generator, variant: int) -> Facade:
    """Floors of windows above a ground floor of doors and shops."""
    floors, bays = int(rng.integers(3, 6)), int(rng.integers(4, 7))
    cell_h, cell_w = 54, 48
    height, width = floors * cell_h + 12, bays * cell_w
    stains = fractal_noise(rng, (height, width), cells_hw=(3, 4))
    grit = rng.standard_normal((height, width), dtype=np.float32)
    bgr = _tint(FACADE_COLOURS[variant], 0.07 * stains + 0.04 * grit)
    if variant in (1, 5):
        rows, columns = np.mgrid[0:height, 0:width]
        joints = (rows % 5 == 0) | ((columns + 5 * (rows // 5 % 2)) % 10 == 0)
        bgr[joints] *= 0.84
    lit = np.zeros((height, width, 3), np.uint8)
    bgr[:12] *= 0.75  # cornice
    shops = rng.random() < 0.6
    lamp_colours = np.array([(95, 150, 190), (70, 130, 185), (150, 165, 170), (120, 150, 165)])
    for floor in range(floors):
        top = 12 + floor * cell_h
        ground_floor = floor == floors - 1
        bgr[top + cell_h - 3 : top + cell_h] *= 0.88
        for bay in range(bays):
            left = bay * cell_w
            if ground_floor and shops:
                y0, y1, x0, x1 = top + 12, top + 50, left + 3, left + 45
            elif ground_floor and bay == bays // 2:
                y0, y1, x0, x1 = top + 14, top + 54, left + 15, left + 34
            else:
                y0, y1, x0, x1 = top + 10, top + 42, left + 13, left + 36
            bgr[y0 - 2 : y1 + 2, x0 - 2 : x1 + 2] *= 1.22 if variant % 3 else 0.7
            glass = np.linspace(1.35, 0.75, y1 - y0)[:, None, None] * np.array((92.0, 80.0, 70.0))
            bgr[y0:y1, x0:x1] = glass * rng.uniform(0.7, 1.25)
            bars = np.zeros((y1 - y0, x1 - x0), bool)
            bars[:, (x1 - x0) // 2] = True
            bars[(y1 - y0) // 3] = True
            bgr[y0:y1, x0:x1][bars] = (170, 172, 174)
            if rng.random() < (0.75 if ground_floor and shops else 0.27):
                brightness = rng.uniform(0.45, 1.0) * np.linspace(1.0, 0.7, y1 - y0)[:, None, None]
                # a curtain, a shelf, a lamp: rooms are not evenly bright
                room = np.repeat(np.repeat(rng.uniform(0.6, 1.0, (4, 4)), 16, 0), 16, 1)[: y1 - y0, : x1 - x0]
                panes = brightness * room[..., None] * lamp_colours[int(rng.integers(4))] * ~bars[..., None]
                lit[y0:y1, x0:x1] = panes
    return Facade(_halvings(_with_label(bgr, CITYSCAPES.train_ids["building"])), _halvings(_with_label(lit, 0)))


def _wall(rng: np.random.Generator) -> Facade:
    stains = fractal_noise(rng, (64, 256), cells_hw=(2, 6))
    grit = rng.standard_normal((64, 256), dtype=np.float32)
    bgr = _tint((128, 136, 146), 0.1 * stains + 0.05 * grit)
    bgr[::10] *= 0.78
    bgr[:5] *= 1.2
    return Facade(_halvings(_with_label(bgr, CITYSCAPES.train_ids["wall"])), ())


def _fence(rng: np.random.Generator) -> Facade:
    behind = fractal_noise(rng, (64, 256), cells_hw=(4, 14))
    bgr = _tint((38, 62, 52), 0.25 * behind)
    bgr[:, ::8] = bgr[:, 1::8] = (96, 100, 104)
    bgr[6:9] = bgr[54:57] = (104, 108, 112)
    return Facade(_halvings(_with_label(bgr, CITYSCAPES.train_ids["fence"])), ())


def _crown(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Foliage: lumps of leaves, lighter above, with a ragged outline."""
    size, half = 320, 160
    rows, columns = np.mgrid[0:half, 0:half].astype(np.float32) / half - 0.5
    lumps = np.zeros((half, half), np.float32)
    light = np.zeros((half, half), np.float32)
    for _ in range(34):
        angle, reach = rng.uniform(0, 2 * np.pi), 0.32 * np.sqrt(rng.random())
        x, y, radius = reach * np.cos(angle), reach * np.sin(angle), rng.uniform(0.08, 0.17)
        inside = 1.0 - np.hypot(columns - x, rows - y) / radius
        nearer = inside > lumps
        lumps = np.where(nearer, inside, lumps)
        light = np.where(nearer, (y - rows) / radius + 0.5 * (x - columns) / radius, light)
    coarse = cv2.resize(np.dstack((lumps, light, rows)).astype(np.float32), (size, size))
    ragged = fractal_noise(rng, (size, size), cells_hw=(12, 12))
    coverage = (coarse[..., 0] + 0.16 * ragged > 0.12).astype(np.uint8)
    _, pieces, areas, _ = cv2.connectedComponentsWithStats(coverage)
    coverage = pieces == 1 + int(areas[1:, cv2.CC_STAT_AREA].argmax())  # no leaves that hang in the air
    leaves = fractal_noise(rng, (size, size), cells_hw=(28, 28), octaves=3)
    leaves += 0.7 * cv2.GaussianBlur(rng.standard_normal((size, size), dtype=np.float32), (0, 0), 0.7)
    shade = np.maximum(0.25 * coarse[..., 1], -0.25) + 0.42 * leaves - 0.5 * coarse[..., 2]
    hue = rng.uniform(0.85, 1.1, 3)
    bgr = _tint((46, 92, 70), shade) * hue
    alpha = np.where(coverage, 255, 0).astype(np.uint8)
    return _halvings(np.dstack((np.clip(bgr, 8, 255).astype(np.uint8), alpha)))


def _day_sky(rng: np.random.Generator, size_hw: tuple[int, int]) -> np.ndarray:
    height = np.linspace(1.0, 0.0, size_hw[0], dtype=np.float32)[:, None, None]
    blue = np.array((226, 178, 132), np.float32) * height + np.array((232, 222, 212), np.float32) * (1 - height)
    clouds = fractal_noise(rng, size_hw, cells_hw=(3, 14), octaves=5)
    cover = np.clip(0.75 * clouds + rng.uniform(-0.1, 0.5), 0.0, 1.0)[..., None]
    white = np.array((240, 238, 236), np.float32) - 26.0 * np.clip(clouds, 0, 1)[..., None]
    return np.clip(blue * (1 - cover) + white * cover, 0, 255).astype(np.uint8)


def _night_sky(rng: np.random.Generator, size_hw: tuple[int, int]) -> np.ndarray:
    """What the sky sends out: near black, with the town's glow above the horizon."""
    height = np.linspace(1.0, 0.0, size_hw[0], dtype=np.float32)[:, None, None]
    glow = np.array((20, 26, 36), np.float32) * np.exp(-height / 0.3) + np.array((13, 9, 8), np.float32)
    clouds = fractal_noise(rng, size_hw, cells_hw=(2, 10), octaves=3)[..., None]
    return np.clip(glow * (1.0 + 0.18 * clouds), 0, 255).astype(np.uint8)


def _skyline(rng: np.random.Generator, size_hw: tuple[int, int]) -> np.ndarray:
    """Trees and houses far away; the train id is sky where there are none."""
    height, columns = size_hw
    skyline = np.zeros((height, columns, 4), np.uint8)
    skyline[..., 3] = CITYSCAPES.train_ids["sky"]
    above = np.arange(height, 0, -1)[:, None] / height
    x = 0
    while x < columns:
        width = max(2, int(rng.uniform(0.3, 1.1) * height))
        box = skyline[int(height * rng.uniform(0.35, 0.85)) :, x : x + width]
        box[:] = (
            *(np.array((150, 146, 140)) * rng.uniform(0.75, 1.05)).astype(int),
            CITYSCAPES.train_ids["building"],
        )
        x += int(width * rng.uniform(0.8, 2.0)) + 1
    lumps = fractal_noise(rng, (1, columns), cells_hw=(1, max(columns // (2 * height), 4)), octaves=4)
    trees = above < 0.4 + 0.16 * lumps
    leaves = fractal_noise(rng, size_hw, cells_hw=(2, max(columns // height, 4)), octaves=3)
    green = np.clip(_tint((92, 112, 98), 0.14 * leaves), 0, 255)
    skyline[trees] = _with_label(green, CITYSCAPES.train_ids["vegetation"])[trees]
    return skyline


def _grain(rng: np.random.Generator, size_hw: tuple[int, int], *, sigma: float) -> np.ndarray:
    """Sensor noise as a camera's processing leaves it: partly smeared, partly coloured."""
    height, width = size_hw[0] + 64, size_hw[1] + 64
    brightness = rng.standard_normal((height, width, 1), dtype=np.float32)
    colour = rng.standard_normal((height, width, 3), dtype=np.float32)
    smeared = cv2.GaussianBlur(brightness + 0.6 * colour, (0, 0), 0.7)
    return np.clip(smeared * (16.0 * sigma / smeared.std()), -32000, 32000).astype(np.int16)
