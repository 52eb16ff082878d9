"""Applies a table of 256 grey levels to a frame: by exposure_table.c, by OpenCV where that was not compiled.

Both give the same bytes. OpenCV takes some 10 times as long as the kernel with VBMI, 4 times as long as that with AVX2.
"""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Callable
from functools import lru_cache

import cv2
import numpy as np

from darkseg_ros.errors import EngineError
from darkseg_ros.model.compiled_library import load_library

INSTRUCTION_SETS = ("baseline", "AVX2", "AVX-512 VBMI")
"""What exposure_table.c is compiled for on x86-64, by its numbers; elsewhere it has the first alone."""

LIBRARY = "darkseg_ros.model._exposure_table"
"""What setup.py compiles."""

_LOG = logging.getLogger(__name__)


def apply_table(frame: np.ndarray, table: np.ndarray) -> None:
    """Replace each value of a frame by the table's.

    Args:
        frame: uint8 of any shape, contiguous; changed in place.
        table: (256,) uint8, contiguous.
    """
    _fastest()(frame, table)


class TableKernel:
    """`apply_table` by the compiled kernel. Thread-safe; frees Python's lock.

    Args:
        library: the kernel's.
        instruction_set: of `INSTRUCTION_SETS`; None for the processor's best.

    Raises:
        EngineError: if its answers are not NumPy's.
    """

    def __init__(self, library: ctypes.CDLL, *, instruction_set: int | None = None) -> None:
        best: int = library.darkseg_table_instruction_set()
        self.instruction_set = best if instruction_set is None else min(instruction_set, best)
        self._apply = library.darkseg_apply_table
        self._apply.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_int]
        self._apply.restype = None
        self._check()

    def __call__(self, frame: np.ndarray, table: np.ndarray) -> None:
        self._apply(frame.ctypes.data, frame.size, table.ctypes.data, self.instruction_set)

    def _check(self) -> None:
        values = np.resize(np.arange(256, dtype=np.uint8), 1001)
        table = np.random.default_rng(0).permutation(256).astype(np.uint8)
        answer = values.copy()
        self(answer, table)
        if not np.array_equal(answer, table[values]):
            raise EngineError("the kernel's answer is not NumPy's; unset CFLAGS and install the package again")


@lru_cache(maxsize=1)
def _fastest() -> Callable[[np.ndarray, np.ndarray], object]:
    try:
        return TableKernel(load_library(LIBRARY))
    except EngineError as error:
        _LOG.warning("dark frames are brightened by OpenCV, which takes 0.2 ms longer: %s", error)
        return _apply_by_opencv


def _apply_by_opencv(frame: np.ndarray, table: np.ndarray) -> None:
    cv2.LUT(frame, table, dst=frame)
