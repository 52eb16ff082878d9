"""report.html: one file with all its pictures in it, without network and script."""

from __future__ import annotations

import html
from collections.abc import Sequence
from string import Template

import cv2
import numpy as np

from darkseg_ros.classes import CLASS_NAMES, CLASSES, IGNORE_INDEX, NUM_CLASSES
from darkseg_ros.evaluation.drive import DriveFigures, EvaluatedInput, EvaluationResult, ShownFrame
from darkseg_ros.evaluation.metrics import ABSENT_CLASSES, UNLABELLED_COLUMN, confusion_matrix
from darkseg_ros.evaluation.thresholds import ThresholdResult
from darkseg_ros.pictures.overlay import color_class_map, draw_overlay
from darkseg_ros.pictures.page_parts import (
    CHART_WH,
    STYLE,
    card,
    chart,
    fitted,
    interval_text,
    jpeg_uri,
    legend,
    milliseconds,
    nice_ceiling,
    percent,
    png_uri,
    small_percent,
    swatch,
)

_PICTURE_WIDTH_PX = 480  # four in a row on a wide screen; eight rows stay below 5 MB
_CHART_POINTS = 1000
_HISTOGRAM_BINS = 50
_WRONG_BGR, _UNLABELLED_BGR = (70, 60, 235), (30, 170, 235)


def render_page(
    result: EvaluationResult, evaluated: EvaluatedInput, *, thresholds: Sequence[ThresholdResult] = ()
) -> str:
    """A whole HTML document; arguments as for `evaluation_report.write_report`."""
    passed = all(threshold.passed for threshold in thresholds)
    verdict = "no thresholds set" if not thresholds else "passed" if passed else "failed"
    model = "" if evaluated.bundle is None else f"Model <b>{html.escape(evaluated.bundle)}</b>"
    if evaluated.backend is not None:
        model += f" on <b>{html.escape(evaluated.backend)}</b>"
    return _PAGE.substitute(
        style=STYLE,
        title=html.escape(f"Evaluation · {evaluated.name}"),
        name=html.escape(evaluated.name),
        verdict=verdict,
        verdict_class="none" if not thresholds else "good" if passed else "bad",
        comparison=html.escape(evaluated.comparison),
        model=f"<br>{model}" if model else "",
        hash="" if evaluated.sha256 is None else f"<br>Input SHA-256 <code>{evaluated.sha256}</code>",
        cards="\n".join(_cards(result, thresholds)),
        thresholds=_threshold_section(thresholds),
        shown=_shown_section(result.shown),
        classes="\n".join(_class_rows(result)),
        confusion=_confusion_table(result.confusion),
        absent=_absent_note(result.confusion),
        absent_classes=ABSENT_CLASSES,
        latency=_latency_section(result),
        uiou=_uiou_section(result),
    )


def _cards(result: EvaluationResult, thresholds: Sequence[ThresholdResult]) -> list[str]:
    metrics, drive = result.metrics, result.drive

    def judged(*figures: str) -> bool | None:
        verdicts = [threshold.passed for threshold in thresholds if threshold.figure in figures]
        return all(verdicts) if verdicts else None

    cards = [
        card(
            "mIoU present",
            percent(metrics.miou_present),
            f"classes in the labels; {interval_text(metrics.ci95['miou_present'])}",
            good=judged("miou_present"),
        ),
        card("mIoU", percent(metrics.miou), interval_text(metrics.ci95["miou"]), good=judged("miou")),
        card(
            "pixel accuracy",
            percent(metrics.pixel_accuracy),
            f"mean over classes {percent(metrics.class_accuracy)}",
            good=judged("pixel_accuracy", "class_accuracy"),
        ),
        card("FWIoU", percent(metrics.fwiou), "weighted by labelled pixels", good=judged("fwiou")),
    ]
    if metrics.ece is not None:
        cards.append(card("calibration error", percent(metrics.ece), "expected (ECE)", good=judged("ece")))
        note = f"confidence below {metrics.uiou_min_confidence:g} is invalid"
        cards.append(card("UIoU", percent(metrics.uiou), note, good=judged("uiou")))
    if drive is not None and drive.flicker is not None:
        note = f"where labels stay {percent(drive.flicker_static)}"
        cards.append(card("flicker", percent(drive.flicker), note, good=judged("flicker", "flicker_static")))
    if drive is not None and drive.latency_from is not None:
        note = f"median {milliseconds(drive.latency_p50_ms)}, p95 {milliseconds(drive.latency_p95_ms)}"
        good = judged("latency_p50_ms", "latency_p95_ms", "latency_p99_ms")
        cards.append(card("latency p99", milliseconds(drive.latency_p99_ms), note, good=good))
    if drive is not None and drive.dropped is not None:
        note = f"of {drive.frames_in} camera images, {percent(drive.dropped_share)}"
        cards.append(card("without class map", str(drive.dropped), note, good=judged("dropped", "dropped_share")))
    cards.append(card("frames scored", str(metrics.images), _scored_note(drive), good=judged("images")))
    return cards


def _scored_note(drive: DriveFigures | None) -> str:
    if drive is None:
        return "images with a label map"
    return f"of {drive.class_maps} class maps, {drive.label_maps} label maps"


def _threshold_section(thresholds: Sequence[ThresholdResult]) -> str:
    if not thresholds:
        return ""
    rows = "".join(
        f'<tr><td>{html.escape(threshold.figure)}</td><td class="number">'
        f"{'not measured' if threshold.value is None else f'{threshold.value:.4g}'}</td>"
        f"<td>{threshold.bound} {threshold.limit:g}</td>"
        f'<td class="{"good" if threshold.passed else "bad"}">{"passed" if threshold.passed else "missed"}</td></tr>'
        for threshold in thresholds
    )
    return (
        '<h2>Thresholds</h2><div class="wide"><table><tr><th>figure</th><th class="number">value</th><th>limit</th>'
        f"<th></th></tr>{rows}</table></div>"
    )


# --- pictures


def _shown_section(shown: Sequence[ShownFrame]) -> str:
    return f'<div class="legend">{legend()}</div>' + "\n".join(map(_shown_row, shown)) if shown else ""


def _shown_row(frame: ShownFrame) -> str:
    bgr = frame.bgr()
    if bgr is None:
        pictures = [("class map", png_uri(_fitted_classes(color_class_map(frame.class_map))))]
    else:
        camera = jpeg_uri(fitted(bgr, width_px=_PICTURE_WIDTH_PX))
        overlay = jpeg_uri(fitted(draw_overlay(bgr, frame.class_map), width_px=_PICTURE_WIDTH_PX))
        pictures = [("camera", camera), ("class map over camera", overlay)]
    pictures.insert(1, ("label map", png_uri(_fitted_classes(color_class_map(frame.label_map)))))
    pictures.append(("errors", jpeg_uri(fitted(_error_map(frame, bgr), width_px=_PICTURE_WIDTH_PX))))
    figures = "".join(
        f'<figure><img src="{source}" alt="{caption} at {html.escape(frame.name)}">'
        f"<figcaption>{caption}</figcaption></figure>"
        for caption, source in pictures
    )
    return (
        f'<div class="shown" style="--columns:{len(pictures)}"><div class="what"><b>{html.escape(frame.name)}</b> '
        f"mIoU {percent(frame.miou_present)} {_largest_error(frame)}</div>{figures}</div>"
    )


def _fitted_classes(bgr: np.ndarray) -> np.ndarray:
    return fitted(bgr, width_px=_PICTURE_WIDTH_PX, interpolation=cv2.INTER_NEAREST)


def _error_map(frame: ShownFrame, bgr: np.ndarray | None) -> np.ndarray:
    """Wrong pixels red, labelled but unlabelled by the model amber, the camera image dimmed elsewhere."""
    if bgr is None:
        error_map = np.full((*frame.label_map.shape, 3), 60, np.uint8)
    else:
        grey = cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY)
        error_map = cv2.cvtColor((grey * 0.6 + 20).astype(np.uint8), cv2.COLOR_GRAY2BGR)
    labelled = frame.label_map != IGNORE_INDEX
    error_map[~labelled] //= 4
    error_map[labelled & (frame.class_map != frame.label_map)] = _WRONG_BGR
    error_map[labelled & (frame.class_map == IGNORE_INDEX)] = _UNLABELLED_BGR
    return error_map


def _largest_error(frame: ShownFrame) -> str:
    errors = confusion_matrix(frame.label_map, frame.class_map)
    pixels = errors.sum()
    np.fill_diagonal(errors, 0)
    truth, predicted = np.unravel_index(errors.argmax(), errors.shape)
    if not errors[truth, predicted]:
        return ""
    name = "left unlabelled" if predicted == UNLABELLED_COLUMN else f"called {CLASS_NAMES[predicted]}"
    return (
        f"· largest error: {CLASS_NAMES[truth]} {name}, {small_percent(float(errors[truth, predicted] / pixels))} "
        "of the labelled pixels"
    )


# --- classes


def _class_rows(result: EvaluationResult) -> list[str]:
    pixels = result.confusion.sum(1)
    rows = []
    for train_id in range(NUM_CLASSES):
        iou = result.metrics.iou[CLASSES[train_id].name]
        share = float(pixels[train_id] / max(pixels.sum(), 1))
        absent = ' class="absent"' if iou is None else ""
        rows.append(
            f"<tr{absent}><td>{swatch(train_id)}</td>"
            f'<td><svg viewBox="0 0 100 8" preserveAspectRatio="none" role="img" aria-label="{percent(iou)}">'
            f'<rect class="track" width="100" height="8"/><rect width="{100 * (iou or 0):.2f}" height="8"/></svg></td>'
            f'<td class="number">{percent(iou)}</td><td class="number">{small_percent(share)}</td></tr>'
        )
    return rows


def _confusion_table(confusion: np.ndarray) -> str:
    """Rows are shares of a class' labelled pixels; classes without any are left out, as are columns without any."""
    rows = np.flatnonzero(confusion.sum(1))
    columns = np.flatnonzero((confusion.sum(0) > 0) | np.isin(np.arange(NUM_CLASSES + 1), rows))
    head = "".join(
        f'<th class="turned"><span>{"unlabelled" if column == UNLABELLED_COLUMN else swatch(int(column))}</span></th>'
        for column in columns
    )
    body = ""
    for row in rows:
        shares = confusion[row] / confusion[row].sum()
        cells = "".join(
            f'<td class="{"hit" if row == column else "miss"}" style="--share:{100 * shares[column]:.1f}%" '
            f'title="{CLASS_NAMES[row]} → {_column_name(int(column))}: {100 * shares[column]:.2f} %">'
            f"{_cell_text(float(shares[column]))}</td>"
            for column in columns
        )
        body += f"<tr><th>{swatch(int(row))}</th>{cells}</tr>"
    return f'<table class="confusion"><tr><th></th>{head}</tr>{body}</table>'


def _column_name(column: int) -> str:
    return "unlabelled" if column == UNLABELLED_COLUMN else CLASS_NAMES[column]


def _cell_text(share: float) -> str:
    return "" if share < 0.005 else f"{100 * share:.0f}"


def _absent_note(confusion: np.ndarray) -> str:
    absent = [CLASS_NAMES[train_id] for train_id in range(NUM_CLASSES) if not confusion[train_id].any()]
    return f" No pixel of the label maps is {', '.join(absent)}." if absent else ""


# --- curves


def _latency_section(result: EvaluationResult) -> str:
    drive, latencies = result.drive, result.latencies
    if drive is None or drive.latency_from is None or not len(latencies):
        return ""
    width, height = CHART_WH
    since = {
        "stamp": "From the camera's stamp to the arrival of the class map.",
        "image": "From the arrival of the camera image to that of its class map, since the stamps are not of the clock "
        "of the arrivals: the drive was replayed.",
    }[drive.latency_from]
    end_s, top_ms = float(max(latencies[:, 0].max(), 1e-9)), nice_ceiling(float(latencies[:, 1].max()))
    points = "".join(
        f"{'L' if index else 'M'}{time_s / end_s * width:.1f} {height - value / top_ms * height:.1f}"
        for index, (time_s, value) in enumerate(_peaks(latencies))
    )
    over_time = chart(
        f'<path d="{points}"/>',
        top=f"{top_ms:g} ms",
        middle=f"{top_ms / 2:g} ms",
        start="0 s",
        end=f"{end_s:.1f} s",
        title="latency over time",
    )
    counts, edges = np.histogram(latencies[:, 1], bins=_HISTOGRAM_BINS, range=(0, top_ms))
    step = width / _HISTOGRAM_BINS
    bars = "".join(
        f'<rect x="{index * step + 1:.1f}" width="{step - 2:.1f}" y="{height - count / counts.max() * height:.1f}" '
        f'height="{count / counts.max() * height:.1f}"/>'
        for index, count in enumerate(counts)
        if count
    )
    marks = "".join(
        f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{height}"/>'
        for value in (drive.latency_p50_ms, drive.latency_p95_ms, drive.latency_p99_ms)
        if value is not None
        for x in [min(value / top_ms, 1) * width]
    )
    histogram = chart(
        bars + marks,
        top=f"{counts.max()}",
        middle=f"{counts.max() / 2:g}",
        start="0 ms",
        end=f"{top_ms:g} ms",
        title="histogram of latencies",
    )
    return (
        f"<h2>Latency</h2><p>{since} Over time, and how often (class maps in bins of "
        f"{edges[1]:g} ms); dashed: median {milliseconds(drive.latency_p50_ms)}, p95 "
        f"{milliseconds(drive.latency_p95_ms)}, p99 {milliseconds(drive.latency_p99_ms)}.</p>{over_time}{histogram}"
    )


def _peaks(latencies: np.ndarray) -> np.ndarray:
    """At most _CHART_POINTS of the points, of each stretch of time the largest: spikes are what one looks for."""
    in_order = latencies[latencies[:, 0].argsort(kind="stable")]
    if len(latencies) <= _CHART_POINTS:
        return in_order
    stretches = np.array_split(in_order, _CHART_POINTS)
    return np.array([stretch[stretch[:, 1].argmax()] for stretch in stretches])


def _uiou_section(result: EvaluationResult) -> str:
    curve = result.metrics.uiou_curve
    if not curve:
        return ""
    width, height = CHART_WH
    end = curve[-1].min_confidence
    paths = ""
    for name, values in (
        ("first", [point.uiou for point in curve]),
        ("second", [point.invalid_share for point in curve]),
    ):
        points = "".join(
            f"{'L' if index else 'M'}{point.min_confidence / end * width:.1f} {(1 - value) * height:.1f}"
            for index, (point, value) in enumerate(zip(curve, values, strict=True))
        )
        paths += f'<path class="{name}" d="{points}"/>'
    best = max(curve, key=lambda point: point.uiou)
    plot = chart(paths, top="100 %", middle="50 %", start="0", end=f"{end:g}", title="UIoU over the threshold")
    return (
        "<h2>What withholding uncertain pixels does</h2><p>Against the least confidence that a prediction must have to "
        'count: <span class="first">UIoU</span>, and the <span class="second">share of labelled pixels</span> '
        f"withheld. Highest here: {percent(best.uiou)} at {best.min_confidence:g}, with {percent(best.invalid_share)} "
        f"withheld.</p>{plot}"
    )


_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
$style
code { font-size: 12.5px; overflow-wrap: anywhere; }
header { display: flex; flex-wrap: wrap; align-items: center; gap: 6px 16px; margin-bottom: 8px; }
.verdict { padding: 3px 14px; border-radius: 99px; font-weight: 650; border: 1.5px solid currentColor; }
.verdict.none { color: var(--quiet); font-weight: 500; border-width: 1px; }
.good { color: var(--good); } .bad { color: var(--bad); }
.first { color: var(--accent); } .second { color: var(--second); }
.wide { overflow-x: auto; }
.number { text-align: right; }
.shown { display: grid; grid-template-columns: repeat(var(--columns), 1fr); gap: 6px 10px; margin: 0 0 20px; }
.shown .what { grid-column: 1 / -1; color: var(--quiet); font-size: 13.5px; font-variant-numeric: tabular-nums; }
.shown .what b { color: var(--text); font-weight: 600; }
.classes td:nth-child(2) { width: 55%; }
.classes svg { display: block; width: 100%; height: 10px; border-radius: 5px; }
.classes rect { fill: var(--accent); } .classes .track { fill: var(--line); }
.confusion { width: auto; max-width: none; font-size: 12px; }
.confusion th { font-size: 12.5px; padding: 2px 10px 2px 0; border: 0; white-space: nowrap; color: var(--text); }
.confusion td { width: 38px; min-width: 34px; height: 28px; padding: 0; text-align: center; font-size: 12px;
  border: 1px solid var(--ground); background: var(--panel); }
.confusion .hit { background: color-mix(in srgb, var(--good) calc(var(--share) * .75), var(--panel)); }
.confusion .miss { background: color-mix(in srgb, var(--bad) calc(var(--share) * .9), var(--panel)); }
.confusion .turned { height: 118px; padding: 0; vertical-align: bottom; }
.confusion .turned span { writing-mode: vertical-rl; transform: rotate(180deg); display: inline-block;
  padding: 6px 0 0; }
.confusion .turned i { margin: 0 0 8px; }
dl { max-width: 92ch; color: var(--quiet); font-size: 14.5px; }
dt { color: var(--text); font-weight: 600; margin-top: 8px; } dd { margin: 0; }
@media (max-width: 1000px) { .shown { grid-template-columns: repeat(min(2, var(--columns)), 1fr); } }
@media (max-width: 560px) { .classes td:nth-child(2) { width: 30%; } th, td { padding-right: 8px; }
  .shown { gap: 6px; } figcaption { font-size: 10.5px; left: 4px; bottom: 4px; padding: 0 6px; } }
</style>
</head>
<body>
<header><h1>$name</h1><span class="verdict $verdict_class">$verdict</span></header>
<p>$comparison$model$hash</p>
<div class="cards">
$cards
</div>
$thresholds
<h2>Worst frames first</h2>
<p>One frame of each half second at most, by the mean IoU of the frame alone. Errors: red is wrong,
amber was left unlabelled by the model, black has no ground truth.</p>
$shown
<h2>Classes</h2>
<p>IoU over all frames, and the class' share of the labelled pixels. “–”: $absent_classes.</p>
<div class="wide"><table class="classes">
<tr><th>class</th><th></th><th class="number">IoU</th><th class="number">pixels</th></tr>
$classes
</table></div>
<h2>Confusion</h2>
<p>Of the labelled pixels of each class (row), the per cent that were called each class (column). Below half a per
cent the cell is empty.$absent</p>
<div class="wide">$confusion</div>
$latency
$uiou
<h2>How this was measured</h2>
<dl>
<dt>mIoU</dt><dd>IoU = TP / (TP + FP + FN) over all labelled pixels of all frames together. mIoU is the mean over
the classes that occur in label maps or class maps; mIoU present leaves out those that occur in class maps only. A
class in neither is absent: it does not count as 0. A labelled pixel that the model left unlabelled (255) is a miss.
Pixels of value 255 in the label map count nowhere.</dd>
<dt>95 % interval</dt><dd>Bootstrap over frames. Frames of one drive resemble each other, so the true uncertainty is
larger.</dd>
<dt>ECE</dt><dd>Mean distance of confidence and accuracy, in 15 bins (Guo et al. 2017).</dd>
<dt>UIoU</dt><dd>(TP + TI) / (TP + TI + FP + FN + FI): predictions of low confidence are invalid, which is right (TI)
where the ground truth marks a pixel as indiscernible and wrong (FI) elsewhere (Sakaridis et al. 2019).</dd>
<dt>Flicker</dt><dd>Share of pixels whose class changes from one class map to the next, at most half a second later.
“Where labels stay” compares only pixels whose label is the same in both.</dd>
<dt>Matching</dt><dd>Camera image, label map and class map belong together when their stamps are equal, to the
nanosecond. A camera image without a class map was dropped or lost.</dd>
</dl>
</body>
</html>
""")
