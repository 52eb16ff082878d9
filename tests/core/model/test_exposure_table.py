from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest

from darkseg_ros.errors import EngineError
from darkseg_ros.model import exposure_table
from darkseg_ros.model.compiled_library import load_library
from darkseg_ros.model.exposure_table import INSTRUCTION_SETS, LIBRARY, TableKernel

Apply = Callable[[np.ndarray, np.ndarray], object]


def every_way() -> list[Apply]:
    """OpenCV, and the kernel for each instruction set that this processor has."""
    best = TableKernel(load_library(LIBRARY)).instruction_set
    kernels = [TableKernel(load_library(LIBRARY), instruction_set=number) for number in range(best + 1)]
    return [exposure_table._apply_by_opencv, *kernels]


@pytest.mark.parametrize("apply", every_way())
def test_each_way_looks_every_value_up_at_its_place(apply: Apply) -> None:
    rng = np.random.default_rng(3)
    table = rng.integers(0, 256, 256, dtype=np.uint8)
    for shape in ((1, 1, 3), (5, 7, 3), (16, 16, 3), (33, 65, 3)):
        for highest in (10, 128, 256):
            memory = rng.integers(0, highest, int(np.prod(shape)) + 2, dtype=np.uint8)
            kept, frame = memory.copy(), memory[1:-1].reshape(shape)  # at an odd address
            apply(frame, table)
            assert np.array_equal(frame, table[kept[1:-1].reshape(shape)])
            assert (memory[0], memory[-1]) == (kept[0], kept[-1])


def test_an_instruction_set_that_the_processor_lacks_is_not_taken() -> None:
    best = TableKernel(load_library(LIBRARY)).instruction_set
    asked = TableKernel(load_library(LIBRARY), instruction_set=len(INSTRUCTION_SETS))
    assert asked.instruction_set == best < len(INSTRUCTION_SETS)


def test_without_the_kernel_opencv_does_it_and_a_warning_names_the_cure(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(exposure_table, "LIBRARY", "darkseg_ros.model._absent")
    assert exposure_table._fastest.__wrapped__() is exposure_table._apply_by_opencv
    (record,) = caplog.records
    assert re.search(r"by OpenCV.*not compiled.*install gcc", record.message)


def test_a_kernel_with_other_answers_is_refused() -> None:
    kernel = TableKernel(load_library(LIBRARY))
    kernel._apply = lambda *arguments: None
    with pytest.raises(EngineError, match="not NumPy's"):
        kernel._check()
