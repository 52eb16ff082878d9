"""The backend for tests: the answer is written in the frame, and slowness and failure come on demand."""

from __future__ import annotations

import os
import time

import numpy as np

from darkseg_ros.classes import NUM_CLASSES
from darkseg_ros.engine.protocol import EngineOutput
from darkseg_ros.errors import EngineError

DELAY_VARIABLE = "DARKSEG_FAKE_ENGINE_DELAY_MS"
FAILING_BGR = (255, 0, 255)


class FakeEngine:
    """class_map = blue channel mod 19, confidence = green channel.

    Takes DARKSEG_FAKE_ENGINE_DELAY_MS milliseconds (environment, default 0) a call, and raises on a batch in which
    every pixel is pure magenta.
    """

    name = "fake"

    def __call__(self, frames: np.ndarray) -> EngineOutput:
        time.sleep(float(os.environ.get(DELAY_VARIABLE, "0")) / 1000)
        if (frames == FAILING_BGR).all():
            raise EngineError("the fake engine fails on an all-magenta frame")
        return EngineOutput(class_map=frames[..., 0] % NUM_CLASSES, confidence=frames[..., 1].copy())

    def close(self) -> None:
        """Nothing to release."""
