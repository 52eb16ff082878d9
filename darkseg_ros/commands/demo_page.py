"""The page that `darkseg_ros.commands.demo` writes: one HTML file that needs no network."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from string import Template

import numpy as np

from darkseg_ros.classes import CLASSES, NUM_CLASSES
from darkseg_ros.pictures.page_parts import (
    CHART_WH,
    STYLE,
    card,
    chart,
    fitted,
    jpeg_uri,
    legend,
    milliseconds,
    nice_ceiling,
    percent,
    small_percent,
    swatch,
)

_PICTURE_WIDTH_PX = 720


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
        style=STYLE,
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
        legend=legend(),
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
        card("frames in", str(figures.frames_in), f"{figures.frames_received} reached the node"),
        card("class maps out", str(figures.frames_out), _stamp_note(figures), good=figures.lost == 0),
        card("dropped", str(dropped), reasons or "none left out on purpose", good=dropped == 0),
        card("lost", str(figures.lost), "by the middleware, on either way", good=figures.lost == 0),
        card(
            "age at publish",
            milliseconds(figures.age_p50_ms),
            f"p95 {milliseconds(figures.age_p95_ms)}, p99 {milliseconds(figures.age_p99_ms)}",
        ),
        card(
            "inference",
            milliseconds(figures.inference_p50_ms),
            f"in the engine, of {milliseconds(figures.node_latency_p50_ms)} in the node",
        ),
    ]
    if figures.miou is not None:
        cards.append(card("mIoU", percent(figures.miou), f"{percent(figures.miou_present)} over labelled classes"))
    return cards


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
    width, height = CHART_WH
    known = [age.age_ms for age in ages if age.age_ms is not None]
    if not known:
        return ""
    top_ms = nice_ceiling(max(known))
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
    return chart(
        f'<path d="{"".join(steps)}"/>{"".join(ticks)}',
        top=f"{top_ms:g} ms",
        middle=f"{top_ms / 2:g} ms",
        start="",
        end=f"{end_s:.1f} s",
        title="age of each frame",
    )


def _moment_row(moment: Moment) -> str:
    pictures = [("camera", moment.camera_bgr), ("class map over camera", moment.overlay_bgr)]
    if moment.label_bgr is not None:
        pictures.append(("label map", moment.label_bgr))
    figures = ""
    for caption, bgr in pictures:
        source = jpeg_uri(fitted(bgr, width_px=_PICTURE_WIDTH_PX))
        figures += (
            f'<figure><img src="{source}" alt="{caption} at {moment.time_s:.1f} s" loading="lazy">'
            f"<figcaption>{caption}</figcaption></figure>"
        )
    return f'<div class="moment"><div class="time">{moment.time_s:.1f} s</div>{figures}</div>'


def _class_rows(figures: DemoFigures, pixel_share: np.ndarray) -> list[str]:
    rows = []
    largest = max(float(pixel_share.max()), 1e-9)
    for train_id in range(NUM_CLASSES):
        share = float(pixel_share[train_id])
        iou = "" if figures.iou is None else f"<td>{percent(figures.iou[CLASSES[train_id].name])}</td>"
        absent = "" if share else ' class="absent"'
        rows.append(
            f"<tr{absent}><td>{swatch(train_id)}</td>"
            f'<td><span class="bar" style="width:{100 * share / largest:.1f}%"></span></td>'
            f"<td>{small_percent(share)}</td>{iou}</tr>"
        )
    return rows


_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
$style
video { display: block; width: 100%; max-height: 76vh; aspect-ratio: $aspect; background: #000;
  border: 1px solid var(--line); border-radius: 10px; }
.moment { display: grid; grid-template-columns: repeat($picture_columns, 1fr); gap: 6px 10px;
  margin: 0 0 18px; }
.moment .time { grid-column: 1 / -1; color: var(--quiet); font-size: 13px;
  font-variant-numeric: tabular-nums; }
td:nth-child(2) { width: 45%; }
td .bar { display: block; height: 8px; border-radius: 4px; background: var(--accent); opacity: .75; }
@media (max-width: 760px) { .moment { grid-template-columns: 1fr; } }
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
