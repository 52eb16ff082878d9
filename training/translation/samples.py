"""What a training step of a translator draws of day and night images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from training.data.cache import ImageStore, Undecoded
from training.data.draws import draw_evenly
from training.data.random_streams import Stream, generator
from training.translation.images import unit_input, view_of


class UnpairedSamples(Dataset[dict[str, Tensor]]):
    """A day image and a night image at each position of a run, and latent noise where it is asked for.

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
        seed: int,
        noise_shape: tuple[int, ...] | None = None,
        store: ImageStore | None = None,
    ) -> None:
        self._day_images, self._night_images = day_images, night_images
        self._draw_day = draw_evenly(len(day_images), seed=seed, order=Stream.DAY_ORDER)
        self._draw_night = draw_evenly(len(night_images), seed=seed, order=Stream.NIGHT_ORDER)
        self._view_px, self._crop_px, self._seed = view_px, crop_px, seed
        self._noise_shape, self._store = noise_shape, store or Undecoded()

    def __getitem__(self, position: int) -> dict[str, Tensor]:
        rng = generator(self._seed, Stream.DAY_VIEW, position)
        item = {
            name: self._crop(path, rng)
            for name, path in (
                ("day", self._day_images[self._draw_day(position)]),
                ("night", self._night_images[self._draw_night(position)]),
            )
        }
        if self._noise_shape is not None:
            item["noise"] = torch.from_numpy(rng.standard_normal(self._noise_shape, dtype=np.float32))
        return item

    def _crop(self, path: Path, rng: np.random.Generator) -> Tensor:
        return cut(view_of(self._store.image(path), self._view_px), self._crop_px, rng)


class PairedSamples(Dataset[dict[str, Tensor]]):
    """The same place by day and by night at each position of a run.

    Item: ``day`` and ``night`` (3, S, S) float RGB in [-1, 1], cut and mirrored alike.

    Args:
        day_images: of any size.
        night_images: the partner of each, squeezed alike.
        view_px: side of the square that images are squeezed into.
        crop_px: side S.
        seed: of the run.
        store: that images are read from.
    """

    def __init__(
        self,
        day_images: list[Path],
        night_images: list[Path],
        *,
        view_px: int,
        crop_px: int,
        seed: int,
        store: ImageStore | None = None,
    ) -> None:
        self._pairs = list(zip(day_images, night_images, strict=True))
        self._draw = draw_evenly(len(day_images), seed=seed, order=Stream.DAY_ORDER)
        self._view_px, self._crop_px, self._seed = view_px, crop_px, seed
        self._store = store or Undecoded()

    def __getitem__(self, position: int) -> dict[str, Tensor]:
        day, night = self._pairs[self._draw(position)]
        return {
            # each begins the stream anew, so that both are cut at the same place
            name: cut(
                view_of(self._store.image(path), self._view_px),
                self._crop_px,
                generator(self._seed, Stream.DAY_VIEW, position),
            )
            for name, path in (("day", day), ("night", night))
        }


def cut(view_bgr: np.ndarray, crop_px: int, rng: np.random.Generator) -> Tensor:
    """A random square of a square image, mirrored half the time: (3, S, S) float RGB in [-1, 1]."""
    top, left = rng.integers(len(view_bgr) - crop_px + 1, size=2)
    crop_bgr = view_bgr[top : top + crop_px, left : left + crop_px]
    return unit_input(crop_bgr[:, ::-1] if rng.random() < 0.5 else crop_bgr)
