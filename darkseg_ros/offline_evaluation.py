"""`darkseg evaluate`: class maps of a folder of images against a folder of label maps."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from darkseg_ros.classes import CLASS_NAMES
from darkseg_ros.errors import InputError
from darkseg_ros.evaluation import Evaluation, Metrics
from darkseg_ros.frames import IMAGE_SUFFIXES, read_image
from darkseg_ros.segmenter import Segmenter
from darkseg_ros.whole_files import write_whole

METRICS_FILE = "metrics.json"


@dataclass(frozen=True)
class LabelledImage:
    """An image file and the label map with the same stem."""

    image: Path
    label: Path


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
        bgr = read_image(pair.image)
        label_map = read_label_map(pair.label)
        if label_map.shape != bgr.shape[:2]:
            raise InputError(
                f"{pair.label} is {label_map.shape[1]}×{label_map.shape[0]}, its image "
                f"{bgr.shape[1]}×{bgr.shape[0]}; label maps must have their image's size"
            )
        segmentation = segmenter(bgr)
        try:
            evaluation.add(label_map, segmentation.class_map, segmentation.confidence)
        except ValueError as error:
            raise InputError(f"{pair.label}: {error}") from error
    try:
        return evaluation.metrics()
    except ValueError as error:
        raise InputError(f"{labels}: {error}") from error


def pair_files(images: Path, labels: Path) -> list[LabelledImage]:
    """Images and label maps of the same stem, in the order of their names.

    Raises:
        InputError: if a folder is missing or empty, a stem occurs twice in one, or a file has no partner.
    """
    image_by_stem, label_by_stem = _files_by_stem(images), _files_by_stem(labels)
    for stem, path in image_by_stem.items():
        if stem not in label_by_stem:
            raise InputError(f"{path} has no label map {stem}.* in {labels}; add it or take the image out")
    for stem, path in label_by_stem.items():
        if stem not in image_by_stem:
            raise InputError(f"{path} has no image {stem}.* in {images}; add it or take the label map out")
    return [LabelledImage(image, label_by_stem[stem]) for stem, image in image_by_stem.items()]


def _files_by_stem(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; expected a folder of images")
    path_by_stem: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in IMAGE_SUFFIXES or path.name.startswith(".") or not path.is_file():
            continue
        other = path_by_stem.setdefault(path.stem, path)
        if other is not path:
            raise InputError(f"{other} and {path} share a stem, so pairs are ambiguous; remove one of them")
    if not path_by_stem:
        raise InputError(f"{folder} holds no images; expected files ending in {', '.join(IMAGE_SUFFIXES)}")
    return path_by_stem


def read_label_map(path: Path) -> np.ndarray:
    """Read a label map.

    Returns:
        (H, W) uint8 as stored.

    Raises:
        InputError: if the file cannot be decoded, or is anything but one channel of 8 bits.
    """
    try:
        content = np.frombuffer(path.read_bytes(), np.uint8)
        label_map = cv2.imdecode(content, cv2.IMREAD_UNCHANGED) if content.size else None
    except (OSError, cv2.error) as error:
        raise InputError(f"{path} cannot be read as a label map: {error}") from error
    if label_map is None:
        raise InputError(f"{path} cannot be decoded; expected a label map, restore the file")
    if label_map.ndim != 2 or label_map.dtype != np.uint8:
        channels = 1 if label_map.ndim == 2 else label_map.shape[2]
        raise InputError(
            f"{path} has {channels} channels of {label_map.dtype}; expected one channel of uint8 train ids "
            "(coloured and palette pictures must be turned into train ids first)"
        )
    return label_map


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
