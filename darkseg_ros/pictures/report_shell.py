"""The shell of every report: one HTML file that needs no network and no script, made of the files in templates/.

``shell.html`` is the page around, ``style.css`` its look, ``parts.html`` what pages are put together of: cards, charts,
pictures that a click enlarges, the legend. Each report is a template that fills the shell.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import cv2
import jinja2
import numpy as np

CHART_WH = (1000, 160)
"""Units of a chart's SVG, y down."""

_PICTURE_WIDTHS_PX = (960, 640, 400)
_PICTURE_BYTES_MAX = 90_000  # 32 pictures stay below 5 MB


@dataclass(frozen=True)
class Card:
    """A tile with one figure; green or red where it is judged."""

    name: str
    value: str
    note: str
    good: bool | None = None


@dataclass(frozen=True)
class Line:
    """A line of a chart: the ``d`` of an SVG path in units of CHART_WH, and the class of its stroke."""

    path: str
    css: str = "first"


@dataclass(frozen=True)
class Bar:
    """A bar of a chart, in units of CHART_WH."""

    x: float
    width: float
    height: float


@dataclass(frozen=True)
class Tick:
    """A vertical stroke of a chart from the bottom up, in units of CHART_WH."""

    x: float
    height: float
    css: str


@dataclass(frozen=True)
class Chart:
    """A plot over one axis.

    Attributes:
        title: what it shows, for those who cannot see it.
        top: label of the upper edge; the lower one is 0.
        middle: label of half the height.
        start: label under the left edge.
        end: label under the right edge.
        lines: drawn over the bars.
        bars: drawn first.
        ticks: drawn last.
    """

    title: str
    top: str
    middle: str
    start: str
    end: str
    lines: tuple[Line, ...] = ()
    bars: tuple[Bar, ...] = ()
    ticks: tuple[Tick, ...] = ()


@dataclass(frozen=True)
class Picture:
    """A picture on a page, enlarged by a click: its data URI, what it shows, and of which frame."""

    source: str
    caption: str
    of: str


def render(template: str, **values: Any) -> str:
    """A whole HTML document.

    Args:
        template: name of a file in templates/.
        values: what it names; every text in them is escaped.

    Raises:
        jinja2.UndefinedError: if the template names a value that is not given.
    """
    return _ENVIRONMENT.get_template(template).render(chart_wh=CHART_WH, **values)


def now_text() -> str:
    """This minute, with the offset from UTC, for the head of a page."""
    return datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %z")


def path_of(points: Iterable[tuple[float, float] | None]) -> str:
    """The ``d`` of an SVG path through the points, broken at None; a point alone is a dot."""
    steps = []
    pen_down = False
    for point in points:
        if point is not None:
            x, y = point
            steps.append(f"L{x:.1f} {y:.1f}" if pen_down else f"M{x:.1f} {y:.1f}h0")
        pen_down = point is not None
    return "".join(steps)


def nice_ceiling(value: float) -> float:
    """The next round number above: 1, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, …"""
    power = 10.0 ** math.floor(math.log10(max(value, 1e-3)))
    return float(next(step * power for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if step * power >= value))


def photo_uri(bgr: np.ndarray) -> str:
    """(H, W, 3) uint8 as the data URI of a JPEG, for camera images."""
    options = [cv2.IMWRITE_JPEG_QUALITY, 82]
    return f"data:image/jpeg;base64,{_encoded(bgr, '.jpg', options, interpolation=cv2.INTER_AREA)}"


def drawing_uri(bgr: np.ndarray) -> str:
    """(H, W, 3) uint8 as the data URI of a PNG, for pictures of few colours, which JPEG would smear."""
    return f"data:image/png;base64,{_encoded(bgr, '.png', [], interpolation=cv2.INTER_NEAREST)}"


def _encoded(bgr: np.ndarray, suffix: str, options: list[int], *, interpolation: int) -> str:
    """In base64, of the largest width that keeps the page small."""
    height, width = bgr.shape[:2]
    content = np.empty(0, np.uint8)
    for width_px in _PICTURE_WIDTHS_PX:
        size_wh = (min(width, width_px), max(1, round(height * min(width, width_px) / width)))
        _, content = cv2.imencode(suffix, cv2.resize(bgr, size_wh, interpolation=interpolation), options)
        if content.size <= _PICTURE_BYTES_MAX:
            break
    return base64.b64encode(content.tobytes()).decode()


def milliseconds(value: float | None) -> str:
    """One decimal; a dash for None."""
    return "–" if value is None else f"{value:.1f} ms"


def percent(value: float | None) -> str:
    """A share in per cent, one decimal; a dash for None."""
    return "–" if value is None else f"{100 * value:.1f} %"


def small_percent(share: float) -> str:
    """A share in per cent; a dash for nothing, and never 0.0 % for something."""
    return "–" if not share else "< 0.1 %" if share < 0.001 else f"{100 * share:.1f} %"


def interval_text(bounds: tuple[float, float]) -> str:
    """A 95 % interval of shares, in per cent."""
    return f"95 % interval {100 * bounds[0]:.1f}…{100 * bounds[1]:.1f}"


_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters.update(milliseconds=milliseconds, percent=percent, small_percent=small_percent)
