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


def flat(level: int, hw: tuple[int, int] = HW) -> np.ndarray:
    return np.full((*hw, 3), level, np.uint8)


@pytest.mark.parametrize(("levels", "compared"), [(24, 1.0), (25, 0.0)])
def test_pixels_are_compared_up_to_the_grey_that_still_fits(levels: int, compared: float) -> None:
    consistency = FlowConsistency()
    class_map = np.zeros(HW, np.uint8)
    consistency.add(0, flat(100), class_map)
    warped = consistency.add(FRAME_NS, flat(100 + levels), class_map)
    assert warped is not None
    assert warped.sum() == compared * class_map.size
    assert warped[0, 0] == warped.sum()


@pytest.mark.parametrize(
    ("hw", "compared_hw"), [((90, 640), (45, 320)), ((40, 320), (40, 320)), ((33, 100), (33, 100))]
)
def test_wide_pictures_are_compared_320_pixels_wide(hw: tuple[int, int], compared_hw: tuple[int, int]) -> None:
    consistency = FlowConsistency()
    class_map = np.full(hw, 3, np.uint8)
    consistency.add(0, flat(90, hw), class_map)
    warped = consistency.add(FRAME_NS, flat(90, hw), class_map)
    assert warped is not None
    assert warped[3, 3] == warped.sum() == compared_hw[0] * compared_hw[1]


@pytest.mark.parametrize(("hw", "seen"), [((16, 40), True), ((15, 40), False), ((40, 16), True), ((40, 15), False)])
def test_pictures_are_compared_from_16_pixels_on(hw: tuple[int, int], *, seen: bool) -> None:
    consistency = FlowConsistency()
    class_map = np.zeros(hw, np.uint8)
    consistency.add(0, flat(90, hw), class_map)
    assert (consistency.add(FRAME_NS, flat(90, hw), class_map) is not None) == seen


def test_a_strip_one_pixel_high_when_small_is_passed_over() -> None:
    consistency = FlowConsistency()
    strip = flat(90, (1, 2000)), np.zeros((1, 2000), np.uint8)
    consistency.add(0, *strip)
    assert consistency.add(FRAME_NS, *strip) is None


@pytest.mark.parametrize(("gap_ns", "follows"), [(1, True), (500_000_000, True), (500_000_001, False)])
def test_frames_follow_each_other_up_to_half_a_second(gap_ns: int, *, follows: bool) -> None:
    consistency = FlowConsistency()
    consistency.add(7, flat(90), np.zeros(HW, np.uint8))
    assert (consistency.add(7 + gap_ns, flat(90), np.zeros(HW, np.uint8)) is not None) == follows


def test_rows_are_the_classes_before_and_columns_those_of_now() -> None:
    consistency = FlowConsistency()
    consistency.add(0, flat(90), np.full(HW, 2, np.uint8))
    warped = consistency.add(FRAME_NS, flat(90), np.full(HW, 5, np.uint8))
    assert warped is not None
    assert warped[2, 5] == warped.sum() == HW[0] * HW[1]


def test_the_number_of_threads_is_left_as_it_was() -> None:
    before = cv2.getNumThreads()
    cv2.setNumThreads(3)
    try:
        consistency = FlowConsistency()
        consistency.add(0, *moving_scene(0))
        consistency.add(FRAME_NS, *moving_scene(1))
        assert cv2.getNumThreads() == 3
    finally:
        cv2.setNumThreads(before)
