"""Figures of an evaluation against the limits that a user sets on them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Literal

from darkseg_ros.classes import ClassTable
from darkseg_ros.evaluation.drive import DriveFigures, EvaluationResult
from darkseg_ros.evaluation.metrics import Metrics

_NO_FIGURES = frozenset({"iou", "ci95", "uiou_min_confidence", "uiou_curve", "unknown", "latency_from"})
_COUNTS_AND_TIMES = frozenset(
    {
        "images",
        "images_with_confidence",
        "frames_in",
        "class_maps",
        "label_maps",
        "dropped",
        "latency_p50_ms",
        "latency_p95_ms",
        "latency_p99_ms",
        "frames",
        "drives",
        "failed_drives",
    }
)
_IOU_PREFIX = "iou."

FIGURES = tuple(
    field.name for kind in (Metrics, DriveFigures) for field in fields(kind) if field.name not in _NO_FIGURES
)
"""Names that a threshold can be set on: those of metrics.json; besides, ``iou.car`` for one class."""

FLEET_FIGURES = (
    "trust",
    "consistency",
    "mean_confidence",
    "healthy_share",
    "dispersity",
    "frames",
    "drives",
    "failed_drives",
)
"""Names besides, of many drives only."""


@dataclass(frozen=True)
class Threshold:
    """A figure and what it must be.

    Attributes:
        figure: one of FIGURES or FLEET_FIGURES, or ``iou.`` and the name of a class.
        bound: whether the limit is the least or the most that passes.
        limit: ≥ 0; of shares, which are all but counts and times, within 0…1 as in metrics.json.

    Raises:
        ValueError: if there is no such figure, or no such limit of it.
    """

    figure: str
    bound: Literal["at least", "at most"]
    limit: float

    def __post_init__(self) -> None:
        if self.figure not in (*FIGURES, *FLEET_FIGURES) and not self.figure.startswith(_IOU_PREFIX):
            known = (
                f"{', '.join(FIGURES)}, of many drives {', '.join(FLEET_FIGURES)}, "
                f"and {_IOU_PREFIX} with the name of a class"
            )
            raise ValueError(f"there is no figure {self.figure!r}; known are {known}")
        if not math.isfinite(self.limit):
            raise ValueError(f"the limit of {self.figure} must be a number, got {self.limit}")
        if self.limit < 0:
            raise ValueError(f"the limit of {self.figure} must not be negative, got {self.limit:g}")
        if self.limit > 1 and self.figure not in _COUNTS_AND_TIMES:
            raise ValueError(
                f"the limit of {self.figure} must be a share within 0…1, got {self.limit:g}; write 20 % as 0.2"
            )

    @classmethod
    def parse(cls, bound: Literal["at least", "at most"], text: str) -> Threshold:
        """Read what a user writes, such as ``miou_present=0.2``.

        Raises:
            ValueError: if it is not of this form, or there is no such figure or limit.
        """
        figure, equals, limit = text.rpartition("=")
        if not equals:
            raise ValueError(f"expected FIGURE=LIMIT such as miou_present=0.2, got {text!r}")
        try:
            value = float(limit)
        except ValueError as error:
            raise ValueError(f"the limit of {figure.strip()}: expected a number, got {limit!r}") from error
        return cls(figure.strip(), bound, value)


_LEAST_MATCHED = Threshold("matched_share", "at least", 0.5)


@dataclass(frozen=True)
class ThresholdResult:
    """A threshold and how it went; a figure without a value passes no threshold.

    Attributes:
        figure: as in `Threshold`, like `bound` and `limit`.
        value: what was measured; None where there is no such figure, such as the IoU of an absent class.
        passed: whether `value` is within the limit.
    """

    figure: str
    bound: Literal["at least", "at most"]
    limit: float
    value: float | None
    passed: bool


def check_classes(thresholds: Sequence[Threshold], classes: ClassTable) -> None:
    """Refuse thresholds on figures of many drives, and on classes that a table does not have.

    Raises:
        ValueError: naming the first such figure and the classes.
    """
    for threshold in thresholds:
        if threshold.figure in FLEET_FIGURES:
            raise ValueError(f"{threshold.figure} is a figure of many drives, not of one")
        if threshold.figure not in (*FIGURES, *_iou_figures(classes)):
            raise ValueError(f"there is no figure {threshold.figure!r}; the classes are {', '.join(classes.names)}")


def judge(result: EvaluationResult, thresholds: Sequence[Threshold]) -> tuple[ThresholdResult, ...]:
    """Compare figures with their thresholds; raises as `check_classes`.

    A drive of whose label maps fewer than half found a class map passes no gate: a threshold on ``matched_share`` is
    added where there are others and none of it.
    """
    check_classes(thresholds, result.classes)
    values = figures_of(result.metrics, result.drive, result.classes)
    return judge_figures(values, thresholds, matching=result.drive is not None)


def judge_figures(
    values: Mapping[str, float | None], thresholds: Sequence[Threshold], *, matching: bool
) -> tuple[ThresholdResult, ...]:
    """Compare figures by name with their thresholds; a figure without a value passes none.

    Args:
        values: measured.
        thresholds: set by a user.
        matching: whether label maps had to find class maps, so that ``matched_share`` says something.
    """
    few_match = (values["matched_share"] or 0.0) < _LEAST_MATCHED.limit
    if matching and few_match and thresholds and all(item.figure != "matched_share" for item in thresholds):
        thresholds = [*thresholds, _LEAST_MATCHED]
    judged = []
    for threshold in thresholds:
        value = values.get(threshold.figure)
        if value is None:
            passed = False
        elif threshold.bound == "at least":
            passed = value >= threshold.limit
        else:
            passed = value <= threshold.limit
        judged.append(ThresholdResult(threshold.figure, threshold.bound, threshold.limit, value, passed))
    return tuple(judged)


def figures_of(metrics: Metrics | None, drive: DriveFigures | None, classes: ClassTable) -> dict[str, float | None]:
    """Every figure of FIGURES and the IoU of each class; None where it was not measured."""
    values: dict[str, float | None] = dict.fromkeys((*FIGURES, *_iou_figures(classes)))
    if metrics is not None:
        values |= {f"{_IOU_PREFIX}{name}": iou for name, iou in metrics.iou.items()}
    for part in (metrics, drive):
        if part is not None:
            values |= {field.name: getattr(part, field.name) for field in fields(part) if field.name in values}
    return {name: None if value is not None and math.isnan(value) else value for name, value in values.items()}


def _iou_figures(classes: ClassTable) -> tuple[str, ...]:
    return tuple(f"{_IOU_PREFIX}{name}" for name in classes.names)
