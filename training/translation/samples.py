"""Day and night images without partners, and what a training step draws of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from training.data.draws import draw_evenly
from training.data.random_streams import Stream, generator
from training.translation.images import read_view, unit_input


class UnpairedSamples(Dataset[dict[str, Tensor]]):
    """A day image, a night image and latent noise at each position of a run.

    Item: ``day`` and ``night`` (3, S, S) float RGB in [-1, 1]; ``noise`` (4, C, S/4, S/4) draws of N(0, 1): drawn here,
    by position, because a generator's state would depend on the number of processes.
    """

    def __init__(
        self,
        day_images: list[Path],
        night_images: list[Path],
        *,
        view_px: int,
        crop_px: int,
        noise_shape: tuple[int, ...],
        seed: int,
    ) -> None:
        self._day_images, self._night_images = day_images, night_images
        self._draw_day = draw_evenly(len(day_images), seed=seed, order=Stream.DAY_ORDER)
        self._draw_night = draw_evenly(len(night_images), seed=seed, order=Stream.NIGHT_ORDER)
        self._view_px, self._crop_px, self._seed = view_px, crop_px, seed
        self._noise_shape = noise_shape

    def __getitem__(self, position: int) -> dict[str, Tensor]:
        rng = generator(self._seed, Stream.DAY_VIEW, position)
        return {
            "day": self._crop(self._day_images[self._draw_day(position)], rng),
            "night": self._crop(self._night_images[self._draw_night(position)], rng),
            "noise": torch.from_numpy(rng.standard_normal(self._noise_shape, dtype=np.float32)),
        }

    def _crop(self, path: Path, rng: np.random.Generator) -> Tensor:
        view_bgr = read_view(path, self._view_px)
        top, left = rng.integers(self._view_px - self._crop_px + 1, size=2)
        crop_bgr = view_bgr[top : top + self._crop_px, left : left + self._crop_px]
        return unit_input(crop_bgr[:, ::-1] if rng.random() < 0.5 else crop_bgr)
