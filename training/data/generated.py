"""Generated street scenes as a data set: labelled day, unlabelled night, and labelled day and night to judge by."""

from __future__ import annotations

from pathlib import Path

from tqdm import tqdm

from darkseg_ros.errors import InputError
from darkseg_ros.synthetic_drive import SyntheticDrive
from training.runs.results import write_picture

_FRAMES_OF_A_STREET = 8
_FRAMES_APART = 40
_PARTS = {"train": (False, 1.0), "night": (True, 0.5), "validation/day": (False, 0.2), "validation/night": (True, 0.2)}
"""By folder: whether it is night there, and how many images there are for one of ``train``."""


def write_generated(out: Path, *, images: int, size_hw: tuple[int, int]) -> None:
    """Write ``train/{image,label}``, ``night/`` and ``validation/{day,night}/{image,label}``.

    No street is in two of them. Each image is a pure function of its place, so the files are the same each time.

    Args:
        out: a new folder, or one that this wrote.
        images: of ``train``; there are half as many by night, and a fifth to judge by, of each light.
        size_hw: of the images, pixels.

    Raises:
        InputError: if there are too few or too small images, or `out` cannot be written.
    """
    if images < _FRAMES_OF_A_STREET:
        raise InputError(f"--images is {images}; expected {_FRAMES_OF_A_STREET} or more")
    seed = 0
    for part, (night, share) in _PARTS.items():
        count = max(round(images * share), 1)
        for index in tqdm(range(count), desc=part, unit="image", mininterval=10):
            if index % _FRAMES_OF_A_STREET == 0:
                seed += 1
                try:
                    drive = SyntheticDrive(seed=seed, size_hw=size_hw, night=night)
                except ValueError as error:
                    raise InputError(f"--size-hw: {error}") from error
            scene = drive.frame(index % _FRAMES_OF_A_STREET * _FRAMES_APART)
            if part == "night":
                write_picture(out / part / f"{index:05d}.png", scene.bgr)
            else:
                write_picture(out / part / "image" / f"{index:05d}.png", scene.bgr)
                write_picture(out / part / "label" / f"{index:05d}.png", scene.label_map)
