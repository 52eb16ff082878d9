"""The backend for tests: the answer is written in the frame, and slowness, failure and hanging come on demand."""

from __future__ import annotations

import os
import time

import numpy as np

from darkseg_ros.classes import CITYSCAPES, ClassTable
from darkseg_ros.errors import DeviceLostError, EngineError
from darkseg_ros.model.backends.protocol import EngineOutput

DELAY_VARIABLE = "DARKSEG_FAKE_ENGINE_DELAY_MS"
OPENING_VARIABLE = "DARKSEG_FAKE_ENGINE_OPENING_MS"
HANG_VARIABLE = "DARKSEG_FAKE_ENGINE_HANG_MS"
FAILING_BGR = (255, 0, 255)
HANGING_BGR = (0, 255, 255)
DEVICE_LOST_BGR = (255, 255, 0)


class FakeEngine:
    """class_map = blue channel modulo the number of classes, confidence = green channel.

    Times come from the environment, in milliseconds: DARKSEG_FAKE_ENGINE_OPENING_MS to open it,
    DARKSEG_FAKE_ENGINE_DELAY_MS for each call (both 0 by default), DARKSEG_FAKE_ENGINE_HANG_MS (an hour) for a batch
    with a frame of pure yellow. A batch with a frame of pure magenta raises; one of pure cyan loses the device.
    """

    name = "fake"
    batch_max = 16
    streams = 2

    def __init__(self, classes: ClassTable = CITYSCAPES) -> None:
        self._class_count = len(classes)
        _sleep_ms(os.environ.get(OPENING_VARIABLE, "0"))

    def __call__(self, frames: np.ndarray) -> EngineOutput:
        _sleep_ms(os.environ.get(DELAY_VARIABLE, "0"))
        if _holds_frame_of(frames, HANGING_BGR):
            _sleep_ms(os.environ.get(HANG_VARIABLE, "3600000"))
        if _holds_frame_of(frames, FAILING_BGR):
            raise EngineError("the fake engine fails on an all-magenta frame")
        if _holds_frame_of(frames, DEVICE_LOST_BGR):
            raise DeviceLostError("the fake engine loses its device to an all-cyan frame: start a new process")
        return EngineOutput(class_map=frames[..., 0] % self._class_count, confidence=frames[..., 1].copy())

    def close(self) -> None:
        """Nothing to release."""


def _holds_frame_of(frames: np.ndarray, bgr: tuple[int, int, int]) -> bool:
    return any((frame == bgr).all() for frame in frames)


def _sleep_ms(milliseconds: str) -> None:
    time.sleep(float(milliseconds) / 1000)
