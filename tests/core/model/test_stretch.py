from __future__ import annotations

import re

import cv2
import numpy as np
import pytest

from darkseg_ros.errors import EngineError
from darkseg_ros.model import stretch
from darkseg_ros.model.compiled_library import load_library
from darkseg_ros.model.stretch import LIBRARY, StretchKernel, stretch_frame, stretch_map

SIZES = [
    ((512, 1024), (384, 384)),
    ((480, 640), (384, 384)),
    ((384, 384), (384, 384)),
    ((768, 768), (384, 384)),
    ((1, 2), (5, 9)),
    ((3, 1), (8, 8)),
    ((1, 1), (4, 4)),
    ((37, 53), (64, 96)),
    ((90, 320), (31, 33)),
]
UNEVEN = [tuple(map(tuple, size)) for size in np.random.default_rng(5).integers(1, 200, (60, 2, 2)).tolist()]


@pytest.fixture(autouse=True)
def kernel() -> StretchKernel:
    """Compiled, and its processor has what it needs: else there is nothing to compare."""
    library = load_library(LIBRARY)
    if not library.darkseg_stretch_can_run():
        pytest.skip("this processor has no AVX2, which the kernel needs")
    return StretchKernel(library)


@pytest.mark.parametrize(("frame_hw", "network_hw"), [*SIZES, *UNEVEN])
def test_a_frame_is_stretched_as_by_opencv_and_nothing_else_is_touched(
    frame_hw: tuple[int, int], network_hw: tuple[int, int]
) -> None:
    frame = np.random.default_rng(1).integers(0, 256, (*frame_hw, 3), dtype=np.uint8)
    kept = frame.copy()
    memory = np.full(network_hw[0] * network_hw[1] * 3 + 2, 77, np.uint8)
    into = memory[1:-1].reshape(*network_hw, 3)
    stretch_frame(frame, into)
    np.testing.assert_array_equal(into, cv2.resize(frame, network_hw[::-1], interpolation=cv2.INTER_LINEAR))
    np.testing.assert_array_equal(frame, kept)
    assert (memory[0], memory[-1]) == (77, 77)


@pytest.mark.parametrize(("map_hw", "camera_hw"), [*SIZES, *UNEVEN, *((b, a) for a, b in SIZES)])
def test_a_map_is_stretched_to_its_nearest_values(map_hw: tuple[int, int], camera_hw: tuple[int, int]) -> None:
    values = np.random.default_rng(2).integers(0, 256, map_hw, dtype=np.uint8)
    memory = np.full(camera_hw[0] * camera_hw[1] + 2, 77, np.uint8)
    into = memory[1:-1].reshape(camera_hw)
    stretch_map(values, into)
    np.testing.assert_array_equal(into, cv2.resize(values, camera_hw[::-1], interpolation=cv2.INTER_NEAREST_EXACT))
    assert (memory[0], memory[-1]) == (77, 77)


def test_rows_of_a_frame_may_lie_apart_but_not_its_pixels(kernel: StretchKernel) -> None:
    wide = np.random.default_rng(3).integers(0, 256, (30, 50, 3), dtype=np.uint8)
    for part in (wide[:, 7:40], wide[::2], wide[::-1], wide[:, ::-1]):
        into = np.empty((20, 20, 3), np.uint8)
        stretch_frame(part, into)
        np.testing.assert_array_equal(into, cv2.resize(part, (20, 20), interpolation=cv2.INTER_LINEAR))
    assert kernel.takes_frame(wide[::-1, 7:40])
    assert not kernel.takes_frame(wide[:, ::-1])


def test_a_map_whose_rows_lie_apart_is_stretched_too(kernel: StretchKernel) -> None:
    part = np.random.default_rng(4).integers(0, 256, (30, 50), dtype=np.uint8)[:, 3:40]
    into = np.empty((60, 90), np.uint8)
    assert not kernel.takes_map(part, into)
    stretch_map(part, into)
    np.testing.assert_array_equal(into, cv2.resize(part, (90, 60), interpolation=cv2.INTER_NEAREST_EXACT))


def test_without_the_kernel_opencv_does_it_and_a_warning_names_the_cure(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(stretch, "LIBRARY", "darkseg_ros.model._absent")
    monkeypatch.setattr(stretch, "_kernel", stretch._kernel.__wrapped__)
    frame = np.full((8, 8, 3), 9, np.uint8)
    into = np.empty((16, 16, 3), np.uint8)
    stretch_frame(frame, into)
    assert (into == 9).all()
    assert re.search(r"by OpenCV.*not compiled.*install gcc", caplog.records[0].message)


def test_a_kernel_with_other_answers_is_refused(kernel: StretchKernel) -> None:
    kernel.stretch_map = lambda values, into: None  # type: ignore[method-assign]
    with pytest.raises(EngineError, match="not OpenCV's"):
        kernel._check()


def test_on_a_processor_without_avx2_opencv_does_it_without_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Library:
        @staticmethod
        def darkseg_stretch_can_run() -> int:
            return 0

    monkeypatch.setattr(stretch, "load_library", lambda name: Library())
    assert stretch._kernel.__wrapped__() is None
    assert not caplog.records
