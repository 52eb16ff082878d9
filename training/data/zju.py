"""ZJU Day and Night Driving Dataset: unlabelled videos; their frames are expected in the folders day and night.

Its authors publish videos and no folders of frames; ``ffmpeg -i VIDEO -r 1 day/VIDEO_%05d.jpg`` makes them.

Source: Romera et al., "Bridging the day and night domain gap for semantic segmentation", IV 2019.
"""

from __future__ import annotations

from pathlib import Path

from darkseg_ros.frames.source import image_files


def read_unlabelled(root: Path, split: str) -> list[Path]:
    """Splits day and night."""
    return image_files(root / split)
