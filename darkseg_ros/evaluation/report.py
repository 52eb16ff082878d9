"""What an evaluation leaves behind: metrics.json for machines, report.html for people, a table for the terminal."""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from darkseg_ros.errors import InputError
from darkseg_ros.evaluation.drive import EvaluatedInput, EvaluationResult
from darkseg_ros.evaluation.metrics import ABSENT_CLASSES
from darkseg_ros.evaluation.page import render_page
from darkseg_ros.evaluation.thresholds import ThresholdResult
from darkseg_ros.installed_files import package_version
from darkseg_ros.pictures.report_shell import interval_text, now_text
from darkseg_ros.whole_files import whole_file

METRICS_FILE, REPORT_FILE = "metrics.json", "report.html"
_NAME_WIDTH_MIN = 13  # for the names of the figures below the classes


def write_report(
    result: EvaluationResult,
    evaluated: EvaluatedInput,
    *,
    thresholds: Sequence[ThresholdResult] = (),
    out: Path,
) -> None:
    """Write metrics.json and report.html; both appear together when both are whole.

    Args:
        result: the figures.
        evaluated: what they belong to.
        thresholds: as `thresholds.judge` gives them.
        out: the folder, made if needed.

    Raises:
        InputError: if they cannot be written; what lay there before is unchanged.
    """
    metrics = f"{metrics_json(result, evaluated, thresholds=thresholds)}\n".encode()
    page = render_page(result, evaluated, thresholds=thresholds, date=now_text()).encode()
    try:
        with whole_file(out / REPORT_FILE) as page_path, whole_file(out / METRICS_FILE) as metrics_path:
            page_path.write_bytes(page)
            metrics_path.write_bytes(metrics)
    except OSError as error:
        raise InputError(
            f"{out} cannot be written: {error.strerror}; choose a folder with room and permission"
        ) from error


def check_output(out: Path) -> None:
    """Refuse a folder that `write_report` could not write to, before the work is done; nothing is made.

    Raises:
        InputError: if it, or the folder that it would be made in, is a file or may not be written.
    """
    existing = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise InputError(f"{existing} is a file; name a folder to write to")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise InputError(f"{existing} may not be written; choose a folder with room and permission")


def metrics_json(
    result: EvaluationResult, evaluated: EvaluatedInput, *, thresholds: Sequence[ThresholdResult] = ()
) -> str:
    """The content of metrics.json; null where there is no figure."""
    content = {
        "input": {"name": evaluated.name, "comparison": evaluated.comparison, "sha256": evaluated.sha256},
        "bundle": evaluated.bundle,
        "backend": evaluated.backend,
        "bad_frames": evaluated.bad_frames,
        **asdict(result.metrics),
        **(asdict(result.drive) if result.drive else {}),
        "confusion": result.confusion.tolist(),
        "thresholds": [asdict(threshold) for threshold in thresholds],
        "passed": all(threshold.passed for threshold in thresholds) if thresholds else None,
        "versions": versions(),
    }
    return json.dumps(without_nan(content), indent=2, allow_nan=False)


def versions() -> dict[str, str]:
    """Of what the figures were computed with."""
    return {
        "darkseg_ros": package_version(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "opencv": cv2.__version__,
    }


def without_nan(value: Any) -> Any:
    """The same with None for NaN, which JSON does not know."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def table_of(result: EvaluationResult, thresholds: Sequence[ThresholdResult] = ()) -> Iterator[str]:
    """The figures as lines of text, shares in per cent."""
    metrics = result.metrics
    width = max(_NAME_WIDTH_MIN, *map(len, metrics.iou))
    yield f"{'class':<{width}}  IoU %"
    for name, iou in metrics.iou.items():
        yield f"{name:<{width}}  {'    –' if iou is None else f'{100 * iou:5.1f}'}"
    yield f"– : {ABSENT_CLASSES}"
    yield ""
    shares = [
        ("mIoU", metrics.miou, interval_text(metrics.ci95["miou"]) + ", classes in label maps or class maps"),
        ("mIoU present", metrics.miou_present, interval_text(metrics.ci95["miou_present"]) + ", classes in label maps"),
        ("pixel accuracy", metrics.pixel_accuracy, ""),
        ("class accuracy", metrics.class_accuracy, "mean over classes in label maps"),
        ("FWIoU", metrics.fwiou, "weighted by the classes' labelled pixels"),
        ("ECE", metrics.ece, "expected calibration error"),
        ("AUROC", metrics.auroc, "a right pixel is surer than a wrong one"),
        ("FPR@95", metrics.fpr95, "wrong pixels as sure as 95 % of the right ones, lower is better"),
        ("AUPR success", metrics.aupr_success, "right pixels found from the surest down"),
        ("AUPR error", metrics.aupr_error, "wrong pixels found from the least sure up"),
        ("UIoU", metrics.uiou, f"confidence below {metrics.uiou_min_confidence} counts as invalid"),
    ]
    if metrics.unknown is not None:
        shares += [
            ("unknown AUROC", metrics.unknown.auroc, "a pixel of a class is surer than one of a drawn object of none"),
            ("unknown FPR@95", metrics.unknown.fpr95, "of its pixels as sure as 95 % of the others, lower is better"),
            ("unknown AUPR", metrics.unknown.aupr_error, "its pixels found from the least sure up"),
        ]
    if result.drive is not None:
        shares += [
            ("flicker", result.drive.flicker, "pixels that change from one class map to the next"),
            ("flicker static", result.drive.flicker_static, "of those whose label does not change"),
            ("dropped", result.drive.dropped_share, f"{result.drive.dropped} camera images without a class map"),
        ]
    for label, share, meaning in shares:
        if share is not None:
            yield f"{label:<{width}}  {100 * share:5.1f}  {meaning}".rstrip()
    if result.drive is not None and result.drive.latency_from is not None:
        drive = result.drive
        yield (
            f"{'latency ms':<{width}}  {drive.latency_p50_ms:5.1f}  median, p95 {drive.latency_p95_ms:.1f}, "
            f"p99 {drive.latency_p99_ms:.1f}, from the camera's {drive.latency_from}"
        )
    yield f"{'images':<{width}}  {metrics.images:5d}"
    if 0 < metrics.images_with_confidence < metrics.images:
        yield f"no ECE and no UIoU: confidence came with {metrics.images_with_confidence} of {metrics.images} images"
    for threshold in thresholds:
        value = "not measured" if threshold.value is None else f"{threshold.value:.6g}"
        verdict = "passed" if threshold.passed else "MISSED"
        yield f"{verdict}: {threshold.figure} {value}, {threshold.bound} {threshold.limit:g}"
