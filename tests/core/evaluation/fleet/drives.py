"""Drives whose answers the fake engine reads off their pictures: blue modulo 19, with the confidence of green."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from darkseg_ros.frames.bags import IMAGE_TOPIC, LABEL_TOPIC, BagWriter

HW = (32, 64)
START_NS = 1_700_000_000_000_000_000
"""2023-11-14 22:13:20 UTC."""


def write_drive(
    path: Path,
    *,
    wrong_share: float = 0.0,
    frames: int = 3,
    hours: int = 0,
    labelled: bool = True,
    camera: str = "",
    confidence: int = 255,
) -> Path:
    """Write a drive of road (0), of which a share of the pixels is called sky (10).

    Args:
        path: of the bag.
        wrong_share: 0…1, whole columns from the left.
        frames: at 10 Hz.
        hours: after START_NS.
        labelled: with label maps.
        camera: namespace before the topics.
        confidence: 0…255, of every pixel.
    """
    bgr = np.zeros((*HW, 3), np.uint8)
    bgr[:, : round(wrong_share * HW[1]), 0] = 10
    bgr[..., 1] = confidence
    with BagWriter(path) as writer:
        for index in range(frames):
            stamp_ns = START_NS + hours * 3_600_000_000_000 + index * 100_000_000
            bgr[0, 0, 2] = index  # no two frames have the same bytes
            writer.write_image(camera + IMAGE_TOPIC, bgr, stamp_ns=stamp_ns, frame_id="camera")
            if labelled:
                label_map = np.zeros(HW, np.uint8)
                writer.write_image(
                    camera + LABEL_TOPIC, label_map, stamp_ns=stamp_ns, frame_id="camera", encoding="mono8"
                )
    return path
