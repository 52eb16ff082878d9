"""How good class maps are against label maps: from a confusion matrix to the figures of metrics.json."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from darkseg_ros.classes import CLASS_NAMES, IGNORE_INDEX, NUM_CLASSES

UNLABELLED_COLUMN = NUM_CLASSES
"""Column of the confusion matrix that counts labelled pixels predicted as unlabelled (255)."""

_ECE_BINS = 15
_BOOTSTRAP_ROUNDS = 1000


def confusion_matrix(label_map: np.ndarray, class_map: np.ndarray) -> np.ndarray:
    """Count the pixels of every (ground truth, prediction) pair.

    Args:
        label_map: (H, W) uint8 train ids, 255 = no ground truth (such pixels are not counted).
        class_map: (H, W) uint8 train ids, 255 = unlabelled: a labelled pixel predicted so is a miss.

    Returns:
        (19, 20) int64; rows are ground truth, columns predictions, the last column is "unlabelled".

    Raises:
        ValueError: if the shapes differ, or a value is neither a train id nor 255.
    """
    if label_map.shape != class_map.shape:
        raise ValueError(
            f"the label map is {label_map.shape}, the class map {class_map.shape}; bring both to the same geometry"
        )
    for name, values in (("label map", label_map), ("class map", class_map)):
        unknown = np.setdiff1d(np.unique(values), [*range(NUM_CLASSES), IGNORE_INDEX])
        if unknown.size:
            raise ValueError(
                f"the {name} holds the value {unknown[0]}; expected train ids 0…{NUM_CLASSES - 1} or {IGNORE_INDEX} "
                "(raw Cityscapes ids need TRAIN_ID_OF_LABEL_ID first)"
            )
    labelled = label_map != IGNORE_INDEX
    truth = label_map[labelled].astype(np.int64)
    predicted = np.minimum(class_map[labelled], UNLABELLED_COLUMN).astype(np.int64)
    columns = NUM_CLASSES + 1
    return np.bincount(truth * columns + predicted, minlength=NUM_CLASSES * columns).reshape(NUM_CLASSES, columns)


def iou_per_class(confusion: np.ndarray) -> np.ndarray:
    """Intersection over union of each class.

    iou[c] = TP / (TP + FP + FN), over labelled pixels only.

    Args:
        confusion: (..., 19, 20) pixel counts as `confusion_matrix` gives them.

    Returns:
        (..., 19) float64 in [0, 1]; NaN for a class absent from both ground truth and prediction.

    Source: Cordts et al., CVPR 2016 (arXiv 1604.01685), section 4; cityscapesScripts' evalPixelLevelSemanticLabeling.
    """
    hits = np.diagonal(confusion, axis1=-2, axis2=-1).astype(np.float64)
    union = confusion.sum(-1) + confusion[..., :NUM_CLASSES].sum(-2) - hits
    return np.divide(hits, union, out=np.full(hits.shape, np.nan), where=union > 0)


def mean_iou(confusion: np.ndarray) -> np.ndarray:
    """Mean over the classes that occur in ground truth or prediction (cityscapesScripts' convention), (...,)."""
    return _mean_where(iou_per_class(confusion), ~np.isnan(iou_per_class(confusion)))


def mean_iou_of_present(confusion: np.ndarray) -> np.ndarray:
    """Mean IoU over the classes that occur in the ground truth only, (...,)."""
    return _mean_where(iou_per_class(confusion), confusion.sum(-1) > 0)


def pixel_accuracy(confusion: np.ndarray) -> float:
    """Share of labelled pixels that are right; NaN without labelled pixels."""
    return _ratio(float(np.trace(confusion)), float(confusion.sum()))


def class_accuracy(confusion: np.ndarray) -> float:
    """Mean over the classes with ground truth of the share of their pixels that are right."""
    pixels = confusion.sum(1)
    present = pixels > 0
    return float(_mean_where(np.diagonal(confusion) / np.maximum(pixels, 1), present))


def frequency_weighted_iou(confusion: np.ndarray) -> float:
    """IoU of the classes weighted by their share of the labelled pixels.

    Source: Long et al., CVPR 2015 (arXiv 1411.4038), section 5.
    """
    pixels = confusion.sum(1)
    present = pixels > 0
    return _ratio(float((pixels[present] * iou_per_class(confusion)[present]).sum()), float(pixels.sum()))


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")


def _mean_where(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Mean of the masked values along the last axis; NaN where the mask is empty. (np.nanmean would warn.)"""
    count = mask.sum(-1)
    total = np.where(mask, values, 0.0).sum(-1)
    return np.divide(total, count, out=np.full(np.shape(total), np.nan), where=count > 0)


@dataclass
class Calibration:
    """Confidence against correctness, summed in equal-width bins.

    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017 (arXiv 1706.04599), equation 3.
    """

    pixels: np.ndarray = field(default_factory=lambda: np.zeros(_ECE_BINS, np.int64))
    hits: np.ndarray = field(default_factory=lambda: np.zeros(_ECE_BINS, np.int64))
    confidence_sum: np.ndarray = field(default_factory=lambda: np.zeros(_ECE_BINS))

    def add(self, label_map: np.ndarray, class_map: np.ndarray, confidence: np.ndarray) -> None:
        """Add the labelled pixels of one image; `confidence` is (H, W) uint8, 255 = certain."""
        labelled = label_map != IGNORE_INDEX
        certainty = confidence[labelled] / 255.0
        bins = np.minimum((certainty * _ECE_BINS).astype(np.int64), _ECE_BINS - 1)
        right = label_map[labelled] == class_map[labelled]
        self.pixels += np.bincount(bins, minlength=_ECE_BINS)
        self.hits += np.bincount(bins[right], minlength=_ECE_BINS)
        self.confidence_sum += np.bincount(bins, weights=certainty, minlength=_ECE_BINS)

    def expected_calibration_error(self) -> float:
        """Mean over the pixels of |accuracy − confidence| of their bin, in [0, 1]; NaN without pixels."""
        return _ratio(float(np.abs(self.hits - self.confidence_sum).sum()), float(self.pixels.sum()))


@dataclass(frozen=True)
class Metrics:
    """The content of metrics.json.

    Attributes:
        miou: mean over classes in ground truth or prediction (cityscapesScripts).
        miou_present: mean over classes in the ground truth.
        pixel_accuracy: share of labelled pixels that are right.
        class_accuracy: mean share of each class' pixels that are right.
        fwiou: frequency-weighted IoU.
        iou: IoU of each class by name; None where the class does not occur.
        images: how many images.
        ci95: 95 % bootstrap interval over images of ``miou`` and ``miou_present``.
        ece: expected calibration error; None where no confidence was given.
    """

    miou: float
    miou_present: float
    pixel_accuracy: float
    class_accuracy: float
    fwiou: float
    iou: dict[str, float | None]
    images: int
    ci95: dict[str, tuple[float, float]]
    ece: float | None


class Evaluation:
    """Collects images one by one and turns them into `Metrics`."""

    def __init__(self) -> None:
        self._confusions: list[np.ndarray] = []
        self._calibration = Calibration()

    def add(self, label_map: np.ndarray, class_map: np.ndarray, confidence: np.ndarray | None = None) -> None:
        """Add one image; arguments as in `confusion_matrix` and `Calibration.add`."""
        self._confusions.append(confusion_matrix(label_map, class_map))
        if confidence is not None:
            self._calibration.add(label_map, class_map, confidence)

    @property
    def confusion(self) -> np.ndarray:
        """(19, 20) int64, summed over all images."""
        return np.asarray(np.sum(self._confusions, axis=0, dtype=np.int64))

    def metrics(self) -> Metrics:
        """The figures over all images.

        Raises:
            ValueError: if no image, or no labelled pixel, was added.
        """
        if not self._confusions:
            raise ValueError("no image was evaluated; add at least one")
        confusion = self.confusion
        if not confusion.any():
            raise ValueError("no pixel has ground truth (all are 255); check the label maps")
        iou = iou_per_class(confusion)
        return Metrics(
            miou=float(mean_iou(confusion)),
            miou_present=float(mean_iou_of_present(confusion)),
            pixel_accuracy=pixel_accuracy(confusion),
            class_accuracy=class_accuracy(confusion),
            fwiou=frequency_weighted_iou(confusion),
            iou={name: None if np.isnan(value) else float(value) for name, value in zip(CLASS_NAMES, iou, strict=True)},
            images=len(self._confusions),
            ci95=bootstrap_intervals(np.stack(self._confusions)),
            ece=self._calibration.expected_calibration_error() if self._calibration.pixels.any() else None,
        )


def bootstrap_intervals(confusions: np.ndarray, *, seed: int = 0) -> dict[str, tuple[float, float]]:
    """95 % percentile intervals of the mean IoUs, resampling whole images with replacement.

    Args:
        confusions: (N, 19, 20) one matrix an image.
        seed: of the resampling, so that the same images give the same interval.

    Source: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13.
    """
    rng = np.random.default_rng(seed)
    count = len(confusions)
    flat = confusions.reshape(count, -1).astype(np.float64)
    draws = rng.multinomial(count, np.full(count, 1 / count), size=_BOOTSTRAP_ROUNDS)
    resampled = (draws @ flat).reshape(_BOOTSTRAP_ROUNDS, NUM_CLASSES, NUM_CLASSES + 1)
    return {
        "miou": _percentile_interval(mean_iou(resampled)),
        "miou_present": _percentile_interval(mean_iou_of_present(resampled)),
    }


def _percentile_interval(values: np.ndarray) -> tuple[float, float]:
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return float(low), float(high)
