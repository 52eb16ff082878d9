from __future__ import annotations

import numpy as np
import pytest

from darkseg_ros.evaluation.disturbances import DISTURBANCES, disturbed
from darkseg_ros.synthetic_drive import SyntheticDrive


@pytest.fixture(scope="module")
def frame() -> np.ndarray:
    return SyntheticDrive(seed=0, size_hw=(120, 200), night=True).frame(0).bgr


@pytest.mark.parametrize("name", DISTURBANCES)
def test_a_frame_is_disturbed_the_same_way_each_time_and_each_frame_in_its_own(frame: np.ndarray, name: str) -> None:
    before = frame.copy()
    drawn, unknown = disturbed(frame, name, 3)
    np.testing.assert_array_equal(frame, before)
    assert drawn.shape == frame.shape
    assert drawn.dtype == np.uint8
    assert (drawn != frame).any()
    np.testing.assert_array_equal(disturbed(frame, name, 3)[0], drawn)
    assert (disturbed(frame, name, 4)[0] != drawn).any()
    assert unknown.any() == (name == "unknown")


@pytest.mark.parametrize("name", DISTURBANCES)
@pytest.mark.parametrize("shape", [(1, 1), (3, 64), (48, 5)])
def test_frames_of_any_size_are_taken(name: str, shape: tuple[int, int]) -> None:
    frame = np.full((*shape, 3), 60, np.uint8)
    for index in range(5):
        drawn, unknown = disturbed(frame, name, index)
        assert drawn.shape == frame.shape
        assert unknown.shape == shape


def test_nothing_is_drawn_unless_asked_for(frame: np.ndarray) -> None:
    drawn, unknown = disturbed(frame, None, 0)
    assert drawn is frame
    assert not unknown.any()


def test_flare_only_brightens(frame: np.ndarray) -> None:
    assert (disturbed(frame, "flare", 0)[0] >= frame).all()


def test_an_unknown_object_changes_its_own_pixels_only(frame: np.ndarray) -> None:
    drawn, unknown = disturbed(frame, "unknown", 0)
    assert (drawn[~unknown] == frame[~unknown]).all()
    assert 0.005 < unknown.mean() < 0.2
    assert np.flatnonzero(unknown.any(1)).mean() > frame.shape[0] / 2


def test_an_unknown_object_on_a_bright_frame_reaches_white() -> None:
    drawn, unknown = disturbed(np.full((120, 200, 3), 250, np.uint8), "unknown", 0)
    assert drawn[unknown].max() == 255
