"""Calls the compiled kernel of `darkseg_ros.model.backends.finish.numba_finish` on NumPy arrays, without Numba."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

import numpy as np

from darkseg_ros.model.backends.finish.finish_code import LoadedCode
from darkseg_ros.model.backends.finish.numpy_finish import AxisBlend, axis_blend
from darkseg_ros.model.bundle import LOGITS_STRIDE

LANES = 8
"""Source pixels that the kernel takes at a time. 16 take 0.9 to 1.1 of the time where registers hold 16, and 1.0 to 1.5
where they hold 8 or 4; and classes that compete anywhere in a block are blended all over it (2026-11-26)."""

_LOG2_E = 1.4426950408889634

_PLACES_BYTES = 16
"""For what Numba's calling convention puts before the arguments: where the result goes, and where an exception."""

_CACHE_LINE_BYTES = 64
"""Every part of the scratch begins on one: vectors that straddle two cost up to 20 % of the time (2026-11-22)."""

# Numba's places, then the arguments of `numba_finish.finish`. A call through ctypes frees Python's lock.
_PROTOTYPE = ctypes.CFUNCTYPE(
    None, *[ctypes.c_void_p] * 3, *[ctypes.c_int64] * 6, ctypes.c_float, *[ctypes.c_void_p] * 13
)


class CompiledFinish:
    """`darkseg_ros.model.backends.finish.logits_finish.finish_logits` on finite, aligned float32 logits. Thread-safe.

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
        scratch_at: offsets in bytes of sources, bounds, probability, wide probability, wide, contenders, spare.
        scratch_bytes: in all, wherever in a cache line they begin.
    """

    taps: np.ndarray
    rows: AxisBlend
    tables_at: tuple[int, ...]
    scratch_at: tuple[int, ...]
    scratch_bytes: int


@lru_cache(maxsize=16)
def _frame_arguments(classes: int, height: int, width: int, *, align_corners: bool) -> _FrameArguments:
    blocks, wide_lanes = _blocks(width), LOGITS_STRIDE * LANES
    numbers = (
        2 * classes * (blocks + 2) * LANES,
        2 * blocks * classes * 2 * LANES,
        (blocks + 2) * LANES,
        2 * blocks * wide_lanes,
        classes * 2 * wide_lanes,
        2 * classes,  # of eight bytes
        LANES,
    )
    sizes = [_PLACES_BYTES, *(4 * count for count in numbers)]
    ends = list(accumulate(_aligned(size) for size in sizes))
    taps = _column_taps(width, align_corners=align_corners)
    rows = axis_blend(height, align_corners=align_corners)
    return _FrameArguments(
        taps=taps,
        rows=rows,
        tables_at=tuple(table.ctypes.data for table in (taps, rows.first, rows.first_weight, rows.second_weight)),
        scratch_at=tuple(ends[:-1]),
        scratch_bytes=ends[-1] + _CACHE_LINE_BYTES,
    )


def _aligned(number: int) -> int:
    return -(-number // _CACHE_LINE_BYTES) * _CACHE_LINE_BYTES


def _blocks(width: int) -> int:
    return -(-width // LANES)


def _column_taps(width: int, *, align_corners: bool) -> np.ndarray:
    """(blocks, 3, LOGITS_STRIDE, LANES) float32: taps[b, t, p, i] weighs source pixel x + t − 1 in output 4·x + p.

    x is pixel i of block b. One of the outer two taps is 0, and adding 0 rounds nothing: three taps give the two-tap
    blend, and every phase is a vector. Beyond the last pixel, all are 0.
    """
    columns = axis_blend(width, align_corners=align_corners)
    taps = np.zeros((_blocks(width), 3, LOGITS_STRIDE, LANES), np.float32)
    for output, (first, weights) in enumerate(
        zip(columns.first, zip(columns.first_weight, columns.second_weight, strict=True), strict=True)
    ):
        x, phase = divmod(output, LOGITS_STRIDE)
        left = first - x + 1
        taps[x // LANES, left : left + 2, phase, x % LANES] = weights
    return taps
