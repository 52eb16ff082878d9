"""Calls the compiled kernel of `darkseg_ros.engine.numba_finish` on NumPy arrays, without Numba."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

import numpy as np

from darkseg_ros.bundle import LOGITS_STRIDE
from darkseg_ros.engine.finish_code import LoadedCode
from darkseg_ros.engine.logits_finish import AxisBlend, axis_blend

_LOG2_E = 1.4426950408889634

_PLACES_BYTES = 16
"""For what Numba's calling convention puts before the arguments: where the result goes, and where an exception."""

_CACHE_LINE_BYTES = 64
"""Every part of the scratch begins on one: vectors that straddle two cost up to 20 % of the time (2026-11-22)."""

_GAP_BYTES = 17 * _CACHE_LINE_BYTES
"""Between the parts: rows of 4 KiB at the same place of their pages cost 7 % at 128×256 (2026-11-22)."""

# Numba's places, then the arguments of `numba_finish.finish`. A call through ctypes frees Python's lock.
_PROTOTYPE = ctypes.CFUNCTYPE(
    None, *[ctypes.c_void_p] * 3, *[ctypes.c_int64] * 6, ctypes.c_float, *[ctypes.c_void_p] * 13
)


class CompiledFinish:
    """`darkseg_ros.engine.logits_finish.finish_logits` on finite, aligned float32 logits. Thread-safe.

    Args:
        code: the kernel's.
    """

    def __init__(self, code: LoadedCode) -> None:
        self._code = code
        self._kernel = _PROTOTYPE(code.address)

    def __call__(self, logits: np.ndarray, *, temperature: float, align_corners: bool) -> tuple[np.ndarray, np.ndarray]:
        classes, height, width = logits.shape
        frame = _frame_arguments(classes, height, width, align_corners=align_corners)
        class_map = np.empty((height * LOGITS_STRIDE, width * LOGITS_STRIDE), np.uint8)
        confidence = np.empty_like(class_map)
        scratch = np.empty(frame.scratch_bytes, np.uint8)
        scratch[: frame.zeroed_bytes] = 0
        start = _aligned(scratch.ctypes.data)
        self._kernel(
            start,
            start + _PLACES_BYTES // 2,
            logits.ctypes.data,
            *(stride // logits.itemsize for stride in logits.strides),
            classes,
            height,
            width,
            _LOG2_E / temperature,
            *frame.tables_at,
            *(start + offset for offset in frame.scratch_at),
            class_map.ctypes.data,
            confidence.ctypes.data,
        )
        return class_map, confidence


@dataclass(frozen=True)
class _FrameArguments:
    """What the kernel gets for every frame of one shape.

    Attributes:
        taps: of the columns, see `_column_taps`.
        rows: the blend of the rows.
        tables_at: addresses of taps, first rows, and the weights of upper and lower rows.
        scratch_at: offsets in bytes of upper, lower, best, padded, highest, probability, index.
        zeroed_bytes: of the scratch, from its start, `upper` included. Where the source has one row, this stands below
            it at weight 0, and 0 · NaN would be NaN.
        scratch_bytes: in all, wherever in a cache line they begin.
    """

    taps: np.ndarray
    rows: AxisBlend
    tables_at: tuple[int, ...]
    scratch_at: tuple[int, ...]
    zeroed_bytes: int
    scratch_bytes: int


@lru_cache(maxsize=16)
def _frame_arguments(classes: int, height: int, width: int, *, align_corners: bool) -> _FrameArguments:
    wide_width = LOGITS_STRIDE * width
    floats = (
        (classes + 1) * wide_width,
        (classes + 1) * wide_width,
        wide_width,
        classes * (width + 2),
        width,
        width + 2,
    )
    sizes = [_PLACES_BYTES, *(4 * count for count in floats), wide_width]
    ends = list(accumulate(_aligned(size) + _GAP_BYTES for size in sizes))
    taps = _column_taps(width, align_corners=align_corners)
    rows = axis_blend(height, align_corners=align_corners)
    return _FrameArguments(
        taps=taps,
        rows=rows,
        tables_at=tuple(table.ctypes.data for table in (taps, rows.first, rows.first_weight, rows.second_weight)),
        scratch_at=tuple(ends[:-1]),
        zeroed_bytes=ends[1],
        scratch_bytes=ends[-1] + _CACHE_LINE_BYTES,
    )


def _aligned(number: int) -> int:
    return -(-number // _CACHE_LINE_BYTES) * _CACHE_LINE_BYTES


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
