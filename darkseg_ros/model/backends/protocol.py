"""What every backend offers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class EngineOutput:
    """Answer to a batch, in arrays of its own: callers keep them while the engine runs again.

    Attributes:
        class_map: (N, H, W) uint8 train ids.
        confidence: (N, H, W) uint8, 255 · maximum softmax probability.
    """

    class_map: np.ndarray
    confidence: np.ndarray


class Engine(Protocol):
    """A live graph. Not thread-safe: one thread owns it."""

    @property
    def name(self) -> str:
        """Backend, precision and library version, for logs and diagnostics."""

    @property
    def batch_max(self) -> int:
        """Frames that it computes together, ≥ 1; of more it computes some after the others."""

    def __call__(self, frames: np.ndarray) -> EngineOutput:
        """Run on (N, H, W, 3) uint8 BGR frames of the bundle's network_hw.

        Raises:
            EngineError: if the library fails, or its answer holds NaN or infinity.
        """

    def close(self) -> None:
        """Release the library's memory; the engine cannot be used afterwards."""
