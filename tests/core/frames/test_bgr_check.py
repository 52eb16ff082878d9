from __future__ import annotations

import numpy as np
import pytest

from darkseg_ros.frames.bgr_check import check_bgr, check_bgr_batch


def test_camera_frames_pass() -> None:
    check_bgr(np.zeros((1, 2, 3), np.uint8))
    check_bgr_batch(np.zeros((4, 1, 2, 3), np.uint8))


@pytest.mark.parametrize("shape", [(2, 3), (2, 2, 1), (2, 2, 4), (0, 2, 3), (2, 0, 3), (1, 2, 2, 3)])
def test_what_is_no_camera_frame_is_refused_with_its_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected \(H, W, 3\) uint8 BGR with H, W ≥ 1, got uint8 \("):
        check_bgr(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("shape", [(2, 2, 3), (0, 2, 2, 3), (1, 2, 2, 4)])
def test_what_is_no_batch_is_refused_with_its_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected \(N, H, W, 3\) uint8 BGR frames, got uint8 \("):
        check_bgr_batch(np.zeros(shape, np.uint8))


def test_values_of_another_type_are_refused() -> None:
    with pytest.raises(ValueError, match="got float32"):
        check_bgr(np.zeros((2, 2, 3), np.float32))
    with pytest.raises(ValueError, match="got float32"):
        check_bgr_batch(np.zeros((1, 2, 2, 3), np.float32))
