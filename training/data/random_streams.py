"""Every random stream of a training run, named once.

A stream is a pure function of (seed, stream, position): a resumed run continues exactly, and the number of processes
changes nothing. Two draws that must not depend on each other take two streams.
"""

from __future__ import annotations

from enum import IntEnum, unique

import numpy as np


@unique
class Stream(IntEnum):
    """What is drawn; the number is part of the seed. A number is given once and stays."""

    LABELLED_CHOICE = 1
    """Labelled image at a position: by a rare class or evenly, and which."""
    LABELLED_ORDER = 2
    """Order of the labelled images within an epoch."""
    LABELLED_VIEW = 3
    """Darkening, crop, flip, scale and colour of the labelled image at a position."""
    CLASS_MIX = 5
    """Which classes are pasted onto the night image at a position, by step."""
    MIX_OR_NOT = 6
    """Whether a step pastes at all."""
    DAY_VIEW = 7
    """Crops and latent noise of a translator's pair at a position."""
    DROPOUT = 8
    """By step and process."""
    NIGHT_ORDER = 10
    """Order of the night images within an epoch."""
    NIGHT_VIEW = 11
    """Crop, flip, scale and colour of the night image at a position."""
    DAY_ORDER = 12
    """Order of a translator's day images within an epoch."""
    OBJECT_WARP = 14
    """Whether the objects of the labelled image at a position are magnified."""
    MASKED_BLOCKS = 15
    """Which blocks of the night image at a position are blacked out, by step."""
    GROUP_SEED = 16
    """Seeds of the draws of each group of shards."""
    IMAGE_POOL = 17
    """Which earlier translation a discriminator is shown, by domain and position."""


def generator(seed: int, stream: Stream, *position: int) -> np.random.Generator:
    """The generator of one stream at one place.

    Args:
        seed: of the run.
        stream: what is drawn.
        position: place in the run: of an image, a step, an epoch or a process; as many numbers wherever a stream is
            drawn from (numpy takes (1, 2) and (1, 2, 0) for the same seed).
    """
    return np.random.default_rng((seed, stream, *position))
