"""The Numba kernel behind `darkseg_ros.engine.logits_finish`: one thread, compiled once and cached on disk.

A row of logits is interpolated vertically once; the four horizontal phases then run as separate contiguous loops,
which the compiler turns into vector instructions.
"""

from __future__ import annotations

import numba
import numpy as np

from darkseg_ros.bundle import LOGITS_STRIDE

# Output pixel 4·i + phase lies between source pixels i + first − 1 and i + first, at `right` of the way.
PHASE_FIRST = np.array([0, 0, 1, 1])
PHASE_RIGHT = np.array([0.625, 0.875, 0.125, 0.375], np.float32)


def finish_logits_numba(logits: np.ndarray, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """`darkseg_ros.engine.logits_finish.finish_logits` on contiguous float32 logits."""
    _, height, width = logits.shape
    class_map = np.empty((height * LOGITS_STRIDE, width * LOGITS_STRIDE), np.uint8)
    confidence = np.empty_like(class_map)
    _finish(logits, np.float32(1 / temperature), class_map, confidence)
    return class_map, confidence


@numba.njit(inline="always")
def _blend_rows(upper: np.ndarray, lower: np.ndarray, weight: np.float32, row: np.ndarray) -> None:
    """row[1 … w] = blend of two source rows; the first and last value are repeated outside."""
    width = upper.shape[0]
    for i in range(width):
        row[i + 1] = (np.float32(1) - weight) * upper[i] + weight * lower[i]
    row[0] = row[1]
    row[width + 1] = row[width]


@numba.njit(inline="always")
def _max_probability(logits: np.ndarray, sharpness: np.float32, probability: np.ndarray) -> None:
    classes, height, width = logits.shape
    for y in range(height):
        for x in range(width):
            highest = logits[0, y, x]
            for c in range(1, classes):
                highest = max(highest, logits[c, y, x])
            total = np.float32(0)
            for c in range(classes):
                total += np.exp((logits[c, y, x] - highest) * sharpness)
            probability[y, x] = np.float32(1) / total


@numba.njit("void(float32[:,:,::1], float32, uint8[:,::1], uint8[:,::1])", cache=True, fastmath={"contract"})
def _finish(logits: np.ndarray, sharpness: np.float32, class_map: np.ndarray, confidence: np.ndarray) -> None:
    classes, height, width = logits.shape
    probability = np.empty((height, width), np.float32)
    _max_probability(logits, sharpness, probability)
    row = np.empty(width + 2, np.float32)
    best = np.empty((4, width), np.float32)
    index = np.empty((4, width), np.int32)
    for y in range(4 * height):
        # Vertical position of output row y in source rows, clamped at the border as ONNX and torch do.
        upper = y // 4 + PHASE_FIRST[y % 4] - 1
        weight = PHASE_RIGHT[y % 4]
        y0, y1 = max(upper, 0), min(upper + 1, height - 1)

        best[:] = -np.inf
        for c in range(classes):
            _blend_rows(logits[c, y0], logits[c, y1], weight, row)
            for p in range(4):
                first, right = PHASE_FIRST[p], PHASE_RIGHT[p]
                left = np.float32(1) - right
                best_p, index_p = best[p], index[p]
                for i in range(width):
                    value = left * row[first + i] + right * row[first + i + 1]
                    higher = value > best_p[i]
                    best_p[i] = value if higher else best_p[i]
                    index_p[i] = c if higher else index_p[i]
        for p in range(4):
            for i in range(width):
                class_map[y, 4 * i + p] = index[p, i]

        _blend_rows(probability[y0], probability[y1], weight, row)
        for p in range(4):
            first, right = PHASE_FIRST[p], PHASE_RIGHT[p]
            for i in range(width):
                value = (np.float32(1) - right) * row[first + i] + right * row[first + i + 1]
                confidence[y, 4 * i + p] = np.uint8(np.rint(value * np.float32(255)))
