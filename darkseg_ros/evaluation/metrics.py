"""How good class maps are against label maps: from a confusion matrix to the figures of metrics.json."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

import numpy as np

from darkseg_ros.classes import CITYSCAPES, IGNORE_INDEX, ClassTable
from darkseg_ros.evaluation.trust import TrustFigures, trust_figures

UIOU_MIN_CONFIDENCE = 0.5
"""Predictions of less confidence count as invalid in `Metrics.uiou` unless told otherwise."""

FLICKER_GAP_MAX_NS = 500_000_000
"""Class maps further apart are no consecutive frames: they differ since the scene does."""

ECE_BINS = 15
"""Bins of equal width of the expected calibration error."""

_CONFIDENCE_LEVELS = 256
_BOOTSTRAP_ROUNDS = 1000
_BLOCKS_MAX = 1024
_CURVE_MIN_CONFIDENCES = tuple(round(0.05 * step, 2) for step in range(20))


def confusion_matrix(label_map: np.ndarray, class_map: np.ndarray, classes: ClassTable = CITYSCAPES) -> np.ndarray:
    """Count the pixels of every (ground truth, prediction) pair.

    Args:
        label_map: (H, W) uint8 train ids, 255 = no ground truth (such pixels are not counted).
        class_map: (H, W) uint8 train ids, 255 = unlabelled: a labelled pixel predicted so is a miss.
        classes: K classes, of both maps.

    Returns:
        (K, K + 1) int64; rows are ground truth, columns predictions. The last column counts the labelled pixels that
        are predicted as unlabelled.

    Raises:
        ValueError: if the shapes differ, or a value is neither a train id nor 255.
    """
    if label_map.shape != class_map.shape:
        raise ValueError(
            f"the label map is {label_map.shape}, the class map {class_map.shape}; bring both to the same geometry"
        )
    for name, values in (("label map", label_map), ("class map", class_map)):
        try:
            classes.check(values)
        except ValueError as error:
            raise ValueError(f"the {name} {error}") from error
    labelled = label_map != IGNORE_INDEX
    truth = label_map[labelled].astype(np.int64)
    rows, columns = len(classes), len(classes) + 1
    predicted = np.minimum(class_map[labelled], rows).astype(np.int64)  # 255 goes to the last column
    return np.bincount(truth * columns + predicted, minlength=rows * columns).reshape(rows, columns)


def iou_per_class(confusion: np.ndarray) -> np.ndarray:
    """Intersection over union of each class.

    iou[c] = TP / (TP + FP + FN), over labelled pixels only.

    Args:
        confusion: (..., K, K + 1) pixel counts as `confusion_matrix` gives them.

    Returns:
        (..., K) float64 in [0, 1]; NaN for a class absent from both ground truth and prediction.

    Source: Cordts et al., CVPR 2016 (arXiv 1604.01685), section 4; cityscapesScripts' evalPixelLevelSemanticLabeling.
    """
    hits = np.diagonal(confusion, axis1=-2, axis2=-1).astype(np.float64)
    union = confusion.sum(-1) + confusion[..., :-1].sum(-2) - hits
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

    pixels: np.ndarray = field(default_factory=lambda: np.zeros(ECE_BINS, np.int64))
    hits: np.ndarray = field(default_factory=lambda: np.zeros(ECE_BINS, np.int64))
    confidence_sum: np.ndarray = field(default_factory=lambda: np.zeros(ECE_BINS))

    def add(self, label_map: np.ndarray, class_map: np.ndarray, confidence: np.ndarray) -> None:
        """Add the labelled pixels of one image; `confidence` is (H, W) uint8, 255 = certain."""
        labelled = label_map != IGNORE_INDEX
        certainty = confidence[labelled] / 255.0
        bins = np.minimum((certainty * ECE_BINS).astype(np.int64), ECE_BINS - 1)
        right = label_map[labelled] == class_map[labelled]
        self.pixels += np.bincount(bins, minlength=ECE_BINS)
        self.hits += np.bincount(bins[right], minlength=ECE_BINS)
        self.confidence_sum += np.bincount(bins, weights=certainty, minlength=ECE_BINS)

    def expected_calibration_error(self) -> float:
        """Mean over the pixels of |accuracy − confidence| of their bin, in [0, 1]; NaN without pixels."""
        return _ratio(float(np.abs(self.hits - self.confidence_sum).sum()), float(self.pixels.sum()))


@dataclass(frozen=True)
class UiouPoint:
    """The uncertainty-aware IoU at one threshold.

    Attributes:
        min_confidence: predictions below count as invalid, 0…1.
        uiou: mean over the classes in the ground truth.
        invalid_share: share of the labelled pixels whose prediction is invalid.
    """

    min_confidence: float
    uiou: float
    invalid_share: float


class Invalidation:
    """Pixels by ground truth, prediction and confidence: what withholding uncertain predictions would change.

    A prediction is invalid where its confidence is below a threshold θ, or where it is unlabelled (255). Over the
    pixels with a class c in the label map:

        uiou[c] = (TP + TI) / (TP + TI + FP + FN + FI)

    TI (true invalid) are pixels of class c predicted invalid where the annotator could not make out the class by the
    image alone either, FI (false invalid) those predicted invalid where the annotator could. TP, FP and FN count the
    valid predictions, in both kinds of region: an annotator's doubt does not make a right answer wrong. With θ = 0,
    and no pixel unlabelled, this is the IoU.

    Source: Sakaridis et al., ICCV 2019 (arXiv 1901.05946), section 4; the same, TPAMI 2020 (arXiv 2005.14553).
    Differs: the invalid regions come as a mask of their own, as in Dark Zurich, beside a label map that holds a class
    there; without a mask no pixel is invalid in truth, so TI = 0. Pixels of value 255 in the label map have no class
    that they could count for, and are left out as everywhere else. θ is on the scale of the confidence, 0…1, in
    steps of 1/255.
    """

    def __init__(self, classes: ClassTable = CITYSCAPES) -> None:
        self._classes = len(classes)
        # [annotator's doubt, ground truth, prediction, confidence]
        self._pixels = np.zeros((2, self._classes, self._classes + 1, _CONFIDENCE_LEVELS), np.int64)

    def add(
        self,
        label_map: np.ndarray,
        class_map: np.ndarray,
        confidence: np.ndarray,
        *,
        invalid_mask: np.ndarray | None = None,
    ) -> None:
        """Add the labelled pixels of one image.

        Args:
            label_map: (H, W) uint8 train ids, 255 = no ground truth.
            class_map: (H, W) uint8 train ids, 255 = unlabelled.
            confidence: (H, W) uint8, 255 = certain.
            invalid_mask: (H, W) bool, where the annotator was in doubt; None for nowhere.
        """
        labelled = label_map != IGNORE_INDEX
        cells = np.zeros(np.count_nonzero(labelled), np.int64)
        if invalid_mask is not None:
            cells += invalid_mask[labelled]
        for values, count in (
            (label_map[labelled], self._classes),
            (np.minimum(class_map[labelled], self._classes), self._classes + 1),
            (confidence[labelled], _CONFIDENCE_LEVELS),
        ):
            cells *= count
            cells += values
        self._pixels += np.bincount(cells, minlength=self._pixels.size).reshape(self._pixels.shape)

    def trust(self) -> TrustFigures | None:
        """How well the confidence tells right pixels from wrong ones; None where all are right, or all wrong."""
        by_level = self._pixels.sum(0)
        right = np.einsum("ccl->l", by_level[:, :-1])
        return trust_figures(right, by_level.sum((0, 1)) - right)

    def uiou_per_class(self, min_confidence: float) -> np.ndarray:
        """The uncertainty-aware IoU of each class; (K,) float64, NaN where the ground truth lacks the class."""
        valid, invalid = self._split(min_confidence)
        hits = np.diagonal(valid).astype(np.float64)
        false_alarms = valid.sum(0) - hits
        pixels = self._pixels.sum((0, 2, 3))  # = TP + FN + TI + FI
        shares = (hits + invalid[1]) / np.maximum(pixels + false_alarms, 1)
        return np.where(pixels > 0, shares, np.nan)

    def at(self, min_confidence: float) -> UiouPoint:
        """Mean and share of invalid predictions at one threshold, 0…1; NaN without labelled pixels."""
        shares = self.uiou_per_class(min_confidence)
        _, invalid = self._split(min_confidence)
        return UiouPoint(
            min_confidence=min_confidence,
            uiou=float(_mean_where(shares, ~np.isnan(shares))),
            invalid_share=_ratio(float(invalid.sum()), float(self._pixels.sum())),
        )

    def _split(self, min_confidence: float) -> tuple[np.ndarray, np.ndarray]:
        """Valid predictions, (K, K), and invalid ones by annotator's doubt and class, (2, K)."""
        confident = np.arange(_CONFIDENCE_LEVELS) >= min_confidence * 255  # as Segmenter's min_confidence
        valid = self._pixels[:, :, :-1, confident].sum(-1)
        return valid.sum(0), self._pixels.sum((2, 3)) - valid.sum(2)


class Flicker:
    """Temporal inconsistency: the share of pixels whose class changes from one frame to the next.

    Frames are consecutive when the second is stamped after the first, by at most FLICKER_GAP_MAX_NS, and has its
    size. A change to or from unlabelled (255) counts: the driver sees it. Without label maps motion counts too; with
    them only pixels of one and the same class in both frames' label maps are compared, so what is left is the
    model's fault but for motion within a class.

    Differs: measures of temporal consistency that warp by optical flow (Varghese et al., CVPR Workshops 2020) need
    a flow network and its errors; the label maps say the same where there are some.
    """

    def __init__(self) -> None:
        self._changed = 0
        self._compared = 0
        self._last: tuple[int, np.ndarray, np.ndarray | None] | None = None

    def add(self, stamp_ns: int, class_map: np.ndarray, label_map: np.ndarray | None = None) -> None:
        """Add the next frame; label maps come with all frames or with none."""
        last, self._last = self._last, (stamp_ns, class_map, label_map)
        if last is None or not 0 < stamp_ns - last[0] <= FLICKER_GAP_MAX_NS or last[1].shape != class_map.shape:
            return
        changed = class_map != last[1]
        if label_map is None or last[2] is None:
            self._compared += changed.size
        else:
            steady = (label_map == last[2]) & (label_map != IGNORE_INDEX)
            self._compared += int(np.count_nonzero(steady))
            changed &= steady
        self._changed += int(np.count_nonzero(changed))

    def share(self) -> float | None:
        """Changed pixels of all compared ones, 0…1; None where no two frames were consecutive."""
        return self._changed / self._compared if self._compared else None


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
        ci95: 95 % bootstrap interval over images of each mean and accuracy by name; empty where not asked for.
        images_with_confidence: how many of them came with a confidence.
        ece: expected calibration error; None unless every image came with a confidence, as in all that follow: a
            figure over a part of the images would be read as one over all of them.
        uiou: uncertainty-aware IoU (see `Invalidation`), mean over classes in the ground truth.
        uiou_min_confidence: the threshold it belongs to.
        uiou_curve: the same at thresholds of 0…0.95.
        auroc: chance that a right pixel is surer than a wrong one; None also where all are right, or all wrong, as in
            the three that follow. All four are defined in `darkseg_ros.evaluation.trust`.
        fpr95: share of the wrong pixels as sure as 95 % of the right ones.
        aupr_success: average precision of finding right pixels by the confidence.
        aupr_error: of finding wrong ones.
        unknown: how well the confidence tells known pixels from those of objects of no class, which were drawn (see
            `darkseg_ros.evaluation.disturbances`); None without any.
    """

    miou: float
    miou_present: float
    pixel_accuracy: float
    class_accuracy: float
    fwiou: float
    iou: dict[str, float | None]
    images: int
    ci95: dict[str, tuple[float, float]]
    images_with_confidence: int
    ece: float | None
    uiou: float | None = None
    uiou_min_confidence: float | None = None
    uiou_curve: tuple[UiouPoint, ...] = ()
    auroc: float | None = None
    fpr95: float | None = None
    aupr_success: float | None = None
    aupr_error: float | None = None
    unknown: TrustFigures | None = None


class ConfusionBlocks:
    """Confusion matrices of units that are drawn whole in a bootstrap, images or drives, in bounded memory.

    Each unit has a matrix of its own until there are too many of them; then each two neighbours are added up.

    Attributes:
        count: units added.
    """

    def __init__(self) -> None:
        self.count = 0
        self._blocks: list[np.ndarray] = []
        self._units_in_block = 1
        self._units_in_last_block = 1

    def add(self, confusion: np.ndarray) -> None:
        """Add the (K, K + 1) int64 matrix of a unit; it is kept, so it must not be changed."""
        self.count += 1
        if self._blocks and self._units_in_last_block < self._units_in_block:
            self._blocks[-1] = self._blocks[-1] + confusion
            self._units_in_last_block += 1
            return
        if len(self._blocks) == _BLOCKS_MAX:
            self._blocks = [first + second for first, second in zip(self._blocks[::2], self._blocks[1::2], strict=True)]
            self._units_in_block *= 2
        self._blocks.append(confusion)
        self._units_in_last_block = 1

    def total(self) -> np.ndarray:
        """(K, K + 1) int64, summed over all units."""
        return np.asarray(np.sum(self._blocks, axis=0, dtype=np.int64))

    def stacked(self) -> np.ndarray:
        """(N, K, K + 1) int64, one matrix a block of consecutive units; at least one was added."""
        return np.stack(self._blocks)


class Evaluation:
    """Collects images one by one and turns them into `Metrics`, in bounded memory.

    Args:
        classes: of the label maps and class maps.
        uiou_min_confidence: 0…1, the threshold of `Metrics.uiou`.
    """

    def __init__(self, classes: ClassTable = CITYSCAPES, *, uiou_min_confidence: float = UIOU_MIN_CONFIDENCE) -> None:
        self.classes = classes
        self._images_with_confidence = 0
        self._confusions = ConfusionBlocks()
        self._calibration = Calibration()
        self._invalidation = Invalidation(classes)
        self._uiou_min_confidence = uiou_min_confidence

    def add(
        self,
        label_map: np.ndarray,
        class_map: np.ndarray,
        confidence: np.ndarray | None = None,
        *,
        invalid_mask: np.ndarray | None = None,
    ) -> np.ndarray:
        """Add one image.

        Args:
            label_map: as in `confusion_matrix`.
            class_map: as in `confusion_matrix`.
            confidence: (H, W) uint8, 255 = certain.
            invalid_mask: (H, W) bool, see `Invalidation`; without confidence it has no effect.

        Returns:
            The image's confusion matrix.

        Raises:
            ValueError: as `confusion_matrix`, or if confidence or mask have another size; nothing is added then.
        """
        confusion = confusion_matrix(label_map, class_map, self.classes)
        for name, values in (("confidence", confidence), ("invalid mask", invalid_mask)):
            if values is not None and values.shape != label_map.shape:
                raise ValueError(f"the {name} is {values.shape}, the label map {label_map.shape}; sizes must agree")
        self._confusions.add(confusion)
        if confidence is not None:
            self._images_with_confidence += 1
            self._calibration.add(label_map, class_map, confidence)
            self._invalidation.add(label_map, class_map, confidence, invalid_mask=invalid_mask)
        return confusion

    @property
    def images(self) -> int:
        """How many were added."""
        return self._confusions.count

    @property
    def confusion(self) -> np.ndarray:
        """(K, K + 1) int64, summed over all images."""
        return self._confusions.total()

    def metrics(self, *, intervals: bool = True) -> Metrics:
        """The figures over all images.

        Args:
            intervals: also draw the bootstrap intervals, which takes tens of milliseconds. Above 1024 images they
                are drawn over blocks of consecutive images.

        Raises:
            ValueError: if no image, or no labelled pixel, was added.
        """
        if not self.images:
            raise ValueError("no image was evaluated; add at least one")
        confusion = self.confusion
        if not confusion.any():
            raise ValueError("no pixel has ground truth (all are 255); check the label maps")
        iou = iou_per_class(confusion)
        has_confidence = self._images_with_confidence == self.images
        trust = self._invalidation.trust() if has_confidence else None
        return Metrics(
            miou=float(mean_iou(confusion)),
            miou_present=float(mean_iou_of_present(confusion)),
            pixel_accuracy=pixel_accuracy(confusion),
            class_accuracy=class_accuracy(confusion),
            fwiou=frequency_weighted_iou(confusion),
            iou={
                name: None if np.isnan(value) else float(value)
                for name, value in zip(self.classes.names, iou, strict=True)
            },
            images=self.images,
            ci95=bootstrap_intervals(self._confusions.stacked()) if intervals else {},
            images_with_confidence=self._images_with_confidence,
            ece=self._calibration.expected_calibration_error() if has_confidence else None,
            uiou=self._invalidation.at(self._uiou_min_confidence).uiou if has_confidence else None,
            uiou_min_confidence=self._uiou_min_confidence if has_confidence else None,
            uiou_curve=tuple(map(self._invalidation.at, _CURVE_MIN_CONFIDENCES)) if has_confidence else (),
            **(asdict(trust) if trust is not None else {}),
        )


def bootstrap_intervals(confusions: np.ndarray, *, seed: int = 0) -> dict[str, tuple[float, float]]:
    """95 % percentile intervals of the means and accuracies, resampling whole images with replacement.

    Args:
        confusions: (N, K, K + 1) one matrix an image.
        seed: of the resampling, so that the same images give the same interval.

    Source: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13.
    """
    rng = np.random.default_rng(seed)
    count = len(confusions)
    flat = confusions.reshape(count, -1).astype(np.float64)
    draws = rng.multinomial(count, np.full(count, 1 / count), size=_BOOTSTRAP_ROUNDS)
    resampled = (draws @ flat).reshape(_BOOTSTRAP_ROUNDS, *confusions.shape[1:])
    return {
        "miou": _percentile_interval(mean_iou(resampled)),
        "miou_present": _percentile_interval(mean_iou_of_present(resampled)),
        "pixel_accuracy": _percentile_interval(np.array([pixel_accuracy(one) for one in resampled])),
        "class_accuracy": _percentile_interval(np.array([class_accuracy(one) for one in resampled])),
        "fwiou": _percentile_interval(np.array([frequency_weighted_iou(one) for one in resampled])),
    }


def paired_interval(confusions: np.ndarray, reference: np.ndarray) -> tuple[float, float]:
    """95 % interval of the change of `mean_iou_of_present`, the same images drawn of both.

    Args:
        confusions: (N, K, K + 1) one matrix an image.
        reference: (N, K, K + 1) of the same images, answered otherwise.

    Source: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13.
    """
    count = len(confusions)
    draws = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), size=_BOOTSTRAP_ROUNDS)
    resampled = ((draws @ each.reshape(count, -1)).reshape(-1, *each.shape[1:]) for each in (confusions, reference))
    return _percentile_interval(np.subtract(*map(mean_iou_of_present, resampled)))


def _percentile_interval(values: np.ndarray) -> tuple[float, float]:
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return float(low), float(high)


ABSENT_CLASSES = (
    "a class in neither label maps nor class maps has no iou and counts in no mean; miou counts a class in either, "
    "miou_present, class_accuracy and fwiou only classes in label maps"
)
"""The convention for absent classes, for pages and files that show `Metrics`."""
