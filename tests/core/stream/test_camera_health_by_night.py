"""Camera health on real night images, those below DARKSEG_DATA; no threshold was set on them.

Every twentieth image here, all of them under `make soak`, which writes the rows of docs/reliability.md.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from darkseg_ros.frames.videos import open_video
from darkseg_ros.stream.camera_health import CameraFault, CameraHealth, HealthThresholds
from tests.core.stream.lens_covers import Side, half_covered
from tests.ros.reliability import Row, RowOfFault

DATA = Path(os.environ.get("DARKSEG_DATA", "../shared/data"))
NIGHT = DATA / "target_night_unlabelled"
DRIVE = DATA / "replay" / "tmo324_night.mp4"
SIDES: tuple[Side, ...] = ("left", "right")

pytestmark = pytest.mark.skipif(not DRIVE.is_file(), reason=f"no real night at {DATA}: set DARKSEG_DATA")


def night_images(every: int) -> Iterator[np.ndarray]:
    for path in sorted(NIGHT.iterdir())[::every]:
        bgr = cv2.imread(str(path))
        assert bgr is not None, path
        yield bgr


def alone(bgr: np.ndarray) -> frozenset[CameraFault]:
    """The verdict on one image: it counts at once, as if the camera stood."""
    return CameraHealth(HealthThresholds(enter_frames=1)).check(bgr).faults


def false_alarms_alone(images: Iterable[np.ndarray]) -> tuple[int, int]:
    verdicts = [alone(bgr) for bgr in images]
    return len(verdicts), sum(bool(faults) for faults in verdicts)


def covers_found(images: Iterable[np.ndarray]) -> tuple[int, int]:
    """Covers of any level from black to dimly lit, with edges of 2 to 6 % of the frame: as many, and those found."""
    laid = found = 0
    for number, bgr in enumerate(images):
        rng = np.random.default_rng((7, number))
        for side in SIDES:
            covered = half_covered(bgr, side=side, level=rng.uniform(0, 75), edge=rng.uniform(0.02, 0.06), seed=number)
            laid += 1
            found += CameraFault.BLOCKED in alone(covered)
    return laid, found


def faulty_frames_of_the_drive(every: int) -> tuple[int, int]:
    health = CameraHealth()
    frames = faulty = 0
    for index, frame in enumerate(open_video(DRIVE).read_frames()):
        if index % every == 0:
            frames += 1
            faulty += not health.check(frame.bgr).healthy
    return frames, faulty


def test_no_real_night_image_of_a_sample_is_called_faulty() -> None:
    images, alarms = false_alarms_alone(night_images(every=20))
    assert (images, alarms) == (len(list(NIGHT.iterdir())[::20]), 0)


def test_a_half_covered_lens_is_found_in_a_sample_of_real_night_images() -> None:
    laid, found = covers_found(night_images(every=40))
    assert laid >= 2
    assert found >= 0.99 * laid


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_the_real_night_drive_and_all_night_images_raise_no_alarm() -> None:
    row = RowOfFault("camera_night")
    images, alarms = false_alarms_alone(night_images(every=1))
    frames, faulty = faulty_frames_of_the_drive(every=1)
    assert (alarms, faulty) == (0, 0)
    row.write(
        Row(
            "camera_night",
            observed=f"{alarms} alarms on {images} night images, each judged alone, and on {frames} frames of a real "
            "drive in their order",
        )
    )


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_half_covered_lens_is_found_in_99_of_100_real_night_images() -> None:
    row = RowOfFault("half_covered_lens")
    laid, found = covers_found(night_images(every=1))
    assert found >= 0.99 * laid
    row.write(
        Row(
            "half_covered_lens",
            observed=f"{found} of {laid} covers (left and right half, black to dimly lit, drawn over real night "
            "images) found, each frame judged alone",
        )
    )
