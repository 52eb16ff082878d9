"""The page that `darkseg_ros.demo` writes: one HTML file that needs no network."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass
from string import Template

import cv2
import numpy as np

from darkseg_ros.classes import CLASSES, NUM_CLASSES

_PICTURE_WIDTH_PX = 720
_PICTURE_JPEG_QUALITY = 82
_CHART_WH = (1000, 160)


@dataclass(frozen=True)
class DemoFigures:
    """The content of the demo's metrics.json.

    Attributes:
        input: name of the video, bag or generated drive.
        bundle: name of the model bundle.
        engine: backend, precision and library version.
        frame_hw: camera geometry.
        frames_in: images of the bag, each played once.
        frames_received: images that reached the node, by its own count.
        frames_out: class maps that came back.
        dropped: frames that the node left out on purpose, by reason; only reasons that occurred.
        lost: frames_in − frames_out − dropped: what the middleware lost before or after the node.
        stamps_and_frame_ids_match: every class map bears stamp and frame_id of an image, no image has two.
        age_p50_ms: age at publish: from handing the image to the player's middleware to the arrival of its
            class map, so transport both ways is in it. Null when no class map came.
        age_p95_ms: the same, 95th percentile.
        age_p99_ms: the same, 99th percentile.
        inference_p50_ms: time in the engine, median of the node's reports (one a second).
        node_latency_p50_ms: from arrival in the node to publication, by the node's own measure, its last 300
            frames.
        input_rate_hz: images a second, as played.
        rate_hz: class maps a second, as they came.
        miou: against the bag's label maps, mean over classes in label maps or class maps; null without them.
        miou_present: the same over classes in label maps.
        iou: of each class; null where it does not occur. Null as a whole without label maps.
    """

    input: str
    bundle: str
    engine: str
    frame_hw: tuple[int, int]
    frames_in: int
    frames_received: int
    frames_out: int
    dropped: dict[str, int]
    lost: int
    stamps_and_frame_ids_match: bool
    age_p50_ms: float | None
    age_p95_ms: float | None
    age_p99_ms: float | None
    inference_p50_ms: float | None
    node_latency_p50_ms: float | None
    input_rate_hz: float
    rate_hz: float | None
    miou: float | None
    miou_present: float | None
    iou: dict[str, float | None] | None


@dataclass(frozen=True)
class Moment:
    """One frame shown on the page.

    Attributes:
        time_s: since the first frame.
        camera_bgr: (H, W, 3) uint8.
        overlay_bgr: the same with the class map over it.
        label_bgr: the coloured label map, None where the bag has none.
    """

    time_s: float
    camera_bgr: np.ndarray
    overlay_bgr: np.ndarray
    label_bgr: np.ndarray | None


@dataclass(frozen=True)
class FrameAge:
    """Age of one frame's class map when it arrived; None where none came."""

    time_s: float
    age_ms: float | None


def render_page(
    figures: DemoFigures,
    *,
    video_name: str,
    moments: Sequence[Moment],
    ages: Sequence[FrameAge],
    pixel_share: np.ndarray,
) -> str:
    """Write the page.

    Args:
        figures: the numbers.
        video_name: file name of the overlay video, beside the page.
        moments: frames to show, in their order.
        ages: of all frames, in their order.
        pixel_share: (19,) float share of each class in all class maps, 0…1.

    Returns:
        A whole HTML document.
    """
    height, width = figures.frame_hw
    rate = "" if figures.rate_hz is None else f", {figures.rate_hz:.1f} class maps a second"
    return _PAGE.substitute(
        title=html.escape(f"darkseg_ros · {figures.input}"),
        input=html.escape(figures.input),
        bundle=html.escape(figures.bundle),
        engine=html.escape(figures.engine),
        geometry=f"{width} × {height} at {figures.input_rate_hz:.1f} Hz{rate}",
        cards="\n".join(_cards(figures)),
        video=html.escape(video_name),
        aspect=f"{width} / {height}",
        chart=_age_chart(ages),
        chart_caption=_chart_caption(figures),
        picture_columns=3 if any(moment.label_bgr is not None for moment in moments) else 2,
        legend="\n".join(f"<span>{_swatch(train_id)}</span>" for train_id in range(NUM_CLASSES)),
        moments="\n".join(_moment_row(moment) for moment in moments),
        classes="\n".join(_class_rows(figures, pixel_share)),
        iou_heading="" if figures.iou is None else "<th>IoU</th>",
        iou_note=""
        if figures.iou is None
        else "“–”: the class is in neither label maps nor class maps and counts in no mean.",
    )


def _cards(figures: DemoFigures) -> list[str]:
    dropped = sum(figures.dropped.values())
    reasons = ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in figures.dropped.items())
    cards = [
        _card("frames in", str(figures.frames_in), f"{figures.frames_received} reached the node"),
        _card("class maps out", str(figures.frames_out), _stamp_note(figures), good=figures.lost == 0),
        _card("dropped", str(dropped), reasons or "none left out on purpose", good=dropped == 0),
        _card("lost", str(figures.lost), "by the middleware, on either way", good=figures.lost == 0),
        _card(
            "age at publish",
            _ms(figures.age_p50_ms),
            f"p95 {_ms(figures.age_p95_ms)}, p99 {_ms(figures.age_p99_ms)}",
        ),
        _card(
            "inference",
            _ms(figures.inference_p50_ms),
            f"in the engine, of {_ms(figures.node_latency_p50_ms)} in the node",
        ),
    ]
    if figures.miou is not None:
        cards.append(_card("mIoU", _percent(figures.miou), f"{_percent(figures.miou_present)} over labelled classes"))
    return cards


def _card(name: str, value: str, note: str, *, good: bool | None = None) -> str:
    state = "" if good is None else " good" if good else " bad"
    return (
        f'<div class="card{state}"><div class="name">{html.escape(name)}</div>'
        f'<div class="value">{html.escape(value)}</div><div class="note">{html.escape(note)}</div></div>'
    )


def _stamp_note(figures: DemoFigures) -> str:
    if figures.stamps_and_frame_ids_match:
        return "each with stamp and frame_id of its image"
    return "some with a stamp or frame_id of no image"


def _chart_caption(figures: DemoFigures) -> str:
    dropped_or_lost = figures.frames_in - figures.frames_out
    without = f" Frames without a class map ({dropped_or_lost}) are marked in red." if dropped_or_lost else ""
    return (
        "From handing a frame to the player's middleware to the arrival of its class map, transport both "
        f"ways included.{without}"
    )


def _age_chart(ages: Sequence[FrameAge]) -> str:
    """Age over time as an SVG; frames without a class map are ticks at the bottom."""
    width, height = _CHART_WH
    known = [age.age_ms for age in ages if age.age_ms is not None]
    if not known:
        return ""
    top_ms = _nice_ceiling(max(known))
    end_s = max(ages[-1].time_s, 1e-9)
    steps = []
    pen_down = False
    ticks = []
    for age in ages:
        x = age.time_s / end_s * width
        if age.age_ms is None:
            pen_down = False
            ticks.append(f'<line class="missing" x1="{x:.1f}" x2="{x:.1f}" y1="{height}" y2="{height - 14}"/>')
            continue
        steps.append(f"{'L' if pen_down else 'M'}{x:.1f} {height - age.age_ms / top_ms * height:.1f}")
        pen_down = True
    path = "".join(steps)
    middle = height / 2
    return (
        f'<div class="chart"><span class="top">{top_ms:g} ms</span>'
        f'<span class="middle">{top_ms / 2:g} ms</span>'
        f'<span class="bottom">0</span><span class="end">{end_s:.1f} s</span>'
        f'<svg viewBox="0 0 {width} {height}" preserveAspectRatio="none" role="img" '
        'aria-label="age of each frame">'
        f'<line class="grid" x1="0" x2="{width}" y1="0.5" y2="0.5"/>'
        f'<line class="grid" x1="0" x2="{width}" y1="{middle}" y2="{middle}"/>'
        f'<line class="grid" x1="0" x2="{width}" y1="{height - 0.5}" y2="{height - 0.5}"/>'
        f'<path d="{path}"/>{"".join(ticks)}</svg></div>'
    )


def _nice_ceiling(value: float) -> float:
    """The next of 1, 2, 5, 10, 20, … above."""
    power = 10.0 ** np.floor(np.log10(max(value, 1e-3)))
    return float(next(step * power for step in (1, 2, 5, 10) if step * power >= value))


def _moment_row(moment: Moment) -> str:
    pictures = [("camera", moment.camera_bgr), ("class map over camera", moment.overlay_bgr)]
    if moment.label_bgr is not None:
        pictures.append(("label map", moment.label_bgr))
    figures = "".join(
        f'<figure><img src="{_data_uri(bgr)}" alt="{caption} at {moment.time_s:.1f} s" loading="lazy">'
        f"<figcaption>{caption}</figcaption></figure>"
        for caption, bgr in pictures
    )
    return f'<div class="moment"><div class="time">{moment.time_s:.1f} s</div>{figures}</div>'


def _data_uri(bgr: np.ndarray) -> str:
    height, width = bgr.shape[:2]
    if width > _PICTURE_WIDTH_PX:
        size_wh = (_PICTURE_WIDTH_PX, max(1, round(height * _PICTURE_WIDTH_PX / width)))
        bgr = cv2.resize(bgr, size_wh, interpolation=cv2.INTER_AREA)
    _, jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _PICTURE_JPEG_QUALITY])
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


def _class_rows(figures: DemoFigures, pixel_share: np.ndarray) -> list[str]:
    rows = []
    largest = max(float(pixel_share.max()), 1e-9)
    for train_id in range(NUM_CLASSES):
        share = float(pixel_share[train_id])
        iou = "" if figures.iou is None else f"<td>{_percent(figures.iou[CLASSES[train_id].name])}</td>"
        absent = "" if share else ' class="absent"'
        rows.append(
            f"<tr{absent}><td>{_swatch(train_id)}</td>"
            f'<td><span class="bar" style="width:{100 * share / largest:.1f}%"></span></td>'
            f"<td>{_share(share)}</td>{iou}</tr>"
        )
    return rows


def _swatch(train_id: int) -> str:
    red, green, blue = CLASSES[train_id].rgb
    return f'<i style="background:rgb({red},{green},{blue})"></i>{html.escape(CLASSES[train_id].name)}'


def _share(share: float) -> str:
    return "–" if not share else "< 0.1 %" if share < 0.001 else f"{100 * share:.1f} %"


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f} ms"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
:root { color-scheme: dark; --ground: #0d1117; --panel: #161b22; --line: #2b323c; --text: #e6edf3;
  --quiet: #8d98a5; --accent: #6cb6ff; --good: #57ab5a; --bad: #f47067; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1280px; padding: 40px 28px 64px; background: var(--ground);
  color: var(--text); font: 16px/1.5 system-ui, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
h1 { margin: 0; font-size: 30px; letter-spacing: -.01em; }
h2 { margin: 44px 0 4px; font-size: 20px; }
p { margin: 4px 0 14px; color: var(--quiet); max-width: 92ch; }
p b { color: var(--text); font-weight: 600; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(160px, 1fr)); gap: 12px;
  margin: 24px 0; }
.card { background: var(--panel); border: 1px solid var(--line); border-radius: 10px; padding: 14px 16px; }
.card .name { color: var(--quiet); font-size: 13px; }
.card .value { font-size: 26px; font-weight: 650; font-variant-numeric: tabular-nums; white-space: nowrap; }
.card .note { color: var(--quiet); font-size: 12.5px; line-height: 1.35; }
.card.good .value { color: var(--good); }
.card.bad .value { color: var(--bad); }
video { display: block; width: 100%; max-height: 76vh; aspect-ratio: $aspect; background: #000;
  border: 1px solid var(--line); border-radius: 10px; }
.chart { position: relative; margin: 20px 0 30px 64px; }
.chart svg { display: block; width: 100%; height: 160px; overflow: visible; }
.chart path { fill: none; stroke: var(--accent); stroke-width: 1.5; vector-effect: non-scaling-stroke; }
.chart line { vector-effect: non-scaling-stroke; }
.chart .grid { stroke: var(--line); }
.chart .missing { stroke: var(--bad); stroke-width: 1.5; }
.chart span { position: absolute; right: calc(100% + 10px); transform: translateY(-50%); color: var(--quiet);
  font-size: 12.5px; white-space: nowrap; }
.chart .top { top: 0; } .chart .middle { top: 80px; } .chart .bottom { top: 160px; }
.chart .end { top: calc(160px + 14px); right: 0; }
.moment { display: grid; grid-template-columns: repeat($picture_columns, 1fr); gap: 6px 10px;
  margin: 0 0 18px; }
.moment .time { grid-column: 1 / -1; color: var(--quiet); font-size: 13px;
  font-variant-numeric: tabular-nums; }
figure { margin: 0; position: relative; }
figure img { display: block; width: 100%; border-radius: 8px; border: 1px solid var(--line); }
figcaption { position: absolute; left: 8px; bottom: 8px; padding: 1px 8px; border-radius: 6px;
  font-size: 12px; background: rgba(13, 17, 23, .78); }
table { border-collapse: collapse; width: 100%; max-width: 760px; font-variant-numeric: tabular-nums; }
th { text-align: left; color: var(--quiet); font-weight: 500; font-size: 13px; }
th, td { padding: 4px 14px 4px 0; border-bottom: 1px solid var(--line); white-space: nowrap; }
td:nth-child(2) { width: 45%; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 18px; margin: 0 0 18px; font-size: 13px; }
i { display: inline-block; width: 16px; height: 16px; margin-right: 8px; border-radius: 4px;
  vertical-align: -3px; border: 1px solid rgba(255, 255, 255, .28); }
td .bar { display: block; height: 8px; border-radius: 4px; background: var(--accent); opacity: .75; }
tr.absent { color: var(--quiet); }
@media (max-width: 760px) { .moment { grid-template-columns: 1fr; } body { padding: 20px 14px; } }
</style>
</head>
<body>
<h1>$input</h1>
<p>Played as a ROS 2 bag through a live <b>segmentation_node</b>: $geometry.<br>
Model <b>$bundle</b> on <b>$engine</b>.</p>
<div class="cards">
$cards
</div>
<video src="$video" controls loop muted autoplay playsinline></video>
<h2>Age of each class map</h2>
<p>$chart_caption</p>
$chart
<h2>Before and after</h2>
<p>The class map lies over the camera image in these colours; unlabelled pixels keep the image.</p>
<div class="legend">
$legend
</div>
$moments
<h2>Classes</h2>
<p>Share of all pixels in the class maps. $iou_note</p>
<table>
<tr><th>class</th><th></th><th>pixels</th>$iou_heading</tr>
$classes
</table>
</body>
</html>
""")
