"""Stretches frames to the network's size and class maps back: by stretch.c with AVX2, by OpenCV elsewhere.

Both give the same bytes. From 512×1024 to 384×384 OpenCV takes twice as long, back seven times as long.
"""

from __future__ import annotations

import ctypes
import logging
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from darkseg_ros.errors import EngineError
from darkseg_ros.model.compiled_library import load_library

LIBRARY = "darkseg_ros.model._stretch"
"""What setup.py compiles."""

_BLOCK = 16  # values of a map that one instruction moves
_WEIGHT_ONE = 2048
_LOG = logging.getLogger(__name__)


def stretch_frame(bgr: np.ndarray, into: np.ndarray) -> None:
    """Stretch a frame bilinearly, as OpenCV's INTER_LINEAR does.

    Args:
        bgr: (H, W, 3) uint8; its rows may lie apart.
        into: (h, w, 3) uint8, C-contiguous.
    """
    kernel = _kernel()
    if kernel is not None and kernel.takes_frame(bgr):
        kernel.stretch_frame(bgr, into)
    else:
        cv2.resize(bgr, into.shape[1::-1], dst=into, interpolation=cv2.INTER_LINEAR)


def stretch_map(values: np.ndarray, into: np.ndarray) -> None:
    """Stretch a map to the nearest values: anything else would invent classes.

    Args:
        values: (h, w) uint8.
        into: (H, W) uint8, C-contiguous.
    """
    kernel = _kernel()
    if kernel is not None and kernel.takes_map(values, into):
        kernel.stretch_map(values, into)
    else:
        # EXACT: plain INTER_NEAREST shifts by up to a pixel
        cv2.resize(values, into.shape[::-1], dst=into, interpolation=cv2.INTER_NEAREST_EXACT)


class StretchKernel:
    """Both by the compiled kernel. Thread-safe; frees Python's lock.

    Args:
        library: the kernel's.

    Raises:
        EngineError: if its answers are not OpenCV's.
    """

    def __init__(self, library: ctypes.CDLL) -> None:
        address, count = ctypes.c_void_p, ctypes.c_ssize_t
        self._frame, self._map = library.darkseg_stretch_frame, library.darkseg_stretch_map
        self._frame.argtypes = [
            *(address, count),  # frame
            *(address, address, count, count),  # columns
            *(address, address, count),  # rows
            *(address, address),  # out, memory
        ]
        self._map.argtypes = [address, count, address, address, count, address, count, address]
        self._frame.restype = self._map.restype = None
        self._check()

    def takes_frame(self, bgr: np.ndarray) -> bool:
        """Whether the kernel can stretch this frame."""
        return bgr.shape[1] > 1 and bgr.strides[1:] == (3, 1)

    def stretch_frame(self, bgr: np.ndarray, into: np.ndarray) -> None:
        """As the function of that name."""
        width = into.shape[1]
        table = _frame_table(bgr.shape[:2], into.shape[:2])
        memory = np.empty(2 * (3 * width + 1), np.int16)
        self._frame(
            bgr.ctypes.data,
            bgr.strides[0],
            table.columns.ctypes.data,
            table.column_weights.ctypes.data,
            width,
            table.safe,
            table.rows.ctypes.data,
            table.row_weights.ctypes.data,
            into.shape[0],
            into.ctypes.data,
            memory.ctypes.data,
        )

    def takes_map(self, values: np.ndarray, into: np.ndarray) -> bool:
        """Whether the kernel can stretch a map so."""
        return _BLOCK <= values.shape[1] <= into.shape[1] and values.flags.c_contiguous

    def stretch_map(self, values: np.ndarray, into: np.ndarray) -> None:
        """As the function of that name."""
        table = _map_table(values.shape, into.shape)
        self._map(
            values.ctypes.data,
            values.shape[1],
            table.starts.ctypes.data,
            table.order.ctypes.data,
            into.shape[1],
            table.rows.ctypes.data,
            into.shape[0],
            into.ctypes.data,
        )

    def _check(self) -> None:
        rng = np.random.default_rng(0)
        for frame_hw, network_hw in (((45, 77), (32, 32)), ((31, 20), (40, 57))):
            frame = rng.integers(0, 256, (*frame_hw, 3), dtype=np.uint8)
            stretched = np.empty((*network_hw, 3), np.uint8)
            self.stretch_frame(frame, stretched)
            values = np.ascontiguousarray(stretched[..., 0])
            back = np.empty((network_hw[0] + 9, network_hw[1] + 30), np.uint8)
            self.stretch_map(values, back)
            if not (
                np.array_equal(stretched, cv2.resize(frame, network_hw[::-1], interpolation=cv2.INTER_LINEAR))
                and np.array_equal(back, cv2.resize(values, back.shape[::-1], interpolation=cv2.INTER_NEAREST_EXACT))
            ):
                raise EngineError("the kernel's answer is not OpenCV's; unset CFLAGS and install the package again")


@dataclass(frozen=True)
class _FrameTable:
    """Which pixels each of a stretched frame lies between, and how much it takes of both.

    Attributes:
        columns: (w,) int32, the byte of the left pixel in its row.
        column_weights: (w, 4, 2) int16, of the left and the right pixel, four times.
        safe: of the first so many columns, eight bytes can be read.
        rows: (h, 2) int32, the upper and the lower row.
        row_weights: (h, 2) int16.
    """

    columns: np.ndarray
    column_weights: np.ndarray
    safe: int
    rows: np.ndarray
    row_weights: np.ndarray


@lru_cache(maxsize=64)
def _frame_table(frame_hw: tuple[int, int], network_hw: tuple[int, int]) -> _FrameTable:
    (height, width), (rows, columns) = frame_hw, network_hw
    left, beside = _between(width, columns)
    beside[left < 0] = 0
    left = np.maximum(left, 0)
    weights = _weights(beside)
    beyond = left >= width - 1  # the last pixel alone, as the right one of two
    left[beyond], weights[beyond] = width - 2, (0, _WEIGHT_ONE)
    upper, below = _between(height, rows)
    return _FrameTable(
        columns=(3 * left).astype(np.int32),
        column_weights=np.ascontiguousarray(np.repeat(weights[:, None], 4, axis=1)),
        safe=int(np.count_nonzero(3 * left + 8 <= 3 * width)),
        rows=np.clip(np.stack([upper, upper + 1], axis=-1), 0, height - 1).astype(np.int32),
        row_weights=_weights(below),
    )


def _between(pixels: int, stretched: int) -> tuple[np.ndarray, np.ndarray]:
    """Of each stretched pixel the one before it, and how far it lies behind that, 0…1; centres on centres."""
    place = ((np.arange(stretched) + 0.5) * (1 / (stretched / pixels)) - 0.5).astype(np.float32)
    before = np.floor(place)
    return before.astype(np.int64), place - before


def _weights(beside: np.ndarray) -> np.ndarray:
    """(n, 2) int16 of the pixels before and behind."""
    return np.rint(np.stack([1 - beside, beside], axis=-1) * np.float32(_WEIGHT_ONE)).astype(np.int16)


@dataclass(frozen=True)
class _MapTable:
    """Which value each of a stretched map takes.

    Attributes:
        starts: (blocks,) int32, the column from which 16 values are read for the next 16.
        order: (blocks, 16) uint8, which of those each takes.
        rows: (H,) int32, the row of the map.
    """

    starts: np.ndarray
    order: np.ndarray
    rows: np.ndarray


@lru_cache(maxsize=64)
def _map_table(map_hw: tuple[int, int], camera_hw: tuple[int, int]) -> _MapTable:
    (height, width), (rows, columns) = map_hw, camera_hw
    nearest = _nearest(width, columns)
    firsts = np.minimum(np.arange(0, columns, _BLOCK), columns - _BLOCK)
    blocks = nearest[firsts[:, None] + np.arange(_BLOCK)]
    starts = np.minimum(blocks[:, 0], width - _BLOCK)
    return _MapTable(starts, (blocks - starts[:, None]).astype(np.uint8), _nearest(height, rows))


def _nearest(values: int, stretched: int) -> np.ndarray:
    """(stretched,) int32, which value each takes: OpenCV's own answer."""
    indices = np.arange(values, dtype=np.float32)[None]
    return cv2.resize(indices, (stretched, 1), interpolation=cv2.INTER_NEAREST_EXACT)[0].astype(np.int32)


@lru_cache(maxsize=1)
def _kernel() -> StretchKernel | None:
    try:
        library = load_library(LIBRARY)
        return StretchKernel(library) if library.darkseg_stretch_can_run() else None
    except EngineError as error:
        _LOG.warning("frames are stretched by OpenCV, which takes 0.4 ms longer: %s", error)
        return None
