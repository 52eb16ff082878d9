"""What a training step draws from labelled images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from darkseg_ros.frames.labelled import LabelledImage
from darkseg_ros.model.exposure import Exposure, normalise_exposure
from darkseg_ros.night.cheap_night import CheapNight, darken
from training.data.augmentation import Augmentation, augment_labelled
from training.data.cache import ImageStore, Undecoded
from training.data.network_input import network_input
from training.data.random_streams import Stream, generator


class LabelledSamples(Dataset[dict[str, Tensor]]):
    """The labelled image at each position of a run, darkened on `cheap_night.share` of them, brightened as the network
    asks, then augmented.

    Item: ``images`` (3, H, W) float; ``labels`` (H, W) int64 train ids, 255 = no label.

    Args:
        pairs: images of any size and label format.
        night_images: give their light to darkened images.
        draw: which pair stands at a position.
        augmentation: geometry and colour.
        cheap_night: how often and how far images are darkened.
        seed: of the run.
        view: stream of all that is random at a position; two pools of a run take two.
        exposure: that dark images are brightened to, of the network.
        store: that images are read from.
    """

    def __init__(
        self,
        pairs: list[LabelledImage],
        night_images: list[Path],
        *,
        draw: Callable[[int], int],
        augmentation: Augmentation,
        cheap_night: CheapNight,
        seed: int,
        view: Stream = Stream.LABELLED_VIEW,
        exposure: Exposure | None = None,
        store: ImageStore | None = None,
    ) -> None:
        self._pairs, self._night_images, self._draw = pairs, night_images, draw
        self._augmentation, self._cheap_night, self._seed, self._view = augmentation, cheap_night, seed, view
        self._exposure, self._store = exposure, store or Undecoded()

    def __getitem__(self, position: int) -> dict[str, Tensor]:
        rng = generator(self._seed, self._view, position)
        bgr, label_map = self._store.labelled(self._pairs[self._draw(position)])
        if rng.random() < self._cheap_night.share:
            night_bgr = self._store.image(self._night_images[rng.integers(len(self._night_images))])
            bgr = darken(bgr, night_bgr, self._cheap_night, rng)
        if self._exposure is not None:
            bgr = np.ascontiguousarray(bgr)
            normalise_exposure(bgr, self._exposure)
        bgr, label_map = augment_labelled(bgr, label_map, self._augmentation, rng)
        return {"images": network_input(bgr), "labels": torch.from_numpy(label_map.astype(np.int64))}
