"""`darkseg evaluate`: class maps of a folder of images against a folder of label maps."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from darkseg_ros.classes import CLASS_NAMES
from darkseg_ros.errors import InputError
from darkseg_ros.evaluation import Evaluation, Metrics
from darkseg_ros.labelled_images import pair_files, read_labelled
from darkseg_ros.segmenter import Segmenter
from darkseg_ros.whole_files import write_whole

METRICS_FILE = "metrics.json"


def evaluate_files(segmenter: Segmenter, *, images: Path, labels: Path) -> Metrics:
    """Segment every image and compare it with its label map.

    Args:
        segmenter: runs on every image.
        images: folder of images.
        labels: folder of label maps: one channel of uint8 train ids, 255 = no ground truth, in any lossless
            image format, of the size of their image.

    Raises:
        InputError: naming the file, if an image has no label map or the other way round, cannot be decoded,
            or is no label map of its image.
    """
    pairs = pair_files(images, labels)
    evaluation = Evaluation()
    # disable=None shows the bar on a terminal only
    for pair in tqdm(pairs, desc="evaluating", unit="image", disable=None):
        bgr, label_map = read_labelled(pair)
        segmentation = segmenter(bgr)
        evaluation.add(label_map, segmentation.class_map, segmentation.confidence)
    try:
        return evaluation.metrics()
    except ValueError as error:
        raise InputError(f"{labels}: {error}") from error


def write_metrics(metrics: Metrics, path: Path, *, bundle: str, engine: str) -> None:
    """Write metrics.json: the fields of `Metrics` and what they belong to; null where there is no figure."""
    content = _without_nan({"bundle": bundle, "backend": engine, **asdict(metrics)})
    write_whole(path, f"{json.dumps(content, indent=2, allow_nan=False)}\n".encode())


def _without_nan(value: Any) -> Any:
    """JSON has no NaN."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def table_of(metrics: Metrics) -> Iterator[str]:
    """The figures as lines of text, per cent."""
    width = max(map(len, CLASS_NAMES))
    yield f"{'class':<{width}}  IoU %"
    for name, iou in metrics.iou.items():
        yield f"{name:<{width}}  {'    –' if iou is None else f'{100 * iou:5.1f}'}"
    yield "– : in neither label maps nor class maps; such a class counts in no mean"
    yield ""
    for label, share, meaning in (
        ("mIoU", metrics.miou, _interval(metrics.ci95["miou"]) + ", classes in label maps or class maps"),
        (
            "mIoU present",
            metrics.miou_present,
            _interval(metrics.ci95["miou_present"]) + ", classes in label maps",
        ),
        ("pixel accuracy", metrics.pixel_accuracy, ""),
        ("class accuracy", metrics.class_accuracy, "mean over classes in label maps"),
        ("FWIoU", metrics.fwiou, "weighted by the classes' labelled pixels"),
        ("ECE", metrics.ece, "expected calibration error"),
    ):
        if share is not None:
            yield f"{label:<{width}}  {100 * share:5.1f}  {meaning}".rstrip()
    yield f"{'images':<{width}}  {metrics.images:5d}"


def _interval(bounds: tuple[float, float]) -> str:
    return f"95 % interval {100 * bounds[0]:.1f}…{100 * bounds[1]:.1f}"
