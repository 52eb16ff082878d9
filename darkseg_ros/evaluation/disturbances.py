"""What a camera meets and a data set lacks, drawn onto frames: flare, raindrops on the lens, objects of no class.

A confidence that can be trusted falls where they are. Drawn things do not stand for real ones: they compare
models.

Source: the BRAVO challenge, ECCV 2024 Workshops (arXiv 2409.15107), section 3, whose augmentations these follow.
Differs: drawn by OpenCV, without a renderer or a generative network.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

Disturbance = Callable[[np.ndarray, np.random.Generator], tuple[np.ndarray, np.ndarray]]
"""A (H, W, 3) uint8 BGR frame → the disturbed frame and (H, W) bool, where an object of no class stands."""

_STREAKS = 6


def draw_flare(bgr: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """One to three lights that shine into the lens: a core, a veil over the frame around it, streaks, ghosts."""
    height, width = bgr.shape[:2]
    light = np.zeros(bgr.shape, np.float32)
    for _ in range(rng.integers(1, 4)):
        x, y = int(rng.integers(width)), int(rng.integers(max(height * 2 // 3, 1)))
        colour = np.array([rng.uniform(0.7, 1), rng.uniform(0.85, 1), 1], np.float32)
        core = np.zeros((height, width), np.float32)
        radius = max(int(height * rng.uniform(0.01, 0.03)), 1)
        cv2.circle(core, (x, y), radius, 1, -1)
        for angle in rng.uniform(0, np.pi) + np.pi * np.arange(_STREAKS) / _STREAKS:
            reach = height * rng.uniform(0.2, 0.6) * np.array([np.cos(angle), np.sin(angle)])
            ends = [tuple(int(value) for value in np.array([x, y]) + sign * reach) for sign in (-1, 1)]
            cv2.line(core, ends[0], ends[1], 0.25, 1, cv2.LINE_AA)
        ghost = (width - x, height - y)
        cv2.circle(core, ghost, radius * 3, 0.08, -1, cv2.LINE_AA)
        distance = np.hypot(*np.ogrid[-y : height - y, -x : width - x])
        veil = rng.uniform(0.3, 0.7) * np.exp(-distance / (height * rng.uniform(0.15, 0.4)))
        glow = 255 * np.maximum(cv2.GaussianBlur(core, (0, 0), max(radius / 3, 0.5)), veil.astype(np.float32))
        light += glow[..., None] * colour
    return np.clip(bgr + light, 0, 255).astype(np.uint8), np.zeros((height, width), bool)


def draw_raindrops(bgr: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Twenty to sixty drops on the lens: each shows the scene small, upside down and out of focus."""
    height, width = bgr.shape[:2]
    small_wh = (max(width // 4, 1), max(height // 4, 1))
    small = cv2.resize(bgr[::-1, ::-1], small_wh, interpolation=cv2.INTER_AREA)
    upside_down = cv2.GaussianBlur(small, (0, 0), 1)
    seen = bgr.astype(np.float32)
    for _ in range(rng.integers(20, 61)):
        radius = max(int(height * rng.uniform(0.01, 0.05)), 2)
        x, y = int(rng.integers(width)), int(rng.integers(height))
        side = 2 * radius + 1
        image = cv2.resize(upside_down, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32)
        rows, columns = np.ogrid[-radius : radius + 1, -radius : radius + 1]
        inside = np.clip(radius - np.hypot(rows * rng.uniform(0.7, 1), columns), 0, 2) / 2
        lit = image * rng.uniform(0.8, 1.2) + 25 * (rows < -radius / 2)[..., None]
        top, left = max(y - radius, 0), max(x - radius, 0)
        bottom, right = min(y + radius + 1, height), min(x + radius + 1, width)
        part = (slice(top - y + radius, bottom - y + radius), slice(left - x + radius, right - x + radius))
        weight = inside[part][..., None].astype(np.float32)
        seen[top:bottom, left:right] += weight * (lit[part] - seen[top:bottom, left:right])
    return np.clip(seen, 0, 255).astype(np.uint8), np.zeros((height, width), bool)


def draw_unknown_object(bgr: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A lump of odd shape and pattern in the lower half, as bright as what it covers."""
    height, width = bgr.shape[:2]
    radius = height * rng.uniform(0.06, 0.16)
    x, y = rng.uniform(0.2, 0.8) * width, rng.uniform(0.6, 0.85) * height
    angles = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    reach = radius * rng.uniform(0.6, 1.2, len(angles))
    outline = np.stack([x + reach * np.cos(angles), y + reach * np.sin(angles)], 1).round().astype(np.int32)
    mask = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask, [outline], 1)
    unknown = mask.astype(bool)
    if not unknown.any():  # a frame of a few pixels
        return bgr, unknown
    cells = max(int(radius / rng.uniform(2, 6)), 1)
    small = rng.uniform(0.3, 1.7, (height // cells + 1, width // cells + 1, 3)).astype(np.float32)
    pattern = cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST)
    brightness = float(bgr[unknown].mean()) + 10
    drawn = bgr.copy()
    drawn[unknown] = np.clip(brightness * pattern[unknown], 0, 255).astype(np.uint8)
    return drawn, unknown


DISTURBANCES: dict[str, Disturbance] = {
    "flare": draw_flare,
    "raindrops": draw_raindrops,
    "unknown": draw_unknown_object,
}
"""By their name on the command line."""


def disturbed(bgr: np.ndarray, name: str | None, index: int) -> tuple[np.ndarray, np.ndarray]:
    """A frame as `DISTURBANCES[name]` draws on it, the same each time for the same index; as it is for None."""
    if name is None:
        return bgr, np.zeros(bgr.shape[:2], bool)
    return DISTURBANCES[name](bgr, np.random.default_rng(index))
