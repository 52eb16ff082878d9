"""The frames that contestants see."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np

from darkseg_ros.errors import InputError
from darkseg_ros.frames.source import open_frames
from darkseg_ros.synthetic_drive import SyntheticDrive

FRAMES_MAX = 60
"""Enough that no cache holds them all; all are held in memory."""

GENERATED_NAME = "generated night drive"

_GENERATED_HW = (512, 1024)
_GENERATED_STEP = 10  # a third of a second apart, so that no two look alike
_GENERATED_SEED = 7


def generated_frames() -> np.ndarray:
    """FRAMES_MAX frames of a night drive, (N, 512, 1024, 3) uint8 BGR; the same on each call."""
    drive = SyntheticDrive(seed=_GENERATED_SEED, size_hw=_GENERATED_HW, night=True)
    return np.stack([drive.frame(index * _GENERATED_STEP).bgr for index in range(FRAMES_MAX)])


def read_frames(path: Path, *, topic: str | None = None) -> np.ndarray:
    """The first FRAMES_MAX frames of an image, a folder of images, a video or a bag.

    Args:
        path: as for `frames.open_frames`.
        topic: the same.

    Returns:
        (N, H, W, 3) uint8 BGR.

    Raises:
        InputError: as `frames.open_frames`, or if the frames differ in size.
    """
    frames = [frame.bgr for frame in islice(open_frames(path, topic=topic), FRAMES_MAX)]
    if not frames:
        raise InputError(f"{path} holds no frames; name another input")
    sizes = {f"{bgr.shape[1]}×{bgr.shape[0]}" for bgr in frames}
    if len(sizes) > 1:
        raise InputError(
            f"the frames of {path} have different sizes ({', '.join(sorted(sizes))}); a benchmark needs frames of one"
        )
    return np.stack(frames)
