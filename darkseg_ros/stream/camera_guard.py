"""What must be remembered of a camera's frames: its condition, and the answers to smooth with."""

from __future__ import annotations

import numpy as np

from darkseg_ros.classes import IGNORE_INDEX
from darkseg_ros.model.segmenter import Segmentation
from darkseg_ros.stream.camera_health import CameraCondition, CameraFault, CameraHealth
from darkseg_ros.stream.monitor import Health, HealthLevel
from darkseg_ros.stream.temporal_smoothing import TemporalSmoother

FLAG, UNLABEL, SILENCE = "flag", "unlabel", "silence"
"""What becomes of the frames of an unhealthy camera: segmented as ever, all pixels IGNORE_INDEX, no answer."""


_JUDGED_APART_NS = 20_000_000
"""A frame that comes sooner behind the one judged last shares its judgement: faults last, and above 50 Hz the judgement
takes as long as all else that the node does with a frame."""


class CameraGuard:
    """Keeps what must be remembered of one stream: the camera's condition and the frames to smooth with.

    Not thread-safe: one thread gives it every frame.
    """

    def __init__(self) -> None:
        self._health = CameraHealth()
        self._smoother: TemporalSmoother | None = None
        self._drive = 0
        self._judged: tuple[int, CameraCondition] | None = None

    def begin(self, *, drive: int) -> None:
        """The next frame is of this drive; nothing is smoothed across two."""
        if drive != self._drive:
            self._drive, self._smoother, self._judged = drive, None, None

    def look(self, bgr: np.ndarray, *, stamp_ns: int) -> CameraCondition:
        """Judge the camera by one more frame; at more than 50 frames a second by some of them.

        Args:
            bgr: (H, W, 3) uint8.
            stamp_ns: of the frame.
        """
        if self._judged is None or abs(stamp_ns - self._judged[0]) >= _JUDGED_APART_NS:
            self._judged = stamp_ns, self._health.check(bgr)
        return self._judged[1]

    def instead(self, camera_hw: tuple[int, ...], *, on_unhealthy_camera: str) -> Segmentation | None:
        """What is published for a frame of an unhealthy camera; None where the policy is silence.

        Args:
            camera_hw: the frame's size.
            on_unhealthy_camera: UNLABEL or SILENCE.
        """
        self._smoother = None
        return None if on_unhealthy_camera == SILENCE else _unlabelled(camera_hw)

    def steady(self, segmentation: Segmentation, *, smoothing_frames: int) -> Segmentation:
        """Smooth the answer to the frame looked at last.

        Args:
            segmentation: kept, so its arrays must not be changed.
            smoothing_frames: frames that vote, this one included; 0 and 1 smooth nothing.
        """
        smoother = self._smoother_of(smoothing_frames)
        return segmentation if smoother is None else smoother(segmentation)

    def _smoother_of(self, frames: int) -> TemporalSmoother | None:
        if frames < 2:
            self._smoother = None
        elif self._smoother is None or self._smoother.frames != frames:
            self._smoother = TemporalSmoother(frames)
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
        engine_class_map=np.full(camera_hw, IGNORE_INDEX, np.uint8),
        engine_confidence=np.zeros(camera_hw, np.uint8),
        camera_hw=camera_hw,
        inference_ms=0.0,
    )
