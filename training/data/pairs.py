"""Labelled and unlabelled images on disk, and what a training step draws from them.

Every draw is a pure function of (seed, position in the run), never of a generator's state: a resumed run continues
exactly, and the number of loader processes changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from darkseg_ros.classes import NUM_CLASSES
from darkseg_ros.errors import InputError
from darkseg_ros.frames.labelled import LabelledImage, pair_files, read_label_map, read_labelled
from darkseg_ros.frames.source import image_files, read_image
from darkseg_ros.night.cheap_night import CheapNight, darken
from training.data.augmentation import Augmentation, augment_labelled

IMAGENET_MEAN_RGB = (0.485, 0.456, 0.406)
IMAGENET_STD_RGB = (0.229, 0.224, 0.225)


def find_images(folder: Path) -> list[Path]:
    """All pictures of a folder, sorted by name.

    Raises:
        InputError: if the folder is missing or holds no picture.
    """
    try:
        return image_files(folder)
    except InputError as error:
        raise InputError(f"{error}; set DARKSEG_DATA or the data.* keys of the config") from error


def find_labelled_images(folder: Path) -> list[LabelledImage]:
    """Pairs of ``image/<stem>.*`` and ``label/<stem>.*``, sorted by stem.

    Raises:
        InputError: if a folder is missing or empty, or a file has no partner.
    """
    return pair_files(folder / "image", folder / "label")


def find_labelled_pool(folders: list[Path]) -> list[LabelledImage]:
    """The pairs of several folders, one after the other: each image counts alike, whatever its folder.

    Raises:
        InputError: if there is no folder, one is named twice, or as `find_labelled_images`.
    """
    if not folders or len({folder.resolve() for folder in folders}) < len(folders):
        raise InputError(
            f"data.source names {[str(folder) for folder in folders]}; expected one folder or more, each once"
        )
    return [pair for folder in folders for pair in find_labelled_images(folder)]


def find_pseudo_labelled_images(images: Path, labels: Path) -> list[LabelledImage]:
    """The images of a folder that have a label map ``<stem>.png`` in another, sorted by stem.

    Raises:
        InputError: if there is none.
    """
    pairs = [LabelledImage(image, labels / f"{image.stem}.png") for image in find_images(images)]
    pairs = [pair for pair in pairs if pair.label.is_file()]
    if not pairs:
        raise InputError(f"{labels} has no label map for any image of {images}; run training.pseudo_label first")
    return pairs


def network_input(bgr: np.ndarray) -> Tensor:
    """(H, W, 3) uint8 BGR → (3, H, W) float RGB, ImageNet-normalised."""
    rgb = torch.from_numpy(np.ascontiguousarray(bgr[:, :, ::-1])).permute(2, 0, 1).float().div_(255)
    return rgb.sub_(torch.tensor(IMAGENET_MEAN_RGB).view(3, 1, 1)).div_(torch.tensor(IMAGENET_STD_RGB).view(3, 1, 1))


def class_shares(images: list[LabelledImage]) -> np.ndarray:
    """Share of each class in the pixels of each image, (N, 19) float; unlabelled pixels belong to none.

    Raises:
        InputError: naming the file, if a label map cannot be used, or if none has a labelled pixel.
    """
    counts = [np.bincount(read_label_map(image.label).ravel(), minlength=256) for image in images]
    shares = np.stack([count[:NUM_CLASSES] / count.sum() for count in counts])
    if not shares.any():
        raise InputError(f"{images[0].label.parent} labels no pixel; expected train ids 0…{NUM_CLASSES - 1} in it")
    return shares


def class_weights(shares: np.ndarray, *, exponent: float) -> np.ndarray:
    """Loss weights that favour rare classes: (1 / share)^exponent, 1 for the average pixel.

    Args:
        shares: (N, 19) of `class_shares`.
        exponent: 0 weighs all pixels alike, 1 all classes.

    Returns:
        (19,) float; a class that never occurs weighs as much as the rarest.

    Source: frequency balancing of Eigen and Fergus, ICCV 2015 (arXiv 1411.4734), section 3.3.
    Differs: the exponent, and the mean over pixels instead of the median over classes.
    """
    mean_share = shares.mean(0)
    occurring = mean_share[mean_share > 0]
    weights = np.maximum(mean_share, occurring.min()) ** -exponent
    return weights / ((weights * mean_share).sum() / mean_share.sum())


class RareClassDraw:
    """Which labelled image stands at a position of the run: a share of them by a rare class, the others evenly.

    Args:
        shares: (N, 19) of `class_shares`.
        seed: of the run.
        share: of positions drawn by class instead of evenly.
        temperature: lower prefers rarer classes.

    Source: rare class sampling of Hoyer et al., DAFormer, CVPR 2022 (arXiv 2111.14887), equations 7 and 8.
    Differs: only a `share` of the positions; images count for a class from 0.1 % of their pixels on.
    """

    def __init__(self, shares: np.ndarray, *, seed: int, share: float, temperature: float) -> None:
        self._count, self._seed, self._share = len(shares), seed, share
        weights = np.exp(-shares.mean(0) / temperature)
        self._images_of_class = [np.flatnonzero(shares[:, c] >= 0.001) for c in range(NUM_CLASSES)]
        weights[[len(images) == 0 for images in self._images_of_class]] = 0
        self._class_probability = weights / weights.sum()

    def __call__(self, position: int) -> int:
        """Index of the image at `position` ≥ 0; even draws visit every image once an epoch."""
        rng = np.random.default_rng((self._seed, 1, position))
        if rng.random() < self._share:
            chosen = rng.choice(NUM_CLASSES, p=self._class_probability)
            return int(rng.choice(self._images_of_class[chosen]))
        epoch, offset = divmod(position, self._count)
        return int(np.random.default_rng((self._seed, 2, epoch)).permutation(self._count)[offset])


def draw_evenly(count: int, *, seed: int) -> RareClassDraw:
    """The draw that visits each of `count` images once an epoch."""
    return RareClassDraw(np.ones((count, NUM_CLASSES)), seed=seed, share=0.0, temperature=1.0)


class LabelledSamples(Dataset[dict[str, Tensor]]):
    """The labelled image at each position of a run, darkened on `cheap_night.share` of them, then augmented.

    Item: ``images`` (3, S, S) float; ``labels`` (S, S) int64 train ids, 255 = no label.
    """

    def __init__(
        self,
        pairs: list[LabelledImage],
        night_images: list[Path],
        *,
        draw: RareClassDraw,
        augmentation: Augmentation,
        cheap_night: CheapNight,
        seed: int,
    ) -> None:
        self._pairs, self._night_images, self._draw = pairs, night_images, draw
        self._augmentation, self._cheap_night, self._seed = augmentation, cheap_night, seed

    def __getitem__(self, position: int) -> dict[str, Tensor]:
        rng = np.random.default_rng((self._seed, 3, position))
        bgr, label_map = read_labelled(self._pairs[self._draw(position)])
        if rng.random() < self._cheap_night.share:
            night_bgr = read_image(self._night_images[rng.integers(len(self._night_images))])
            bgr = darken(bgr, night_bgr, self._cheap_night, rng)
        bgr, label_map = augment_labelled(bgr, label_map, self._augmentation, rng)
        return {"images": network_input(bgr), "labels": torch.from_numpy(label_map.astype(np.int64))}


class PositionSampler(Sampler[int]):
    """The positions of one process: from `start_step` to `stop_step`, its slice of every global batch."""

    def __init__(self, *, start_step: int, stop_step: int, batch_size: int, rank: int, world_size: int) -> None:
        if batch_size % world_size:
            raise InputError(
                f"a batch of {batch_size} does not split over {world_size} processes; "
                "set batch sizes to multiples of devices · num_nodes"
            )
        self._steps = range(start_step, stop_step)
        self._batch_size, self._local_size, self._rank = batch_size, batch_size // world_size, rank

    def __iter__(self) -> Iterator[int]:
        for step in self._steps:
            first = step * self._batch_size + self._rank * self._local_size
            yield from range(first, first + self._local_size)

    def __len__(self) -> int:
        return len(self._steps) * self._local_size
