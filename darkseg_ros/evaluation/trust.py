"""Whether the confidence tells right pixels from wrong ones: the figures of misclassification detection."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_TRUE_POSITIVE_RATE = 0.95


@dataclass(frozen=True)
class TrustFigures:
    """How well the confidence ranks; all in [0, 1].

    Attributes:
        auroc: chance that a right pixel is surer than a wrong one, ties halved; 0.5 is no better than a coin.
        fpr95: share of the wrong pixels at least as sure as the surest 95 % of the right ones; lower is better.
        aupr_success: average precision of finding right pixels from the surest down.
        aupr_error: average precision of finding wrong pixels from the least sure up.

    Source: Hendrycks and Gimpel, ICLR 2017 (arXiv 1610.02136), section 2; the BRAVO challenge, ECCV 2024 Workshops
        (arXiv 2409.15107).
    """

    auroc: float
    fpr95: float
    aupr_success: float
    aupr_error: float


def trust_figures(right: np.ndarray, wrong: np.ndarray) -> TrustFigures | None:
    """The figures from counts; None where all pixels are right, or all wrong.

    Args:
        right: (L,) pixels that are right, at each level of confidence, ascending.
        wrong: (L,) pixels that are wrong.
    """
    if not right.any() or not wrong.any():
        return None
    right, wrong = right.astype(np.float64), wrong.astype(np.float64)
    wrong_below = np.cumsum(wrong) - wrong
    # from the surest down: how many right and wrong pixels are at least as sure
    right_above, wrong_above = np.cumsum(right[::-1])[::-1], np.cumsum(wrong[::-1])[::-1]
    level = np.flatnonzero(right_above >= _TRUE_POSITIVE_RATE * right.sum())[-1]
    return TrustFigures(
        auroc=float((right * (wrong_below + wrong / 2)).sum() / (right.sum() * wrong.sum())),
        fpr95=float(wrong_above[level] / wrong.sum()),
        aupr_success=_average_precision(right[::-1], wrong[::-1]),
        aupr_error=_average_precision(wrong, right),
    )


def _average_precision(found: np.ndarray, missed: np.ndarray) -> float:
    """Mean precision over the pixels to be found, which are taken level by level in the order given."""
    taken = np.cumsum(found + missed)
    precision = np.divide(np.cumsum(found), taken, out=np.zeros_like(taken), where=taken > 0)
    return float((found * precision).sum() / found.sum())
