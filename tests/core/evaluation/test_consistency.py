from __future__ import annotations

import cv2
import numpy as np
import pytest

from darkseg_ros.evaluation.consistency import FlowConsistency
from darkseg_ros.evaluation.metrics import mean_iou

HW = (96, 192)
FRAME_NS = 100_000_000


def moving_scene(index: int, *, step_px: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """A textured picture that moves to the right, and classes that move with it."""
    rng = np.random.default_rng(0)
    wide = cv2.GaussianBlur(rng.integers(0, 256, (HW[0], HW[1] * 2), np.uint8), (0, 0), 3)
    wide = cv2.normalize(wide, None, 0, 255, cv2.NORM_MINMAX)
    classes = np.where(np.arange(HW[1] * 2) // 40 % 2 == 0, 0, 10).astype(np.uint8)[None].repeat(HW[0], 0)
    start = HW[1] - index * step_px
    return (
        np.repeat(wide[:, start : start + HW[1], None], 3, axis=2),
        np.ascontiguousarray(classes[:, start : start + HW[1]]),
    )


def test_classes_that_move_with_the_picture_are_consistent() -> None:
    consistency = FlowConsistency()
    assert consistency.add(0, *moving_scene(0)) is None
    warped = consistency.add(FRAME_NS, *moving_scene(1))
    assert warped is not None
    assert warped.sum() > 0.8 * HW[0] * HW[1]
    assert float(mean_iou(warped)) > 0.97


def test_classes_that_stay_while_the_picture_moves_are_less_so() -> None:
    consistency = FlowConsistency()
    consistency.add(0, *moving_scene(0))
    warped = consistency.add(FRAME_NS, moving_scene(1)[0], moving_scene(0)[1])
    assert warped is not None
    assert float(mean_iou(warped)) < 0.9


def test_a_class_that_changes_everywhere_has_no_consistency() -> None:
    consistency = FlowConsistency()
    bgr = moving_scene(0)[0]
    consistency.add(0, bgr, np.zeros(HW, np.uint8))
    warped = consistency.add(FRAME_NS, bgr, np.full(HW, 10, np.uint8))
    assert warped is not None
    assert float(mean_iou(warped)) == 0


@pytest.mark.parametrize("stamp_ns", [0, 600_000_000, -FRAME_NS])
def test_frames_that_do_not_follow_each_other_say_nothing(stamp_ns: int) -> None:
    consistency = FlowConsistency()
    consistency.add(0, *moving_scene(0))
    assert consistency.add(stamp_ns, *moving_scene(1)) is None


def test_a_picture_of_another_size_follows_none() -> None:
    consistency = FlowConsistency()
    bgr, class_map = moving_scene(0)
    consistency.add(0, bgr, class_map)
    assert consistency.add(FRAME_NS, bgr[:80], class_map[:80]) is None
    assert consistency.add(2 * FRAME_NS, bgr[:80], class_map[:80]) is not None


def test_the_answer_is_the_same_for_any_number_of_threads() -> None:
    answers = []
    before = cv2.getNumThreads()
    for threads in (1, 4):
        cv2.setNumThreads(threads)
        consistency = FlowConsistency()
        consistency.add(0, *moving_scene(0))
        answers.append(consistency.add(FRAME_NS, *moving_scene(1, step_px=7)))
    cv2.setNumThreads(before)
    np.testing.assert_array_equal(*answers)


def test_tiny_pictures_are_passed_over() -> None:
    consistency = FlowConsistency()
    small = np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.uint8)
    consistency.add(0, *small)
    assert consistency.add(FRAME_NS, *small) is None
