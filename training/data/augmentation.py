"""Geometry and colour changes of training images, label maps alongside."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from darkseg_ros.classes import IGNORE_INDEX
from training.networks.input_size import rectangle_hw


@dataclass
class Augmentation:
    """How far an image may be changed.

    Attributes:
        view_px: height of what a whole image is squeezed into at scale 1.
        crop_px: height of the crop that the network sees.
        width_over_height: of view and crop; the crop's width is rounded to a multiple of 32. 1 makes squares of all
            images, 2 keeps the shape of Cityscapes'. The same as the network's, see `training.networks.config`.
        scale_min: smallest random scale of the view.
        scale_max: largest.
        aspect: a view is wider or higher at random by up to this factor (1.1 = ±10 %).
        jitter: up to this relative change of brightness, contrast, saturation; a fifth of it of the hue circle's turn.
    """

    view_px: int = 256
    crop_px: int = 256
    width_over_height: float = 1.0
    scale_min: float = 1.0
    scale_max: float = 2.0
    aspect: float = 1.1
    jitter: float = 0.4


def crop_hw_of(augmentation: Augmentation) -> tuple[int, int]:
    """Height and width of the crops."""
    return rectangle_hw(augmentation.crop_px, augmentation.width_over_height)


def augment_labelled(
    bgr: np.ndarray, label_map: np.ndarray, augmentation: Augmentation, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Random flip, scale, crop and colour jitter.

    Returns:
        (H, W, 3) uint8 BGR and (H, W) uint8, of `crop_hw_of`; padding is black and IGNORE_INDEX.
    """
    view = _random_view(augmentation, rng)
    crop_hw = crop_hw_of(augmentation)
    bgr = _cut(bgr, view, crop_hw, interpolation=cv2.INTER_LINEAR, padding=0)
    label_map = _cut(label_map, view, crop_hw, interpolation=cv2.INTER_NEAREST_EXACT, padding=IGNORE_INDEX)
    return jitter_colour(bgr, augmentation.jitter, rng), label_map


@dataclass(frozen=True)
class _View:
    size_wh: tuple[int, int]
    flip: bool
    offset: tuple[float, float]


def _random_view(augmentation: Augmentation, rng: np.random.Generator) -> _View:
    scale = np.exp(rng.uniform(np.log(augmentation.scale_min), np.log(augmentation.scale_max)))
    stretch = np.exp(rng.uniform(-1, 1) * np.log(augmentation.aspect) / 2)
    width = round(augmentation.view_px * scale * stretch * augmentation.width_over_height)
    height = round(augmentation.view_px * scale * (1 / stretch))
    x_offset, y_offset = rng.random(2)
    return _View((width, height), bool(rng.random() < 0.5), (float(x_offset), float(y_offset)))


def _cut(pixels: np.ndarray, view: _View, crop_hw: tuple[int, int], *, interpolation: int, padding: int) -> np.ndarray:
    resized = cv2.resize(pixels, view.size_wh, interpolation=interpolation)
    if view.flip:
        resized = resized[:, ::-1]
    height, width = crop_hw
    x, y = (
        round(share * max(whole - side, 0))
        for share, whole, side in zip(view.offset, view.size_wh, (width, height), strict=True)
    )
    cut = resized[y : y + height, x : x + width]
    missing = (height - cut.shape[0], width - cut.shape[1])
    if any(missing):
        cut = cv2.copyMakeBorder(
            np.ascontiguousarray(cut), 0, missing[0], 0, missing[1], cv2.BORDER_CONSTANT, value=(padding,) * 3
        )
    return np.ascontiguousarray(cut)


def jitter_colour(bgr: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Random brightness, contrast, saturation and hue; (H, W, 3) uint8 BGR in and out."""
    brightness, contrast, saturation = rng.uniform(1 - strength, 1 + strength, 3)
    hue_shift = rng.uniform(-0.2, 0.2) * strength * 180
    hsv = cv2.cvtColor(bgr, cv2.COLOR_BGR2HSV)
    hsv[:, :, 0] = (hsv[:, :, 0].astype(np.int16) + round(hue_shift)) % 180
    hsv[:, :, 1] = cv2.convertScaleAbs(hsv[:, :, 1], alpha=saturation)
    bgr = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)
    mean = float(bgr.mean())
    return np.clip(
        bgr.astype(np.float32) * (brightness * contrast) + mean * brightness * (1 - contrast), 0, 255
    ).astype(np.uint8)
