"""Pictures of a selection: the distribution of levels, and sheets of the chosen images."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np

from darkseg_ros.frames.source import read_image
from training.selection.levels import SplitSettings

_INK, _FAINT, _PAPER = (60, 50, 45), (225, 222, 220), (255, 255, 255)


_NIGHT, _DAY, _CHOSEN = (140, 92, 58), (92, 178, 240), (80, 76, 214)


_FONT = cv2.FONT_HERSHEY_SIMPLEX


_SIZE_WH = (1600, 800)


_LEFT, _RIGHT, _TOP, _BOTTOM = 130, 1550, 150, 690


def draw_distribution(levels: np.ndarray, settings: SplitSettings) -> np.ndarray:
    """Histogram of levels, bars stacked by side of the split and band, (800, 1600, 3) uint8 BGR."""
    low, high = settings.band if settings.band is not None else (math.inf, -math.inf)
    chosen_mask = (levels >= low) & (levels <= high)
    night_mask = levels < settings.night_threshold
    parts = [(_CHOSEN, chosen_mask), (_NIGHT, night_mask & ~chosen_mask), (_DAY, ~night_mask & ~chosen_mask)]

    drawn_max = max(float(levels.max()), settings.night_threshold, high)
    tick = next(step for step in (5, 10, 20, 50) if drawn_max <= 16 * step or step == 50)
    axis_max = tick * (math.floor(drawn_max / tick) + 1)
    bins = axis_max if axis_max > 60 else 2 * axis_max
    totals, edges = np.histogram(levels, bins=bins, range=(0, axis_max))
    count_tick = _round_step(int(totals.max()))
    count_max = count_tick * math.ceil(totals.max() / count_tick)
    canvas = np.full((_SIZE_WH[1], _SIZE_WH[0], 3), _PAPER, np.uint8)

    def x_of(level: float) -> int:
        return round(_LEFT + (_RIGHT - _LEFT) * level / axis_max)

    def y_of(count: float) -> int:
        return round(_BOTTOM - (_BOTTOM - _TOP) * count / count_max)

    if settings.band is not None:
        cv2.rectangle(canvas, (x_of(max(low, 0)), _TOP), (x_of(high), _BOTTOM), (232, 231, 250), cv2.FILLED)
    for count in range(0, count_max + 1, count_tick):
        cv2.line(canvas, (_LEFT, y_of(count)), (_RIGHT, y_of(count)), _FAINT, 1)
        _write(canvas, str(count), (_LEFT - 14, y_of(count) + 8), anchor="right")
    floors = np.zeros(bins, np.int64)
    for colour, mask in parts:
        tops = floors + np.histogram(levels[mask], bins=edges)[0]
        for index in np.flatnonzero(tops > floors):
            corner = (x_of(edges[index + 1]) - 2, y_of(floors[index]))
            cv2.rectangle(canvas, (x_of(edges[index]) + 1, y_of(tops[index])), corner, colour, cv2.FILLED)
        floors = tops
    cv2.line(canvas, (_LEFT, _BOTTOM), (_RIGHT, _BOTTOM), _INK, 2)
    for level in range(0, axis_max + 1, tick):
        cv2.line(canvas, (x_of(level), _BOTTOM), (x_of(level), _BOTTOM + 8), _INK, 2)
        _write(canvas, str(level), (x_of(level), _BOTTOM + 36), anchor="middle")
    threshold_px = x_of(settings.night_threshold)
    cv2.line(canvas, (threshold_px, _TOP - 10), (threshold_px, _BOTTOM), _INK, 2, cv2.LINE_AA)

    night = int(night_mask.sum())
    legend = [
        (_NIGHT, f"night, below {settings.night_threshold:g}: {night}"),
        (_DAY, f"day: {len(levels) - night}"),
    ]
    if settings.band is not None:
        legend.append((_CHOSEN, f"band {low:g} to {high:g}: {int(chosen_mask.sum())}"))
    _write(canvas, f"Histogram level of {len(levels)} images", (_LEFT, 58), scale=1.1)
    x = _LEFT
    for colour, text in legend:
        cv2.rectangle(canvas, (x, 92), (x + 24, 116), colour, cv2.FILLED)
        x = _write(canvas, text, (x + 36, 113)) + 50
    axis_text = f"mean of ({settings.red_weight:g} R + G + B) / {settings.red_weight + 2:g}"
    _write(canvas, axis_text, ((_LEFT + _RIGHT) // 2, _BOTTOM + 86), anchor="middle")
    return canvas


def _round_step(count_max: int) -> int:
    """The smallest of 1, 2, 5, 10, 20, 50 … that needs at most six steps."""
    magnitude = 1
    while True:
        for factor in (1, 2, 5):
            if count_max <= 6 * factor * magnitude:
                return factor * magnitude
        magnitude *= 10


def _write(canvas: np.ndarray, text: str, origin: tuple[int, int], *, scale: float = 0.75, anchor: str = "left") -> int:
    """Put text on a picture; returns where it ends in x."""
    thickness = 2 if scale > 1 else 1
    (width, _), _ = cv2.getTextSize(text, _FONT, scale, thickness)
    x = origin[0] - {"left": 0, "middle": width // 2, "right": width}[anchor]
    cv2.putText(canvas, text, (x, origin[1]), _FONT, scale, _INK, thickness, cv2.LINE_AA)
    return x + width


_SHEET_COLUMNS, _SHEET_ROWS = 6, 4
SHEET_IMAGES = _SHEET_COLUMNS * _SHEET_ROWS
"""How many images a contact sheet shows at most."""


_TILE_WH = (288, 162)


_CAPTION_PX = 30


def draw_contact_sheet(paths: list[Path], captions: list[str]) -> np.ndarray:
    """Small pictures with captions in rows of six, (H, 1752, 3) uint8 BGR."""
    gap, (width, height) = 4, _TILE_WH
    rows = -(-len(paths) // _SHEET_COLUMNS)
    sheet_wh = (gap + _SHEET_COLUMNS * (width + gap), gap + rows * (height + _CAPTION_PX + gap))
    sheet = np.full((sheet_wh[1], sheet_wh[0], 3), 32, np.uint8)
    for index, (path, caption) in enumerate(zip(paths, captions, strict=True)):
        bgr = read_image(path)
        scale = min(width / bgr.shape[1], height / bgr.shape[0])
        fitted_wh = (max(1, round(bgr.shape[1] * scale)), max(1, round(bgr.shape[0] * scale)))
        tile = cv2.resize(bgr, fitted_wh, interpolation=cv2.INTER_AREA)
        row, column = divmod(index, _SHEET_COLUMNS)
        x, y = gap + column * (width + gap), gap + row * (height + _CAPTION_PX + gap)
        left, top = x + (width - fitted_wh[0]) // 2, y + (height - fitted_wh[1]) // 2
        sheet[top : top + fitted_wh[1], left : left + fitted_wh[0]] = tile
        origin = (x + 4, y + height + 21)
        cv2.putText(sheet, caption, origin, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (220, 220, 220), 1, cv2.LINE_AA)
    return sheet
