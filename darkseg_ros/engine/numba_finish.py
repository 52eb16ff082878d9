"""The Numba kernel behind `darkseg_ros.engine.logits_finish`: one thread, the vector instructions of its machine.

Every source row is widened once, its four horizontal phases as separate contiguous runs; an output row is then a blend
of two such rows and a running maximum over the classes. Inner loops run over contiguous memory only, which the
compiler turns into vector instructions. It may not fuse a product with a sum: the class map is numpy's, bit for bit.

Importing this module compiles the kernel, or loads it from Numba's cache: beside this file, or in the user's cache
folder where the installation is read-only. Where neither can be written, or the cache is damaged, each import compiles.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numba
import numpy as np

from darkseg_ros.bundle import LOGITS_STRIDE
from darkseg_ros.engine.logits_finish import axis_blend

_LOG2_E = 1.4426950408889634


def finish_logits_numba(
    logits: np.ndarray, *, temperature: float, align_corners: bool
) -> tuple[np.ndarray, np.ndarray]:
    """`darkseg_ros.engine.logits_finish.finish_logits` on contiguous finite float32 logits."""
    _, height, width = logits.shape
    class_map = np.empty((height * LOGITS_STRIDE, width * LOGITS_STRIDE), np.uint8)
    confidence = np.empty_like(class_map)
    rows = axis_blend(height, align_corners=align_corners)
    _finish(
        logits,
        np.float32(_LOG2_E / temperature),
        _column_taps(width, align_corners=align_corners),
        rows.first,
        rows.first_weight,
        rows.second_weight,
        class_map,
        confidence,
    )
    return class_map, confidence


@lru_cache(maxsize=16)
def _column_taps(width: int, *, align_corners: bool) -> np.ndarray:
    """(LOGITS_STRIDE, 3, width) float32: taps[p, t, i] weighs source pixel i + t − 1 in output pixel 4·i + p.

    One of the outer two taps is 0, and adding 0 rounds nothing: three taps give the two-tap blend, and every phase
    is one contiguous loop.
    """
    columns = axis_blend(width, align_corners=align_corners)
    taps = np.zeros((LOGITS_STRIDE, 3, width), np.float32)
    for output, (first, weights) in enumerate(
        zip(columns.first, zip(columns.first_weight, columns.second_weight, strict=True), strict=True)
    ):
        i, phase = divmod(output, LOGITS_STRIDE)
        left = first - i + 1
        taps[phase, left : left + 2, i] = weights
    return taps


def _compiled(signature: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`numba.njit` ahead of the first call, through the cache where there is one that works."""

    def compile_ahead(function: Callable[..., Any]) -> Callable[..., Any]:
        try:
            return numba.njit(signature, cache=True, nogil=True)(function)
        # RuntimeError: no folder to write to; OSError: disk full, foreign files; the others: truncated files
        except (RuntimeError, OSError, EOFError, ValueError, pickle.UnpicklingError):
            return numba.njit(signature, nogil=True)(function)

    return compile_ahead


@numba.njit(inline="always")
def _widen(row: np.ndarray, taps: np.ndarray, padded: np.ndarray, wide: np.ndarray) -> None:
    """wide[p · w + i] = output pixel 4·i + p of one source row of w pixels; `padded` is scratch of w + 2."""
    width = row.shape[0]
    padded[0], padded[width + 1] = row[0], row[width - 1]
    for i in range(width):
        padded[i + 1] = row[i]
    for phase in range(LOGITS_STRIDE):
        start = phase * width
        for i in range(width):
            wide[start + i] = (
                taps[phase, 0, i] * padded[i] + taps[phase, 1, i] * padded[i + 1] + taps[phase, 2, i] * padded[i + 2]
            )


@numba.njit(inline="always")
def _interleave(phases: np.ndarray, out: np.ndarray) -> None:
    """out[4·i + p] = phases[p · w + i]."""
    width = phases.shape[0] // LOGITS_STRIDE
    for i in range(width):
        out[4 * i] = phases[i]
        out[4 * i + 1] = phases[width + i]
        out[4 * i + 2] = phases[2 * width + i]
        out[4 * i + 3] = phases[3 * width + i]


@numba.njit(inline="always")
def _exp2(x: np.float32) -> np.float32:
    """2^x for x ≤ 0, 2^-126 below -126; relative error < 1e-6. A call of the C library's would not vectorise."""
    x = max(x, np.float32(-126))
    whole = np.rint(x)
    r = x - whole
    # Σ rⁿ (ln 2)ⁿ / n! for |r| ≤ 0.5
    fraction = np.float32(0.00015403530) * r + np.float32(0.0013333558)
    fraction = fraction * r + np.float32(0.0096181291)
    fraction = fraction * r + np.float32(0.055504109)
    fraction = fraction * r + np.float32(0.24022651)
    fraction = fraction * r + np.float32(0.69314718)
    fraction = fraction * r + np.float32(1)
    exponent = np.int32((np.int32(whole) + np.int32(127)) << np.int32(23))
    return fraction * exponent.view(np.float32)


@numba.njit(inline="always")
def _max_probability(
    logits: np.ndarray, y: int, sharpness: np.float32, highest: np.ndarray, probability: np.ndarray
) -> None:
    """probability[x] = max softmax of source row y; `highest` is scratch of the same size."""
    classes, _, width = logits.shape
    highest[:] = logits[0, y]
    for c in range(1, classes):
        row = logits[c, y]
        for x in range(width):
            highest[x] = row[x] if row[x] > highest[x] else highest[x]
    probability[:] = 0
    for c in range(classes):
        row = logits[c, y]
        for x in range(width):
            probability[x] += _exp2((row[x] - highest[x]) * sharpness)
    for x in range(width):
        probability[x] = np.float32(1) / probability[x]


@_compiled(
    "void(float32[:,:,::1], float32, float32[:,:,::1], int64[::1], float32[::1], float32[::1],"
    " uint8[:,::1], uint8[:,::1])"
)
def _finish(
    logits: np.ndarray,
    sharpness: np.float32,
    taps: np.ndarray,
    row_first: np.ndarray,
    upper_weights: np.ndarray,
    lower_weights: np.ndarray,
    class_map: np.ndarray,
    confidence: np.ndarray,
) -> None:
    classes, height, width = logits.shape
    wide_width = LOGITS_STRIDE * width
    # one widened row per class, and the probability's as the last
    # zeros: where the source has one row, this stands below it at weight 0, and 0 · NaN would be NaN
    upper = np.zeros((classes + 1, wide_width), np.float32)
    lower = np.empty((classes + 1, wide_width), np.float32)
    padded = np.empty(width + 2, np.float32)
    highest, probability = np.empty(width, np.float32), np.empty(width, np.float32)
    best = np.empty(wide_width, np.float32)
    index = np.empty(wide_width, np.uint8)

    y = 0
    for source_y in range(-1, height):
        # `lower` becomes the row below; the last row has none, and whatever finite row stands there has weight 0
        if source_y + 1 < height:
            for c in range(classes):
                _widen(logits[c, source_y + 1], taps, padded, lower[c])
            _max_probability(logits, source_y + 1, sharpness, highest, probability)
            _widen(probability, taps, padded, lower[classes])
        while source_y >= 0 and y < class_map.shape[0] and row_first[y] == source_y:
            upper_weight, lower_weight = upper_weights[y], lower_weights[y]
            above, below = upper[0], lower[0]
            for i in range(wide_width):
                best[i] = upper_weight * above[i] + lower_weight * below[i]
                index[i] = 0
            for c in range(1, classes):
                above, below = upper[c], lower[c]
                train_id = np.uint8(c)
                for i in range(wide_width):
                    value = upper_weight * above[i] + lower_weight * below[i]
                    higher = value > best[i]
                    best[i] = value if higher else best[i]
                    index[i] = train_id if higher else index[i]
            _interleave(index, class_map[y])

            above, below = upper[classes], lower[classes]
            for i in range(wide_width):
                value = upper_weight * above[i] + lower_weight * below[i]
                index[i] = np.uint8(np.rint(value * np.float32(255)))
            _interleave(index, confidence[y])
            y += 1
        upper, lower = lower, upper
