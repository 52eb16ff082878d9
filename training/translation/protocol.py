"""What the training stage asks of a translator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from training.runs.loop import TrainingRun


class Training(Protocol):
    """One translator while it is trained.

    Attributes:
        parts: what has a state, by its name in checkpoints; averaged weights begin with ``averaged_``.
        samples: item i is what stands at position i of the run, a function of seed and position alone.
    """

    @property
    def parts(self) -> Mapping[str, Any]: ...

    @property
    def samples(self) -> Dataset[dict[str, Tensor]]: ...

    def step(self, batch: dict[str, Tensor], run: TrainingRun) -> dict[str, Tensor]:
        """One step of all networks; returns the terms of the loss, scalars, by name.

        Raises:
            InputError: at a loss that is no number.
        """

    def sheet(self) -> np.ndarray:
        """What the averaged weights make of a few images, (H, W, 3) uint8 BGR."""
