"""Small videos for tests."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np


def write_video(path: Path, *, frames: int, rate_hz: float = 10.0, size_hw: tuple[int, int] = (48, 64)) -> Path:
    """Write grey frames of level 20 × index, modulo 240, as MPEG-4 in .mp4 or MJPG in .avi."""
    codec = {".mp4": "mp4v", ".avi": "MJPG"}[path.suffix]
    height, width = size_hw
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), rate_hz, (width, height))
    assert writer.isOpened(), f"this OpenCV cannot write {codec}"
    for index in range(frames):
        writer.write(np.full((height, width, 3), 20 * index % 240, np.uint8))
    writer.release()
    return path
