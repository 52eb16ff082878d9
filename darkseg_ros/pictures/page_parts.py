"""What the HTML pages of this package share: their look, and pieces that need no network and no script."""

from __future__ import annotations

import base64
import html
import math

import cv2
import numpy as np

from darkseg_ros.classes import CLASSES, NUM_CLASSES

CHART_WH = (1000, 160)
"""Units of the SVG inside `chart`."""

STYLE = """
:root { color-scheme: dark light; --ground: #0d1117; --panel: #161b22; --line: #2b323c; --text: #e6edf3;
  --quiet: #8d98a5; --accent: #6cb6ff; --second: #d4a72c; --good: #57ab5a; --bad: #f47067; }
@media (prefers-color-scheme: light) { :root { --ground: #ffffff; --panel: #f6f8fa; --line: #d3dae2;
  --text: #1c2128; --quiet: #59636e; --accent: #0b62c1; --second: #8a6100; --good: #1a7f37; --bad: #c62a22; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1280px; padding: 40px 28px 64px; background: var(--ground);
  color: var(--text); font: 16px/1.5 system-ui, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
h1 { margin: 0; font-size: 30px; letter-spacing: -.01em; overflow-wrap: anywhere; }
h2 { margin: 44px 0 4px; font-size: 20px; }
p { margin: 4px 0 14px; color: var(--quiet); max-width: 92ch; overflow-wrap: anywhere; }
p b { color: var(--text); font-weight: 600; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(160px, 1fr)); gap: 12px;
  margin: 24px 0; }
.card { background: var(--panel); border: 1px solid var(--line); border-radius: 10px; padding: 14px 16px; }
.card .name { color: var(--quiet); font-size: 13px; }
.card .value { font-size: 26px; font-weight: 650; font-variant-numeric: tabular-nums; white-space: nowrap; }
.card .note { color: var(--quiet); font-size: 12.5px; line-height: 1.35; }
.card.good .value { color: var(--good); }
.card.bad .value { color: var(--bad); }
.chart { position: relative; margin: 20px 0 44px 64px; }
.chart svg { display: block; width: 100%; height: 160px; overflow: visible; }
.chart path { fill: none; stroke: var(--accent); stroke-width: 1.5; vector-effect: non-scaling-stroke; }
.chart path.second { stroke: var(--second); }
.chart rect { fill: var(--accent); opacity: .75; }
.chart line { vector-effect: non-scaling-stroke; }
.chart .grid { stroke: var(--line); }
.chart .missing { stroke: var(--bad); stroke-width: 1.5; }
.chart .mark { stroke: var(--second); stroke-width: 1.5; stroke-dasharray: 4 3; }
.chart span { position: absolute; right: calc(100% + 10px); transform: translateY(-50%); color: var(--quiet);
  font-size: 12.5px; white-space: nowrap; }
.chart .top { top: 0; } .chart .middle { top: 80px; } .chart .bottom { top: 160px; }
.chart .start { top: calc(160px + 14px); right: auto; left: 0; }
.chart .end { top: calc(160px + 14px); right: 0; }
figure { margin: 0; position: relative; }
figure img { display: block; width: 100%; border-radius: 8px; border: 1px solid var(--line); }
figcaption { position: absolute; left: 8px; bottom: 8px; padding: 1px 8px; border-radius: 6px;
  font-size: 12px; color: #e6edf3; background: rgba(13, 17, 23, .78); }
table { border-collapse: collapse; width: 100%; max-width: 760px; font-variant-numeric: tabular-nums; }
th { text-align: left; color: var(--quiet); font-weight: 500; font-size: 13px; }
th, td { padding: 4px 14px 4px 0; border-bottom: 1px solid var(--line); white-space: nowrap; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 18px; margin: 0 0 18px; font-size: 13px; }
i { display: inline-block; width: 16px; height: 16px; margin-right: 8px; border-radius: 4px;
  vertical-align: -3px; border: 1px solid rgba(128, 128, 128, .6); }
tr.absent { color: var(--quiet); }
@media (max-width: 760px) { body { padding: 20px 14px; } h1 { font-size: 24px; } }
"""
"""CSS, dark or light as the reader's system is."""


def card(name: str, value: str, note: str, *, good: bool | None = None) -> str:
    """A tile with one figure; green or red where it is judged."""
    state = "" if good is None else " good" if good else " bad"
    return (
        f'<div class="card{state}"><div class="name">{html.escape(name)}</div>'
        f'<div class="value">{html.escape(value)}</div><div class="note">{html.escape(note)}</div></div>'
    )


def chart(content: str, *, top: str, middle: str, start: str, end: str, title: str) -> str:
    """A frame with labels around an SVG of CHART_WH units, y down.

    Args:
        content: SVG elements.
        top: label of the upper edge.
        middle: label of half the height.
        start: label under the left edge.
        end: label under the right edge.
        title: what it shows, for those who cannot see it.
    """
    width, height = CHART_WH
    grid = "".join(
        f'<line class="grid" x1="0" x2="{width}" y1="{y:g}" y2="{y:g}"/>' for y in (0.5, height / 2, height - 0.5)
    )
    labels = (("top", top), ("middle", middle), ("bottom", "0"), ("start", start), ("end", end))
    spans = "".join(f'<span class="{where}">{html.escape(text)}</span>' for where, text in labels if text)
    return (
        f'<div class="chart">{spans}<svg viewBox="0 0 {width} {height}" preserveAspectRatio="none" role="img" '
        f'aria-label="{html.escape(title)}">{grid}{content}</svg></div>'
    )


def nice_ceiling(value: float) -> float:
    """The next round number above: 1, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, …"""
    power = 10.0 ** math.floor(math.log10(max(value, 1e-3)))
    return float(next(step * power for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if step * power >= value))


def fitted(bgr: np.ndarray, *, width_px: int, interpolation: int = cv2.INTER_AREA) -> np.ndarray:
    """A picture no wider than that."""
    height, width = bgr.shape[:2]
    if width <= width_px:
        return bgr
    return cv2.resize(bgr, (width_px, max(1, round(height * width_px / width))), interpolation=interpolation)


def jpeg_uri(bgr: np.ndarray, *, quality: int = 82) -> str:
    """(H, W, 3) uint8 as a data URI, for camera images."""
    _, jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


def png_uri(bgr: np.ndarray) -> str:
    """(H, W, 3) uint8 as a data URI, for pictures of few colours, which JPEG would smear."""
    _, png = cv2.imencode(".png", bgr)
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def swatch(train_id: int) -> str:
    """A class' colour and name."""
    red, green, blue = CLASSES[train_id].rgb
    return f'<i style="background:rgb({red},{green},{blue})"></i>{html.escape(CLASSES[train_id].name)}'


def legend() -> str:
    """All classes."""
    return "\n".join(f"<span>{swatch(train_id)}</span>" for train_id in range(NUM_CLASSES))


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
