"""Unlabelled night images in two views: a calm one for the teacher, a changed one for the student."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from darkseg_ros.classes import CITYSCAPES, IGNORE_INDEX, ClassTable
from darkseg_ros.errors import InputError
from darkseg_ros.model.exposure import Exposure, normalise_exposure
from training.adaptation.second_opinion import Box, opinion_map
from training.adaptation.settings import StrongAugmentation
from training.data.augmentation import Augmentation, crop_hw_of, jitter_colour
from training.data.cache import ImageStore, Undecoded
from training.data.network_input import network_input
from training.data.random_streams import Stream, generator

STRIDE = 4
"""Answers have a quarter of the height and width of their image: views are cut in steps of as many pixels."""


class NightSamples(Dataset[dict[str, Tensor]]):
    """The unlabelled image at each position of a run; each is visited once an epoch.

    Item: ``calm`` and ``strong`` (3, H, W) float; ``opinion`` (H/4, W/4) int64 of `opinion_map`, without boxes
    IGNORE_INDEX; ``answers`` (K, H/4, W/4) float, if answers were given.

    Args:
        images: to draw from.
        augmentation: the geometry of both views; its jitter is not used.
        strong: what is done to the student's view alone.
        exposure: that dark images are brightened to.
        boxes: by stem, of `training.detect_objects`.
        score_min: of boxes that are believed.
        answers: .npy of `training.answer_images` for these images, in their order.
        seed: of the run.
        store: that images are read from.
        classes: of the answers and the opinion.

    Raises:
        InputError: if the answers are of another number of images or classes.
    """

    def __init__(
        self,
        images: list[Path],
        *,
        augmentation: Augmentation,
        strong: StrongAugmentation,
        exposure: Exposure | None,
        boxes: dict[str, list[Box]],
        score_min: float,
        answers: Path | None,
        seed: int,
        store: ImageStore | None = None,
        classes: ClassTable = CITYSCAPES,
    ) -> None:
        self._images, self._augmentation, self._strong, self._exposure = images, augmentation, strong, exposure
        self._boxes, self._score_min, self._seed = boxes, score_min, seed
        self._store = store or Undecoded()
        self._classes = classes
        self._answers = None if answers is None else np.load(answers, mmap_mode="r")
        if self._answers is not None and self._answers.shape[:2] != (len(images), len(classes)):
            raise InputError(
                f"{answers} holds answers of shape {self._answers.shape}; expected {len(images)} images and "
                f"{len(classes)} classes: make it with training.answer_images from teachers of the run's data.classes"
            )

    def __getitem__(self, position: int) -> dict[str, Tensor]:
        epoch, offset = divmod(position, len(self._images))
        order = generator(self._seed, Stream.NIGHT_ORDER, epoch).permutation(len(self._images))
        index = int(order[offset])
        rng = generator(self._seed, Stream.NIGHT_VIEW, position)
        path = self._images[index]
        bgr = self._store.image(path)
        view = draw_view(self._augmentation, rng)
        calm = view.cut(bgr, stride=1)
        if self._exposure is not None:
            normalise_exposure(calm, self._exposure)
        item = {"calm": network_input(calm), "strong": network_input(change_strongly(calm, self._strong, rng))}
        opinion = np.full(view.cut_hw, IGNORE_INDEX, np.uint8)
        if path.stem in self._boxes:
            whole = opinion_map(
                self._boxes[path.stem], view.quarter_hw, score_min=self._score_min, classes=self._classes
            )
            opinion = view.cut(whole, stride=STRIDE)
        item["opinion"] = torch.from_numpy(opinion.astype(np.int64))
        if self._answers is not None:
            whole = np.moveaxis(self._answers[index], 0, -1).astype(np.float32) / 255
            item["answers"] = torch.from_numpy(np.moveaxis(view.cut(whole, stride=STRIDE), -1, 0).copy())
        return item


@dataclass(frozen=True)
class View:
    """A scaled, perhaps mirrored image and the rectangle cut from it, all in steps of `STRIDE` pixels.

    Attributes:
        quarter_hw: size of the scaled image over `STRIDE`.
        quarter_yx: corner of the rectangle over `STRIDE`.
        cut_hw: size of the rectangle over `STRIDE`.
        flip: mirrored.
    """

    quarter_hw: tuple[int, int]
    quarter_yx: tuple[int, int]
    cut_hw: tuple[int, int]
    flip: bool

    def cut(self, pixels: np.ndarray, *, stride: int) -> np.ndarray:
        """The rectangle, (H, W) or (H, W, C) of STRIDE / stride times `cut_hw`, of an array of any size."""
        factor = STRIDE // stride
        height, width = (side * factor for side in self.quarter_hw)
        if pixels.shape[:2] != (height, width):
            pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR)
        if self.flip:
            pixels = pixels[:, ::-1]
        y, x = (corner * factor for corner in self.quarter_yx)
        height, width = (side * factor for side in self.cut_hw)
        return np.ascontiguousarray(pixels[y : y + height, x : x + width])


def draw_view(augmentation: Augmentation, rng: np.random.Generator) -> View:
    """A random view; it is never smaller than what is cut from it."""
    scale = np.exp(rng.uniform(np.log(augmentation.scale_min), np.log(augmentation.scale_max)))
    stretch = np.exp(rng.uniform(-1, 1) * np.log(augmentation.aspect) / 2)
    height, width = (
        augmentation.view_px * scale * factor / STRIDE
        for factor in (1 / stretch, stretch * augmentation.width_over_height)
    )
    cut_height, cut_width = (side // STRIDE for side in crop_hw_of(augmentation))
    quarter_hw = (max(round(height), cut_height), max(round(width), cut_width))
    y, x = (int(rng.integers(0, room + 1)) for room in (quarter_hw[0] - cut_height, quarter_hw[1] - cut_width))
    return View(quarter_hw, (y, x), (cut_height, cut_width), bool(rng.random() < 0.5))


def change_strongly(bgr: np.ndarray, strong: StrongAugmentation, rng: np.random.Generator) -> np.ndarray:
    """Other colours, blur and noise; (H, W, 3) uint8 BGR in and out."""
    changed = jitter_colour(bgr, strong.jitter, rng)
    if rng.random() < strong.blur_share:
        changed = cv2.GaussianBlur(changed, (0, 0), rng.uniform(0.2, strong.blur_sigma_max))
    noise = rng.uniform(0, strong.noise_max) * rng.standard_normal(changed.shape, np.float32)
    return np.clip(changed + noise, 0, 255).astype(np.uint8)
