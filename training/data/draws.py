"""Which image stands at a position of a run, and which positions a process takes.

Every draw is a pure function of (seed, position in the run), never of a generator's state: a resumed run continues
exactly, and the number of loader processes changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

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
        self._epoch, self._order_of_epoch = -1, np.empty(0, np.int64)  # kept, since it takes long for many images

    def __call__(self, position: int) -> int:
        """Index of the image at `position` ≥ 0; even draws visit every image once an epoch."""
        rng = generator(self._seed, Stream.LABELLED_CHOICE, position)
        if rng.random() < self._share:
            chosen = rng.choice(len(self._class_probability), p=self._class_probability)
            return int(rng.choice(self._images_of_class[chosen]))
        epoch, offset = divmod(position, self._count)
        if epoch != self._epoch:
            self._order_of_epoch = generator(self._seed, self._order, epoch).permutation(self._count)
            self._epoch = epoch
        return int(self._order_of_epoch[offset])


def draw_evenly(count: int, *, seed: int, order: Stream) -> RareClassDraw:
    """The draw that visits each of `count` images once an epoch, in an order of its own in each."""
    return RareClassDraw(np.ones((count, 1)), seed=seed, share=0.0, temperature=1.0, order=order)


class GroupedDraw:
    """The draw that takes equally many images of each group in every batch, group after group.

    The processes of a run take slices of each batch: where the number of groups is a multiple of theirs, no two
    processes meet an image of the same group. What is drawn does not depend on the number of processes.

    Args:
        groups: indices of the images of each.
        draws: of each group, from a position to a place in its indices.
        batch_size: images a step, over all processes.

    Raises:
        InputError: if the batch does not split over the groups.
    """

    def __init__(self, groups: Sequence[np.ndarray], draws: Sequence[Callable[[int], int]], *, batch_size: int) -> None:
        if batch_size % len(groups):
            raise InputError(
                f"a batch of {batch_size} does not split over {len(groups)} groups; set batch_size to a multiple of "
                "data.shard_groups"
            )
        self._groups, self._draws = groups, draws
        self._batch_size, self._of_each = batch_size, batch_size // len(groups)

    def __call__(self, position: int) -> int:
        """Index of the image at `position` ≥ 0."""
        step, slot = divmod(position, self._batch_size)
        group, offset = divmod(slot, self._of_each)
        return int(self._groups[group][self._draws[group](step * self._of_each + offset)])


def draw_labelled(
    shares: np.ndarray, groups: Sequence[np.ndarray], *, seed: int, share: float, temperature: float, batch_size: int
) -> Callable[[int], int]:
    """`RareClassDraw` from all images, or from each of several groups with a seed of its own.

    Args:
        shares: (N, K) of `class_shares`.
        groups: indices of the images of each.
        seed: of the run.
        share: of `RareClassDraw`.
        temperature: of `RareClassDraw`.
        batch_size: images a step, over all processes.

    Raises:
        InputError: as `GroupedDraw`.
    """
    if len(groups) == 1:
        return RareClassDraw(shares, seed=seed, share=share, temperature=temperature)
    seeds = generator(seed, Stream.GROUP_SEED).integers(2**32, size=len(groups))
    draws = [
        RareClassDraw(shares[group], seed=int(own_seed), share=share, temperature=temperature)
        for group, own_seed in zip(groups, seeds, strict=True)
    ]
    return GroupedDraw(groups, draws, batch_size=batch_size)


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
