"""What every backend offers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from darkseg_ros.errors import EngineError


@dataclass(frozen=True)
class EngineOutput:
    """Answer to a batch, in arrays of its own: callers keep them while the engine runs again.

    Attributes:
        class_map: (N, H, W) uint8 train ids.
        confidence: (N, H, W) uint8, 255 · maximum softmax probability.
    """

    class_map: np.ndarray
    confidence: np.ndarray


def check_confidence(confidence: np.ndarray, class_count: int) -> None:
    """Refuse what no softmax answers: the largest of K probabilities is 1 / K or more.

    NaN and infinite logits become class 0 and confidence 0 inside a fused graph, which look like an answer.

    Args:
        confidence: uint8, 255 · maximum softmax probability, of any shape but an empty one.
        class_count: K.

    Raises:
        EngineError: if a value lies below 255 / K.
    """
    lowest = int(confidence.min())
    if lowest < 255 // class_count:
        raise EngineError(
            f"a confidence of {lowest} is below 255 / {class_count}, which no softmax over {class_count} classes "
            "gives: the network's logits hold NaN or infinity, and the frame gets no class map; export the model again"
        )


class Engine(Protocol):
    """A live graph. Not thread-safe beyond its `streams`."""

    @property
    def name(self) -> str:
        """Backend, precision and library version, for logs and diagnostics."""

    @property
    def batch_max(self) -> int:
        """Frames that it computes together, ≥ 1; of more it computes some after the others."""

    @property
    def streams(self) -> int:
        """Threads that may call it at the same time, ≥ 1."""

    def __call__(self, frames: np.ndarray) -> EngineOutput:
        """Run on (N, H, W, 3) uint8 BGR frames of the bundle's network_hw.

        Raises:
            EngineError: if the library fails, or its answer holds NaN or infinity.
        """

    def close(self) -> None:
        """Release the library's memory; the engine cannot be used afterwards."""
