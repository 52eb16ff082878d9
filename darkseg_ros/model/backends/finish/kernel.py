"""Calls the compiled kernel, kernel.c, on NumPy arrays."""

from __future__ import annotations

import ctypes
from functools import lru_cache

import numpy as np

from darkseg_ros.errors import EngineError
from darkseg_ros.model.backends.finish.numpy_finish import axis_blend, finish_logits_numpy
from darkseg_ros.model.bundle import LOGITS_STRIDE
from darkseg_ros.model.compiled_library import load_library

INSTRUCTION_SETS = ("baseline", "AVX2", "AVX-512")
"""What kernel.c is compiled for on x86-64, by its numbers; elsewhere it has the first alone."""

LIBRARY = f"{__package__}._kernel"
"""What setup.py compiles."""

_LOG2_E = 1.4426950408889634


class FinishKernel:
    """`logits_finish.finish_logits` on finite, aligned float32 logits. Thread-safe; frees Python's lock.

    Args:
        library: the kernel's.
        instruction_set: of `INSTRUCTION_SETS`; None for the processor's best.
    """

    def __init__(self, library: ctypes.CDLL, *, instruction_set: int | None = None) -> None:
        best: int = library.darkseg_finish_instruction_set()
        self.instruction_set = best if instruction_set is None else min(instruction_set, best)
        address, count = ctypes.c_void_p, ctypes.c_ssize_t
        self._finish = library.darkseg_finish
        self._finish.argtypes = [address, *[count] * 6, ctypes.c_float, *[address] * 8, ctypes.c_int]
        self._finish.restype = ctypes.c_int

    def __call__(self, logits: np.ndarray, *, temperature: float, align_corners: bool) -> tuple[np.ndarray, np.ndarray]:
        classes, height, width = logits.shape
        rows, columns = axis_blend(height, align_corners=align_corners), axis_blend(width, align_corners=align_corners)
        class_map = np.empty((height * LOGITS_STRIDE, width * LOGITS_STRIDE), np.uint8)
        confidence = np.empty_like(class_map)
        no_memory = self._finish(
            logits.ctypes.data,
            *(stride // logits.itemsize for stride in logits.strides),
            classes,
            height,
            width,
            _LOG2_E / temperature,
            *(
                table.ctypes.data
                for blend in (rows, columns)
                for table in (blend.first, blend.first_weight, blend.second_weight)
            ),
            class_map.ctypes.data,
            confidence.ctypes.data,
            self.instruction_set,
        )
        if no_memory:
            raise EngineError(f"there is no memory to finish logits of {logits.shape}; free some, or add memory")
        return class_map, confidence


@lru_cache(maxsize=1)
def kernel_library() -> ctypes.CDLL:
    """The library that setup.py compiled.

    Raises:
        EngineError: if there is none, or it does not load.
    """
    return load_library(LIBRARY)


def load_kernel() -> FinishKernel:
    """The kernel, once its answers are seen to be NumPy's: a compiler's flags can make them others.

    Raises:
        EngineError: if it was not compiled, does not load, or answers otherwise.
    """
    kernel = FinishKernel(kernel_library())
    check(kernel)
    return kernel


def check(kernel: FinishKernel) -> None:
    """Compare a kernel's answers with NumPy's; under a millisecond.

    Raises:
        EngineError: if they differ.
    """
    rng = np.random.default_rng(0)
    for shape in ((1, 1, 1), (19, 5, 19), (3, 4, 16)):
        values = rng.integers(-9, 9, shape).astype(np.float32)  # integers: many ties
        values[0, -1] += 20  # and one class that leads
        logits = np.asfortranarray(values)  # class by class at each pixel
        class_map, confidence = kernel(logits, temperature=1.3, align_corners=False)
        expected, expected_confidence = finish_logits_numpy(logits, temperature=1.3, align_corners=False)
        differs = np.abs(confidence.astype(int) - expected_confidence).max() > 1
        if differs or not np.array_equal(class_map, expected):
            raise EngineError(
                f"the kernel's answer to logits of {shape} is not NumPy's: it was compiled with flags that change "
                "arithmetic; unset CFLAGS and install the package again"
            )
