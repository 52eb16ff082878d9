"""report.html of an evaluation, with all its pictures in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from darkseg_ros.classes import IGNORE_INDEX, ClassTable, SegmentationClass
from darkseg_ros.evaluation.drive import DriveFigures, EvaluatedInput, EvaluationResult, ShownFrame
from darkseg_ros.evaluation.metrics import ABSENT_CLASSES, UiouPoint, confusion_matrix
from darkseg_ros.evaluation.thresholds import ThresholdResult
from darkseg_ros.pictures.overlay import color_class_map, draw_overlay
from darkseg_ros.pictures.report_shell import (
    CHART_WH,
    Bar,
    Card,
    Chart,
    Line,
    Picture,
    Tick,
    drawing_uri,
    interval_text,
    milliseconds,
    nice_ceiling,
    path_of,
    percent,
    photo_uri,
    render,
    small_percent,
)

_CHART_POINTS = 1000
_HISTOGRAM_BINS = 50
_WRONG_BGR, _UNLABELLED_BGR = (70, 60, 235), (30, 170, 235)


def render_page(
    result: EvaluationResult,
    evaluated: EvaluatedInput,
    *,
    thresholds: Sequence[ThresholdResult] = (),
    date: str,
) -> str:
    """A whole HTML document; arguments as for `report.write_report`, and the date for its head."""
    classes, pixels = result.classes.rows, result.confusion.sum(1)
    return render(
        "evaluation.html",
        kind="Evaluation",
        input=evaluated.name,
        model=evaluated.bundle or "as recorded",
        engine=evaluated.backend,
        date=date,
        evaluated=evaluated,
        thresholds=thresholds,
        passed=all(threshold.passed for threshold in thresholds),
        cards=_cards(result, thresholds),
        shown=[_shown(frame, result.classes) for frame in result.shown],
        classes=classes,
        absent_classes=ABSENT_CLASSES,
        class_rows=[
            _ClassRow(class_, result.metrics.iou[class_.name], float(labelled / max(pixels.sum(), 1)))
            for class_, labelled in zip(classes, pixels, strict=True)
        ],
        confusion=_confusion_table(result.confusion, result.classes),
        absent_names=[class_.name for class_, labelled in zip(classes, pixels, strict=True) if not labelled],
        drive=result.drive,
        latency=_latency(result.drive, result.latencies),
        uiou=_uiou(result.metrics.uiou_curve),
    )


def _cards(result: EvaluationResult, thresholds: Sequence[ThresholdResult]) -> list[Card]:
    metrics, drive = result.metrics, result.drive

    def judged(*figures: str) -> bool | None:
        verdicts = [threshold.passed for threshold in thresholds if threshold.figure in figures]
        return all(verdicts) if verdicts else None

    cards = [
        Card(
            "mIoU present",
            percent(metrics.miou_present),
            f"classes in the labels; {interval_text(metrics.ci95['miou_present'])}",
            good=judged("miou_present"),
        ),
        Card("mIoU", percent(metrics.miou), interval_text(metrics.ci95["miou"]), good=judged("miou")),
        Card(
            "pixel accuracy",
            percent(metrics.pixel_accuracy),
            f"mean over classes {percent(metrics.class_accuracy)}",
            good=judged("pixel_accuracy", "class_accuracy"),
        ),
        Card("FWIoU", percent(metrics.fwiou), "weighted by labelled pixels", good=judged("fwiou")),
    ]
    if 0 < metrics.images_with_confidence < metrics.images:
        note = f"no ECE, no UIoU: confidence came with {metrics.images_with_confidence} of {metrics.images} frames"
        cards.append(Card("calibration error", "–", note, good=judged("ece", "uiou")))
    if metrics.ece is not None:
        cards.append(Card("calibration error", percent(metrics.ece), "expected (ECE)", good=judged("ece")))
        note = f"confidence below {metrics.uiou_min_confidence:g} is invalid"
        cards.append(Card("UIoU", percent(metrics.uiou), note, good=judged("uiou")))
    if drive is not None and drive.flicker is not None:
        note = f"where labels stay {percent(drive.flicker_static)}"
        cards.append(Card("flicker", percent(drive.flicker), note, good=judged("flicker", "flicker_static")))
    if drive is not None and drive.latency_from is not None:
        note = f"median {milliseconds(drive.latency_p50_ms)}, p95 {milliseconds(drive.latency_p95_ms)}"
        good = judged("latency_p50_ms", "latency_p95_ms", "latency_p99_ms")
        cards.append(Card("latency p99", milliseconds(drive.latency_p99_ms), note, good=good))
    if drive is not None and drive.dropped is not None:
        note = f"of {drive.frames_in} camera images, {percent(drive.dropped_share)}"
        cards.append(Card("without class map", str(drive.dropped), note, good=judged("dropped", "dropped_share")))
    cards.append(Card("frames scored", str(metrics.images), _scored_note(drive), good=judged("images")))
    return cards


def _scored_note(drive: DriveFigures | None) -> str:
    if drive is None:
        return "images with a label map"
    return f"of {drive.class_maps} class maps, {drive.label_maps} label maps"


# --- pictures


@dataclass(frozen=True)
class _Shown:
    """A row of pictures of one frame; `largest_error` is empty where there is none."""

    name: str
    miou_present: float
    largest_error: str
    pictures: tuple[Picture, ...]


def _shown(frame: ShownFrame, classes: ClassTable) -> _Shown:
    of, bgr = f"at {frame.name}", frame.bgr()
    label_map = Picture(drawing_uri(color_class_map(frame.label_map, classes)), "label map", of)
    errors = Picture(photo_uri(error_map(bgr, frame.label_map, frame.class_map)), "errors", of)
    if bgr is None:
        class_map = Picture(drawing_uri(color_class_map(frame.class_map, classes)), "class map", of)
        pictures: tuple[Picture, ...] = (class_map, label_map, errors)
    else:
        camera = Picture(photo_uri(bgr), "camera", of)
        overlay = Picture(photo_uri(draw_overlay(bgr, frame.class_map, classes)), "class map over camera", of)
        pictures = (camera, label_map, overlay, errors)
    return _Shown(frame.name, frame.miou_present, _largest_error(frame, classes), pictures)


def error_map(bgr: np.ndarray | None, label_map: np.ndarray, class_map: np.ndarray) -> np.ndarray:
    """Wrong pixels red, labelled but unlabelled by the model amber, the camera image dimmed elsewhere.

    Args:
        bgr: (H, W, 3) uint8; None where there is none.
        label_map: (H, W) uint8.
        class_map: (H, W) uint8.

    Returns:
        (H, W, 3) uint8 BGR.
    """
    if bgr is None:
        errors = np.full((*label_map.shape, 3), 60, np.uint8)
    else:
        grey = cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY)
        errors = cv2.cvtColor((grey * 0.6 + 20).astype(np.uint8), cv2.COLOR_GRAY2BGR)
    labelled = label_map != IGNORE_INDEX
    errors[~labelled] //= 4
    errors[labelled & (class_map != label_map)] = _WRONG_BGR
    errors[labelled & (class_map == IGNORE_INDEX)] = _UNLABELLED_BGR
    return errors


def _largest_error(frame: ShownFrame, classes: ClassTable) -> str:
    errors = confusion_matrix(frame.label_map, frame.class_map, classes)
    pixels = errors.sum()
    np.fill_diagonal(errors, 0)
    truth, predicted = np.unravel_index(errors.argmax(), errors.shape)
    if not errors[truth, predicted]:
        return ""
    name = "left unlabelled" if predicted == len(classes) else f"called {classes.names[predicted]}"
    share = small_percent(float(errors[truth, predicted] / pixels))
    return f"{classes.names[truth]} {name}, {share} of the labelled pixels"


# --- classes


@dataclass(frozen=True)
class _ClassRow:
    """A class with its IoU, None where it is absent, and its share of the labelled pixels."""

    class_: SegmentationClass
    iou: float | None
    share: float


@dataclass(frozen=True)
class _ConfusionRow:
    """Of one class' labelled pixels the share of each column."""

    class_: SegmentationClass
    cells: tuple[tuple[SegmentationClass | None, float], ...]


@dataclass(frozen=True)
class _ConfusionTable:
    """The confusion matrix; the column None is "unlabelled"."""

    columns: tuple[SegmentationClass | None, ...]
    rows: tuple[_ConfusionRow, ...]


def _confusion_table(confusion: np.ndarray, classes: ClassTable) -> _ConfusionTable:
    """Classes without a labelled pixel have no row; columns without any pixel are left out too."""
    rows = np.flatnonzero(confusion.sum(1))
    indices = np.flatnonzero((confusion.sum(0) > 0) | np.isin(np.arange(confusion.shape[1]), rows))
    columns = tuple(None if index == len(classes) else classes.rows[index] for index in indices)
    shares = confusion[rows][:, indices] / confusion[rows].sum(1, keepdims=True)
    return _ConfusionTable(
        columns,
        tuple(
            _ConfusionRow(classes.rows[row], tuple(zip(columns, map(float, cells), strict=True)))
            for row, cells in zip(rows, shares, strict=True)
        ),
    )


# --- curves


@dataclass(frozen=True)
class _Latency:
    """What latency is counted from, and its charts."""

    since: str
    bin_ms: float
    over_time: Chart
    histogram: Chart


def _latency(drive: DriveFigures | None, latencies: np.ndarray) -> _Latency | None:
    if drive is None or drive.latency_from is None or not len(latencies):
        return None
    width, height = CHART_WH
    since = {
        "stamp": "From the camera's stamp to the arrival of the class map.",
        "image": "From the arrival of the camera image to that of its class map, since the stamps are not of the clock "
        "of the arrivals: the drive was replayed.",
    }[drive.latency_from]
    end_s, top_ms = float(max(latencies[:, 0].max(), 1e-9)), nice_ceiling(float(latencies[:, 1].max()))
    points = ((time_s / end_s * width, height - value / top_ms * height) for time_s, value in _peaks(latencies))
    over_time = Chart(
        title="latency over time",
        top=f"{top_ms:g} ms",
        middle=f"{top_ms / 2:g} ms",
        start="0 s",
        end=f"{end_s:.1f} s",
        lines=(Line(path_of(points)),),
    )
    counts, edges = np.histogram(latencies[:, 1], bins=_HISTOGRAM_BINS, range=(0, top_ms))
    step, unit = width / _HISTOGRAM_BINS, height / counts.max()
    percentiles = (drive.latency_p50_ms, drive.latency_p95_ms, drive.latency_p99_ms)
    histogram = Chart(
        title="histogram of latencies",
        top=f"{counts.max()}",
        middle=f"{counts.max() / 2:g}",
        start="0 ms",
        end=f"{top_ms:g} ms",
        bars=tuple(Bar(index * step + 1, step - 2, count * unit) for index, count in enumerate(counts) if count),
        ticks=tuple(Tick(min(value / top_ms, 1) * width, height, "mark") for value in percentiles if value is not None),
    )
    return _Latency(since, float(edges[1]), over_time, histogram)


def _peaks(latencies: np.ndarray) -> np.ndarray:
    """At most _CHART_POINTS of the points, of each stretch of time the largest: spikes are what one looks for."""
    in_order = latencies[latencies[:, 0].argsort(kind="stable")]
    if len(latencies) <= _CHART_POINTS:
        return in_order
    stretches = np.array_split(in_order, _CHART_POINTS)
    return np.array([stretch[stretch[:, 1].argmax()] for stretch in stretches])


@dataclass(frozen=True)
class _Uiou:
    """The UIoU over the threshold, and where it is highest."""

    best: UiouPoint
    chart: Chart


def _uiou(curve: Sequence[UiouPoint]) -> _Uiou | None:
    if not curve:
        return None
    width, height = CHART_WH
    end = curve[-1].min_confidence

    def path(values: Sequence[float]) -> str:
        return path_of(
            (point.min_confidence / end * width, (1 - value) * height)
            for point, value in zip(curve, values, strict=True)
        )

    chart = Chart(
        title="UIoU over the threshold",
        top="100 %",
        middle="50 %",
        start="0",
        end=f"{end:g}",
        lines=(
            Line(path([point.uiou for point in curve])),
            Line(path([point.invalid_share for point in curve]), "second"),
        ),
    )
    return _Uiou(max(curve, key=lambda point: point.uiou), chart)
