from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darkseg_ros.pictures.overlay import color_class_map, draw_overlay


def test_classes_are_painted_in_cityscapes_colours() -> None:
    class_map = np.array([[0, 10, 13, 255]], np.uint8)
    # road (128, 64, 128), sky (70, 130, 180) and car (0, 0, 142) in RGB; unlabelled is black
    assert color_class_map(class_map).tolist() == [[[128, 64, 128], [180, 130, 70], [142, 0, 0], [0, 0, 0]]]


def test_half_opacity_is_the_mean_of_image_and_colour() -> None:
    bgr = np.array([[[100, 200, 0], [20, 30, 50]]], np.uint8)
    class_map = np.array([[0, 10]], np.uint8)
    # (128 + 100) / 2, (64 + 200) / 2, (128 + 0) / 2; then (180 + 20) / 2, (130 + 30) / 2, (70 + 50) / 2
    assert draw_overlay(bgr, class_map).tolist() == [[[114, 132, 64], [100, 80, 60]]]


def test_unlabelled_pixels_stay_the_camera_image() -> None:
    bgr = np.array([[[7, 8, 9], [7, 8, 9]]], np.uint8)
    overlay = draw_overlay(bgr, np.array([[255, 13]], np.uint8), opacity=1.0)
    assert overlay.tolist() == [[[7, 8, 9], [142, 0, 0]]]


def test_opacity_zero_is_the_camera_image() -> None:
    bgr = np.array([[[7, 8, 9], [200, 100, 50]]], np.uint8)
    assert draw_overlay(bgr, np.array([[4, 18]], np.uint8), opacity=0.0).tolist() == bgr.tolist()


@settings(max_examples=50, deadline=None)
@given(height=st.integers(1, 9), width=st.integers(1, 9), opacity=st.floats(0, 1), seed=st.integers(0, 2**32 - 1))
def test_inputs_stay_unchanged_and_unlabelled_pixels_exact(height: int, width: int, opacity: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    bgr = random.integers(0, 256, (height, width, 3), np.uint8)
    class_map = random.choice(np.array([0, 1, 18, 255], np.uint8), (height, width))
    bgr_before, class_map_before = bgr.copy(), class_map.copy()
    bgr.flags.writeable = class_map.flags.writeable = False
    overlay = draw_overlay(bgr, class_map, opacity=opacity)
    assert overlay.shape == (height, width, 3)
    assert not np.shares_memory(overlay, bgr)
    np.testing.assert_array_equal(bgr, bgr_before)
    np.testing.assert_array_equal(class_map, class_map_before)
    np.testing.assert_array_equal(overlay[class_map == 255], bgr[class_map == 255])


@pytest.mark.parametrize(
    ("shape", "dtype"), [((2, 3, 1), np.uint8), ((6,), np.uint8), ((2, 3), np.int64), ((2, 3), np.bool_)]
)
def test_what_is_no_class_map_is_refused(shape: tuple[int, ...], dtype: type) -> None:
    with pytest.raises(ValueError, match=r"class_map must be \(H, W\) uint8"):
        color_class_map(np.zeros(shape, dtype))


def test_sizes_must_agree() -> None:
    with pytest.raises(ValueError, match="of the class map's size"):
        draw_overlay(np.zeros((4, 4, 3), np.uint8), np.zeros((2, 2), np.uint8))


@pytest.mark.parametrize("opacity", [-0.1, 1.1, float("nan")])
def test_opacity_must_be_a_share(opacity: float) -> None:
    with pytest.raises(ValueError, match="within 0…1"):
        draw_overlay(np.zeros((1, 1, 3), np.uint8), np.zeros((1, 1), np.uint8), opacity=opacity)


def test_opacity_one_is_the_class_colours_alone() -> None:
    bgr = np.array([[[7, 8, 9], [200, 100, 50]]], np.uint8)
    class_map = np.array([[4, 18]], np.uint8)
    assert draw_overlay(bgr, class_map, opacity=1.0).tolist() == color_class_map(class_map).tolist()


@pytest.mark.parametrize(
    "wrong", [np.zeros((2, 2), np.uint8), np.zeros((2, 2, 3), np.float32), np.zeros((2, 2, 4), np.uint8)]
)
def test_an_overlay_needs_a_colour_picture_of_8_bits(wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"bgr must be \(H, W, 3\) uint8 of the class map's size"):
        draw_overlay(wrong, np.zeros((2, 2), np.uint8))


def test_ids_without_a_class_are_painted_black_and_laid_over_as_black() -> None:
    assert color_class_map(np.array([[19, 254]], np.uint8)).tolist() == [[[0, 0, 0]] * 2]
    assert draw_overlay(np.full((1, 1, 3), 100, np.uint8), np.array([[254]], np.uint8)).tolist() == [[[50] * 3]]
