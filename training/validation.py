"""Metrics of a network in torch, with the geometry that the vehicle's runtime uses."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from darkseg_ros.classes import CITYSCAPES, ClassTable
from darkseg_ros.errors import InputError
from darkseg_ros.evaluation.metrics import ABSENT_CLASSES, Evaluation, Metrics, confusion_matrix
from darkseg_ros.frames.labelled import LabelledImage, read_labelled
from darkseg_ros.model.exposure import Exposure
from darkseg_ros.model.segmenter import preprocess
from training.data.network_input import network_input
from training.networks.layers import upsample_bilinear
from training.runs.results import write_result


def evaluate_network(
    network: nn.Module,
    validation_sets: dict[str, list[LabelledImage]],
    *,
    input_hw: tuple[int, int],
    exposure: Exposure | None = None,
    classes: ClassTable = CITYSCAPES,
) -> dict[str, Metrics]:
    """Metrics by validation set; images are squeezed to `input_hw` and class maps brought back by nearest neighbour.

    Dark images are brightened as `exposure` says. One image at a time: on a CPU batches of eight took half as long
    again, since they do not fit its caches.

    Raises:
        InputError: naming the file, if an image or label map cannot be used, or a set holds no labelled pixel.
    """
    metrics = {}
    for name, pairs in validation_sets.items():
        evaluation = Evaluation(classes)
        bar = tqdm(pairs, desc=f"evaluate {name}", unit="image", leave=False, mininterval=10)
        for label_map, class_map, confidence in answers_of(network, bar, input_hw=input_hw, exposure=exposure):
            evaluation.add(label_map, class_map, confidence)
        try:
            metrics[name] = evaluation.metrics()
        except ValueError as error:
            raise InputError(f"validation set {name}: {error}") from error
    return metrics


def confusions_of(
    network: nn.Module,
    pairs: list[LabelledImage],
    *,
    input_hw: tuple[int, int],
    exposure: Exposure | None = None,
    classes: ClassTable = CITYSCAPES,
    merged: Mapping[str, Sequence[str]] | None = None,
) -> np.ndarray:
    """One confusion matrix an image, (N, K, K + 1) int64, for paired comparisons.

    Args:
        network: as in `evaluate_network`, like the other arguments.
        pairs: the images.
        input_hw: size of the network's input.
        exposure: that dark images are brightened to.
        classes: of labels and answers.
        merged: classes that the labels hold under another's name, by that name; answers are counted so too.
    """
    counted_as = np.arange(256).astype(np.uint8)
    for name, others in (merged or {}).items():
        counted_as[[classes.train_ids[other] for other in others]] = classes.train_ids[name]
    return np.stack(
        [
            confusion_matrix(label_map, counted_as[class_map], classes)
            for label_map, class_map, _ in answers_of(network, pairs, input_hw=input_hw, exposure=exposure)
        ]
    )


@torch.no_grad()
def answers_of(
    network: nn.Module, pairs: Iterable[LabelledImage], *, input_hw: tuple[int, int], exposure: Exposure | None
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The label map of each image, the class map and the confidence of its size, (H, W) uint8 each."""
    device = next(network.parameters()).device
    network.eval()
    for pair in pairs:
        bgr, label_map = read_labelled(pair)
        squeezed = preprocess(bgr, input_hw, exposure)[0]
        logits = upsample_bilinear(network(network_input(squeezed)[None].to(device)), input_hw)
        probability, train_ids = torch.softmax(logits, 1).max(1)
        size_wh = (label_map.shape[1], label_map.shape[0])
        class_map, confidence = (
            np.asarray(cv2.resize(values, size_wh, interpolation=cv2.INTER_NEAREST_EXACT))
            for values in (
                train_ids[0].to(torch.uint8).cpu().numpy(),
                (probability[0] * 255).round().to(torch.uint8).cpu().numpy(),
            )
        )
        yield label_map, class_map, confidence


def describe(name: str, metrics: Metrics) -> Iterator[str]:
    """The figures of one validation set as lines of text: means with their intervals, then every class."""
    figures = []
    for figure in ("miou", "miou_present", "pixel_accuracy", "class_accuracy", "fwiou"):
        low, high = metrics.ci95[figure]
        figures.append(f"{figure} {getattr(metrics, figure):.4f} [{low:.4f}, {high:.4f}]")
    yield f"{name}, {metrics.images} images: {', '.join(figures)}"
    yield "  " + ", ".join(f"{c} {'–' if v is None else format(v, '.2f')}" for c, v in metrics.iou.items())


def write_metrics(path: Path, metrics: dict[str, Metrics]) -> None:
    """Write all figures of each validation set by name, and the convention for absent classes.

    Raises:
        InputError: if the disk is full or not writable.
    """
    content = {name: {**asdict(values), "absent_classes": ABSENT_CLASSES} for name, values in metrics.items()}
    write_result(path, f"{json.dumps(content, indent=2)}\n")
