"""What segmentation_node makes of a camera that does not see, and how it smooths."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from tests.ros.conftest import StartNode
    from tests.ros.probe import Probe, Status

OK, WARN, ERROR = 0, 1, 2
HW = (96, 128)
FRAMES = 20  # more than any fault needs to begin or end


def frames_of(fault: str, train_id: int) -> list[np.ndarray]:
    """A camera with a fault, as the sensor would deliver it; the first pixel's blue is the class."""
    from tests.ros.probe import scene

    rng = np.random.default_rng(1)
    if fault == "dark":
        frames = [rng.integers(0, 3, (*HW, 3)).astype(np.uint8) for _ in range(FRAMES)]
    elif fault == "over_exposed":
        frames = [rng.integers(252, 256, (*HW, 3)).astype(np.uint8) for _ in range(FRAMES)]
    elif fault == "blocked":
        frames = [
            np.full((*HW, 3), 120, np.uint8) + rng.integers(0, 3, (*HW, 3)).astype(np.uint8) for _ in range(FRAMES)
        ]
    elif fault == "frozen":
        frames = [scene((train_id, 200), HW, seed=0)] * FRAMES
    else:
        frames = [scene((train_id, 200), HW, seed=seed) for seed in range(FRAMES)]
    return frames


class Camera:
    """Sends frames one by one, each when the one before was dealt with."""

    def __init__(self, probe: Probe) -> None:
        self._probe = probe
        self.publisher, self.class_maps = probe.connect()

    def send(self, frames: list[np.ndarray]) -> list[int]:
        from tests.ros.probe import image

        stamps = []
        for bgr in frames:
            stamps.append(self._probe.next_stamp())
            self.publisher.publish(image(bgr, stamps[-1]))
            time.sleep(0.05)
        return stamps

    def settled(self) -> Status:
        """The status once all frames are dealt with."""
        return self._probe.status(lambda status: status.number("frames_in_progress") == 0)


@pytest.mark.parametrize("fault", ["dark", "over_exposed", "blocked", "frozen"])
def test_each_fault_of_the_camera_is_flagged_and_ends(probe: Probe, segmentation_node: StartNode, fault: str) -> None:
    segmentation_node(stale_after_ms=0)
    camera = Camera(probe)
    stamps = camera.send(frames_of(fault, 3))
    status = probe.status(lambda status: "the camera is" in status.message and "frames_in" in status.values)
    assert (status.level, status.message) == (WARN, f"the camera is {fault}: class maps are not to be trusted")
    assert status.values["camera"].startswith(f"{fault}: ")
    assert float(status.values["camera_median_level"]) >= 0
    camera.class_maps.of_stamp(stamps[-1])  # class maps go on
    camera.send(frames_of("none", 3))
    assert probe.status(lambda status: status.level == OK).values["camera"] == "healthy"


def test_unlabel_makes_every_pixel_255_until_the_camera_sees_again(probe: Probe, segmentation_node: StartNode) -> None:
    from tests.ros.probe import pixels

    segmentation_node(on_unhealthy_camera="unlabel", stale_after_ms=0)
    camera = Camera(probe)
    *_, last = camera.send(frames_of("dark", 3))
    answer = camera.class_maps.of_stamp(last)
    np.testing.assert_array_equal(pixels(answer), np.full(HW, 255, np.uint8))
    status = probe.status(lambda status: "the camera is" in status.message)
    assert (status.level, status.message) == (ERROR, "the camera is dark: all pixels are unlabelled")
    *_, last = camera.send(frames_of("none", 3))
    assert (pixels(camera.class_maps.of_stamp(last)) == 3).all()


def test_silence_publishes_nothing_and_counts_until_the_camera_sees_again(
    probe: Probe, segmentation_node: StartNode
) -> None:
    segmentation_node(stale_after_ms=0)
    camera = Camera(probe)
    assert probe.set_parameter("on_unhealthy_camera", "silence").successful  # live
    *_, last = camera.send(frames_of("dark", 3))
    status = probe.status(lambda status: status.number("dropped_unhealthy_camera") > 0)
    status = probe.status(lambda status: "the camera is" in status.message)
    assert (status.level, status.message) == (ERROR, "the camera is dark: no class maps")
    assert last not in camera.class_maps.stamps
    *_, last = camera.send(frames_of("none", 3))
    camera.class_maps.of_stamp(last)
    status = camera.settled()
    assert status.number("frames_in") == status.number("frames_published") + status.dropped


def test_smoothing_lets_a_new_class_wait_for_half_the_votes_and_is_off_by_default(
    probe: Probe, segmentation_node: StartNode
) -> None:
    from tests.ros.probe import pixels, scene

    segmentation_node(stale_after_ms=0)
    camera = Camera(probe)

    def classes_after_a_change(first: int, second: int) -> list[int]:
        before = [scene((first, 200), HW, seed=seed) for seed in range(6)]
        after = [scene((second, 200), HW, seed=seed) for seed in range(6, 9)]
        stamps = camera.send([*before, *after])[-3:]
        return [int(pixels(camera.class_maps.of_stamp(stamp))[0, 0]) for stamp in stamps]

    assert classes_after_a_change(3, 5) == [5, 5, 5]
    assert probe.set_parameter("smoothing_frames", 5).successful  # live
    # five votes: the third new one makes the majority
    assert classes_after_a_change(7, 9) == [7, 7, 9]
