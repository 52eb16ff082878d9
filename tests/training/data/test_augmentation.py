from __future__ import annotations

import zlib

import cv2
import numpy as np

from training.adaptation.night_samples import draw_view
from training.data.augmentation import Augmentation, augment_labelled

CITYSCAPES_HW = (1024, 2048)
WIDE = Augmentation(view_px=320, crop_px=320, width_over_height=2.0, aspect=1.0, scale_max=1.0, jitter=0.0)


def street_with_a_square() -> tuple[np.ndarray, np.ndarray]:
    """Of Cityscapes' shape; the square is a car of 256×256 pixels, white."""
    label_map = np.zeros(CITYSCAPES_HW, np.uint8)
    label_map[384:640, 896:1152] = 13
    return cv2.cvtColor(255 * (label_map == 13).astype(np.uint8), cv2.COLOR_GRAY2BGR), label_map


def extent_hw(mask: np.ndarray) -> tuple[int, int]:
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    return int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1


def test_squares_are_drawn_as_before_there_were_rectangles() -> None:
    """The expected values are those of 2026-11-28, before `Augmentation.width_over_height`."""
    rng = np.random.default_rng(0)
    bgr = rng.integers(0, 256, (30, 50, 3), np.uint8)
    label_map = rng.integers(0, 19, (30, 50)).astype(np.uint8)
    settings = Augmentation(view_px=40, crop_px=32)
    crops = [augment_labelled(bgr, label_map, settings, np.random.default_rng(seed))[1] for seed in range(4)]
    assert [zlib.crc32(crop.tobytes()) for crop in crops] == [582963641, 2515897202, 1117999276, 460441211]
    rng = np.random.default_rng(7)
    night = Augmentation(view_px=64, crop_px=48, scale_min=0.5, scale_max=2)
    views = [draw_view(night, rng) for _ in range(3)]
    assert [(view.quarter_hw, view.quarter_yx, view.cut_hw, view.flip) for view in views] == [
        ((18, 20), (4, 6), (12, 12), True),
        ((12, 13), (0, 1), (12, 12), False),
        ((24, 24), (0, 10), (12, 12), True),
    ]


def test_a_crop_of_the_cameras_shape_holds_the_whole_image_undistorted() -> None:
    bgr, label_map = augment_labelled(*street_with_a_square(), WIDE, np.random.default_rng(0))
    assert (bgr.shape, label_map.shape) == ((320, 640, 3), (320, 640))
    assert extent_hw(label_map == 13) == extent_hw(bgr[:, :, 0] > 127) == (80, 80)  # 256 · 320 / 1024
    square = Augmentation(view_px=320, crop_px=320, aspect=1.0, scale_max=1.0, jitter=0.0)
    _, label_map = augment_labelled(*street_with_a_square(), square, np.random.default_rng(0))
    assert (label_map.shape, extent_hw(label_map == 13)) == ((320, 320), (80, 40))


def test_a_nights_view_of_the_cameras_shape_is_not_distorted_either() -> None:
    view = draw_view(WIDE, np.random.default_rng(0))
    bgr, label_map = street_with_a_square()
    assert extent_hw(view.cut(bgr, stride=1)[:, :, 0] > 127) == (80, 80)
    assert view.cut(label_map, stride=4).shape == (80, 160)


def test_crops_are_as_wide_as_networks_take_them_and_padded_without_labels() -> None:
    settings = Augmentation(view_px=64, crop_px=96, width_over_height=16 / 9, scale_max=1.0, aspect=1.0)
    bgr, label_map = augment_labelled(*street_with_a_square(), settings, np.random.default_rng(0))
    assert bgr.shape == (96, 160, 3)  # 16/9 · 96 = 171, the nearest multiple of 32 is 160
    assert (label_map[:64, :114] != 255).all()  # 16/9 · 64 = 114
    assert (label_map[64:] == 255).all()
    assert (label_map[:, 114:] == 255).all()
