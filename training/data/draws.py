"""Which image stands at a position of a run, and which positions a process takes.

Every draw is a pure function of (seed, position in the run), never of a generator's state: a resumed run continues
exactly, and the number of loader processes changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from darkseg_ros.errors import InputError
from training.data.random_streams import Stream, generator


class RareClassDraw:
    """Which labelled image stands at a position of the run: a share of them by a rare class, the others evenly.

    Args:
        shares: (N, K) of `class_shares`.
        seed: of the run.
        share: of positions drawn by class instead of evenly.
        temperature: lower prefers rarer classes.
        order: stream of the order within an epoch.

    Source: rare class sampling of Hoyer et al., DAFormer, CVPR 2022 (arXiv 2111.14887), equations 7 and 8.
    Differs: only a `share` of the positions; images count for a class from 0.1 % of their pixels on.
    """

    def __init__(
        self,
        shares: np.ndarray,
        *,
        seed: int,
        share: float,
        temperature: float,
        order: Stream = Stream.LABELLED_ORDER,
    ) -> None:
        self._count, self._seed, self._share, self._order = len(shares), seed, share, order
        weights = np.exp(-shares.mean(0) / temperature)
        self._images_of_class = [np.flatnonzero(shares[:, c] >= 0.001) for c in range(shares.shape[1])]
        weights[[len(images) == 0 for images in self._images_of_class]] = 0
        self._class_probability = weights / weights.sum()

    def __call__(self, position: int) -> int:
        """Index of the image at `position` ≥ 0; even draws visit every image once an epoch."""
        rng = generator(self._seed, Stream.LABELLED_CHOICE, position)
        if rng.random() < self._share:
            chosen = rng.choice(len(self._class_probability), p=self._class_probability)
            return int(rng.choice(self._images_of_class[chosen]))
        epoch, offset = divmod(position, self._count)
        return int(generator(self._seed, self._order, epoch).permutation(self._count)[offset])


def draw_evenly(count: int, *, seed: int, order: Stream) -> RareClassDraw:
    """The draw that visits each of `count` images once an epoch, in an order of its own in each."""
    return RareClassDraw(np.ones((count, 1)), seed=seed, share=0.0, temperature=1.0, order=order)


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
