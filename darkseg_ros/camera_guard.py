"""From a camera frame to what is published for it: the camera is looked at first, the answer smoothed last."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from darkseg_ros.camera_health import CameraCondition, CameraFault, CameraHealth
from darkseg_ros.classes import IGNORE_INDEX
from darkseg_ros.segmenter import Segmentation, Segmenter
from darkseg_ros.stream_monitor import Health, HealthLevel
from darkseg_ros.temporal_smoothing import TemporalSmoother

FLAG, UNLABEL, SILENCE = "flag", "unlabel", "silence"
"""What becomes of the frames of an unhealthy camera: segmented as ever, all pixels IGNORE_INDEX, no answer."""


@dataclass(frozen=True)
class GuardedAnswer:
    """What came of one frame.

    Attributes:
        camera: the condition of the camera, this frame included.
        segmentation: None where the policy is silence and the camera unhealthy.
        segmented: whether the engine ran.
    """

    camera: CameraCondition
    segmentation: Segmentation | None
    segmented: bool


class CameraGuard:
    """Keeps what must be remembered of one stream: the camera's condition and the frames to smooth with.

    One thread gives it every frame; `forget_drive` may be called from another.
    """

    def __init__(self) -> None:
        self._health = CameraHealth()
        self._smoother: TemporalSmoother | None = None
        self._drive_is_over = False

    def forget_drive(self) -> None:
        """The next frame is no neighbour of the one before: nothing is smoothed across."""
        self._drive_is_over = True

    def __call__(
        self, segmenter: Segmenter, bgr: np.ndarray, *, on_unhealthy_camera: str, smoothing_frames: int
    ) -> GuardedAnswer:
        """Judge and segment one frame.

        Args:
            segmenter: raises what `Segmenter` raises.
            bgr: (H, W, 3) uint8.
            on_unhealthy_camera: FLAG, UNLABEL or SILENCE.
            smoothing_frames: frames that vote, this one included; 0 and 1 smooth nothing.
        """
        camera = self._health.check(bgr)
        if not camera.healthy and on_unhealthy_camera != FLAG:
            self._smoother = None
            withheld = None if on_unhealthy_camera == SILENCE else _unlabelled(bgr.shape[:2])
            return GuardedAnswer(camera, withheld, segmented=False)
        segmentation = segmenter(bgr)
        if smoother := self._smoother_of(smoothing_frames):
            segmentation = smoother(segmentation)
        return GuardedAnswer(camera, segmentation, segmented=True)

    def _smoother_of(self, frames: int) -> TemporalSmoother | None:
        if frames < 2:
            self._smoother = None
        elif self._smoother is None or self._smoother.frames != frames or self._drive_is_over:
            self._smoother = TemporalSmoother(frames)
        self._drive_is_over = False
        return self._smoother


def camera_verdict(camera: CameraCondition, *, on_unhealthy_camera: str) -> Health | None:
    """None for a healthy camera; a warning while class maps go on, an error where they are withheld."""
    if camera.healthy:
        return None
    faults = ", ".join(fault.value for fault in CameraFault if fault in camera.faults)
    level, consequence = {
        FLAG: (HealthLevel.WARN, "class maps are not to be trusted"),
        UNLABEL: (HealthLevel.ERROR, "all pixels are unlabelled"),
        SILENCE: (HealthLevel.ERROR, "no class maps"),
    }[on_unhealthy_camera]
    return Health(level, f"the camera is {faults}: {consequence}")


def _unlabelled(camera_hw: tuple[int, ...]) -> Segmentation:
    return Segmentation(
        class_map=np.full(camera_hw, IGNORE_INDEX, np.uint8),
        confidence=np.zeros(camera_hw, np.uint8),
        inference_ms=0.0,
    )
