"""Figures of the sums over any frames: of a drive, a camera, an hour, a whole fleet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from darkseg_ros.evaluation.fleet.judgement import Sums
from darkseg_ros.evaluation.metrics import (
    ECE_BINS,
    class_accuracy,
    frequency_weighted_iou,
    iou_per_class,
    mean_iou,
    mean_iou_of_present,
    pixel_accuracy,
)
from darkseg_ros.evaluation.trust import trust_figures

_LEVELS = np.arange(256)


def figures_of(sums: Sums, class_names: Sequence[str]) -> dict[str, float | None]:
    """Figures by name; None where they cannot be known, such as all of label maps where there are none.

    Those of `evaluation.metrics.Metrics` have its names. Besides:

    - ``frames``: with a class map; ``images``: of them, scored against a label map.
    - ``consistency``: mean IoU of each class map with the one before, warped along the optical flow.
    - ``mean_confidence``: over all pixels.
    - ``healthy_share``: of the camera images, those without a fault of the camera.
    - ``dispersity``: how evenly the class maps spread over the classes, 0 for one class, 1 for equal shares of all: the
      entropy of the classes' shares over the logarithm of their number. A network that no longer sees calls all of it
      one or two classes, sure of itself and the same in each frame.
    - ``trust``: the product of these four, 0…1, which ranks drives that have no label maps.

    Source: Deng, Suh, Gould and Zheng, "Confidence and Dispersity Speak: Characterizing Prediction Matrix for
        Unsupervised Accuracy Estimation", ICML 2023 (arXiv 2302.01094), for confidence and dispersity together.
    Differs: dispersity by entropy, which needs only the classes' shares, not a nuclear norm over all answers.
    """
    iou = iou_per_class(sums.confusion)
    pixels = int(sums.certainty.sum())
    confidence = int((sums.certainty * _LEVELS).sum()) / (255 * pixels) if pixels else None
    consistency = _known(float(mean_iou(sums.warped)))
    healthy = (sums.seen - sums.unhealthy) / sums.seen if sums.seen else None
    dispersity = _dispersity(sums.predicted)
    trusted = None
    if consistency is not None and confidence is not None and healthy is not None and dispersity is not None:
        trusted = consistency * confidence * healthy * dispersity
    figures: dict[str, float | None] = {
        "frames": sums.frames,
        "images": sums.scored,
        "miou": _known(float(mean_iou(sums.confusion))),
        "miou_present": _known(float(mean_iou_of_present(sums.confusion))),
        "pixel_accuracy": _known(pixel_accuracy(sums.confusion)),
        "class_accuracy": _known(class_accuracy(sums.confusion)),
        "fwiou": _known(frequency_weighted_iou(sums.confusion)),
        "ece": _ece(sums.right, sums.wrong) if sums.confusion.sum() == (sums.right + sums.wrong).sum() else None,
        **dict.fromkeys(("auroc", "fpr95", "aupr_success", "aupr_error")),
        "consistency": consistency,
        "mean_confidence": confidence,
        "healthy_share": healthy,
        "dispersity": dispersity,
        "trust": trusted,
    }
    trust = trust_figures(sums.right, sums.wrong)
    if trust is not None and figures["ece"] is not None:
        figures |= asdict(trust)
    return figures | {f"iou.{name}": _known(float(value)) for name, value in zip(class_names, iou, strict=True)}


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value


def _dispersity(predicted: np.ndarray) -> float | None:
    if not predicted.any():
        return None
    shares = predicted[predicted > 0] / predicted.sum()
    return float(-(shares * np.log(shares)).sum() / np.log(max(len(predicted), 2))) + 0.0  # no -0.0


def _ece(right: np.ndarray, wrong: np.ndarray) -> float | None:
    """As `metrics.Calibration`, from counts by confidence."""
    pixels = right + wrong
    if not pixels.any():
        return None
    bins = np.minimum(_LEVELS * ECE_BINS // 255, ECE_BINS - 1)
    off = 0.0
    for index in range(ECE_BINS):
        within = bins == index
        off += abs(int(right[within].sum()) - int((pixels * _LEVELS)[within].sum()) / 255)
    return off / int(pixels.sum())
