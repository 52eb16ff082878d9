"""The finish in NumPy: the definition that the kernel follows to the bit."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from darkseg_ros.model.bundle import LOGITS_STRIDE


@dataclass(frozen=True)
class AxisBlend:
    """How one axis of n source pixels becomes LOGITS_STRIDE · n output pixels.

    Output i is first_weight[i] · source[first[i]] + second_weight[i] · source[second[i]].

    Attributes:
        first: (LOGITS_STRIDE · n,) int64.
        second: (LOGITS_STRIDE · n,) int64; first + 1, or the last pixel where there is none.
        first_weight: (LOGITS_STRIDE · n,) float32 in [0, 1]; 1 where the border's value is repeated.
        second_weight: (LOGITS_STRIDE · n,) float32, 1 − first_weight.
    """

    first: np.ndarray
    second: np.ndarray
    first_weight: np.ndarray
    second_weight: np.ndarray


@lru_cache(maxsize=16)
def axis_blend(size: int, *, align_corners: bool) -> AxisBlend:
    """The blend of an axis of `size` source pixels; positions are float32, as torch computes them."""
    output = np.arange(LOGITS_STRIDE * size, dtype=np.float32)
    if align_corners:
        position = output * (np.float32(size - 1) / np.float32(LOGITS_STRIDE * size - 1))
    else:
        position = (output + np.float32(0.5)) / np.float32(LOGITS_STRIDE) - np.float32(0.5)
    position = np.clip(position, 0, np.float32(size - 1))
    first = position.astype(np.int64)
    second_weight = position - first.astype(np.float32)
    return AxisBlend(first, np.minimum(first + 1, size - 1), np.float32(1) - second_weight, second_weight)


def finish_logits_numpy(
    logits: np.ndarray, *, temperature: float, align_corners: bool
) -> tuple[np.ndarray, np.ndarray]:
    """`logits_finish.finish_logits` on finite float32 logits."""
    _, height, width = logits.shape
    rows, columns = axis_blend(height, align_corners=align_corners), axis_blend(width, align_corners=align_corners)
    best = _upsample(logits[0], rows, columns)
    class_map = np.zeros(best.shape, np.uint8)
    for train_id in range(1, len(logits)):
        candidate = _upsample(logits[train_id], rows, columns)
        class_map[candidate > best] = train_id
        np.maximum(best, candidate, out=best)
    confidence = _upsample(max_probability(logits, temperature=temperature), rows, columns)
    return class_map, np.rint(confidence * 255).astype(np.uint8)


def max_probability(logits: np.ndarray, *, temperature: float) -> np.ndarray:
    """(K, h, w) finite float32 logits → (h, w) float32 maximum of the softmax over the classes."""
    with np.errstate(over="ignore", under="ignore"):  # logits too far apart for float32: the lower ones add nothing
        shifted = (logits - logits.max(0)) * np.float32(1 / temperature)
        probability: np.ndarray = 1 / np.exp(shifted).sum(0)
    return probability


def _upsample(source: np.ndarray, rows: AxisBlend, columns: AxisBlend) -> np.ndarray:
    """(h, w) → (4h, 4w); each product and sum is rounded to float32, in the kernel's order."""
    wide = columns.first_weight * source[:, columns.first] + columns.second_weight * source[:, columns.second]
    upper, lower = wide[rows.first], wide[rows.second]
    upper *= rows.first_weight[:, None]
    lower *= rows.second_weight[:, None]
    upper += lower
    return upper
