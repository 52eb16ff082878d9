from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from darkseg_ros.model.segmenter import Segmentation
from darkseg_ros.stream.camera_guard import FLAG, SILENCE, UNLABEL, CameraGuard, camera_verdict
from darkseg_ros.stream.camera_health import CameraCondition, HealthThresholds
from darkseg_ros.stream.monitor import HealthLevel

HW = (96, 128)
ENOUGH = max(HealthThresholds().enter_frames, HealthThresholds().leave_frames) + 1


@dataclass(frozen=True)
class Answer:
    """What came of a frame."""

    camera: CameraCondition
    segmented: bool
    segmentation: Segmentation | None


class Drive:
    """A guard, an engine that answers with the first pixel's blue, and frames of a camera that sees or does not."""

    def __init__(self, policy: str = FLAG, smoothing_frames: int = 0) -> None:
        self.guard = CameraGuard()
        self.drive = 0
        self.stamp_ns = 0
        self.frame_ns = 33_000_000
        self._policy = policy
        self._smoothing_frames = smoothing_frames
        self._rng = np.random.default_rng(0)

    def healthy(self, train_id: int = 3) -> Answer:
        """A textured frame by day; the first pixel says the class."""
        bgr = self._rng.integers(0, 255, (*HW, 3)).astype(np.uint8)
        bgr = np.kron(bgr[::8, ::8], np.ones((8, 8, 1), np.uint8))
        bgr[0, 0, 0] = train_id
        return self._give(bgr)

    def capped(self) -> Answer:
        """Behind a lens cap; the noise changes every frame."""
        return self._give(self._rng.integers(0, 4, (*HW, 3)).astype(np.uint8))

    def _give(self, bgr: np.ndarray) -> Answer:
        self.guard.begin(drive=self.drive)
        self.stamp_ns += self.frame_ns
        camera = self.guard.look(bgr, stamp_ns=self.stamp_ns)
        if self._policy != FLAG and not camera.healthy:
            return Answer(camera, False, self.guard.instead(bgr.shape[:2], on_unhealthy_camera=self._policy))
        class_map = np.full(bgr.shape[:2], bgr[0, 0, 0] % 19, np.uint8)
        segmentation = Segmentation(class_map, np.full(bgr.shape[:2], 200, np.uint8), bgr.shape[:2], inference_ms=1.0)
        return Answer(camera, True, self.guard.steady(segmentation, smoothing_frames=self._smoothing_frames))


@pytest.mark.parametrize("policy", [FLAG, UNLABEL, SILENCE])
def test_a_healthy_camera_is_segmented_whatever_the_policy(policy: str) -> None:
    answer = Drive(policy).healthy(train_id=7)
    assert answer.camera.healthy
    assert answer.segmented
    assert (answer.segmentation.class_map == 7).all()
    assert camera_verdict(answer.camera, on_unhealthy_camera=policy) is None


def test_flagged_frames_are_segmented_and_a_warning() -> None:
    drive = Drive(FLAG)
    *_, answer = (drive.capped() for _ in range(ENOUGH))
    assert answer.segmented
    verdict = camera_verdict(answer.camera, on_unhealthy_camera=FLAG)
    assert verdict.level is HealthLevel.WARN
    assert verdict.summary == "the camera is dark: class maps are not to be trusted"


def test_unlabelled_frames_are_all_255_without_the_engine_and_an_error() -> None:
    drive = Drive(UNLABEL)
    *_, answer = (drive.capped() for _ in range(ENOUGH))
    assert not answer.segmented
    np.testing.assert_array_equal(answer.segmentation.class_map, np.full(HW, 255, np.uint8))
    np.testing.assert_array_equal(answer.segmentation.confidence, np.zeros(HW, np.uint8))
    assert camera_verdict(answer.camera, on_unhealthy_camera=UNLABEL).level is HealthLevel.ERROR


def test_silenced_frames_have_no_answer_and_the_camera_that_sees_again_has() -> None:
    drive = Drive(SILENCE)
    *_, answer = (drive.capped() for _ in range(ENOUGH))
    assert answer.segmentation is None
    assert camera_verdict(answer.camera, on_unhealthy_camera=SILENCE).level is HealthLevel.ERROR
    *_, answer = (drive.healthy() for _ in range(ENOUGH))
    assert answer.segmentation is not None


def test_smoothing_delays_a_change_by_half_the_frames_and_not_across_drives() -> None:
    drive = Drive(smoothing_frames=3)
    for _ in range(3):
        drive.healthy(train_id=2)
    # of three equal votes the second new one wins
    assert [drive.healthy(train_id=5).segmentation.class_map[9, 9] for _ in range(2)] == [2, 5]
    drive.drive += 1
    assert drive.healthy(train_id=11).segmentation.class_map[9, 9] == 11


@pytest.mark.parametrize(("frame_ns", "each"), [(25_000_000, 1), (20_000_000, 1), (12_500_000, 2), (7_000_000, 3)])
def test_frames_that_come_faster_than_50_a_second_share_a_judgement(frame_ns: int, each: int) -> None:
    drive = Drive()
    drive.frame_ns = frame_ns
    conditions = [drive.healthy().camera for _ in range(12)]
    for index, condition in enumerate(conditions):
        assert (condition is conditions[index - 1]) == (index % each != 0)


def test_the_first_frame_of_a_drive_is_judged_and_stamps_that_fall_stop_no_judgement() -> None:
    drive = Drive()
    before = drive.healthy().camera
    drive.frame_ns, drive.drive = 1, 1
    assert drive.healthy().camera is not before
    *_, before = (drive.healthy().camera for _ in range(2))
    drive.stamp_ns -= 10**9
    assert drive.healthy().camera is not before


def test_without_smoothing_each_frame_stands_for_itself() -> None:
    drive = Drive(smoothing_frames=1)
    drive.healthy(train_id=2)
    assert drive.healthy(train_id=5).segmentation.class_map[9, 9] == 5


def test_of_two_frames_that_vote_the_surer_one_wins() -> None:
    guard = CameraGuard()
    guard.begin(drive=0)
    sure, unsure = (
        Segmentation(np.full(HW, train_id, np.uint8), np.full(HW, confidence, np.uint8), HW, inference_ms=1.0)
        for train_id, confidence in ((2, 250), (5, 100))
    )
    guard.steady(sure, smoothing_frames=2)
    assert (guard.steady(unsure, smoothing_frames=2).class_map == 2).all()


def test_nothing_is_smoothed_across_a_time_without_sight() -> None:
    drive = Drive(UNLABEL, smoothing_frames=15)
    for _ in range(5):
        drive.healthy(train_id=2)
    for _ in range(2 * ENOUGH):
        drive.capped()
    answers = [drive.healthy(train_id=5) for _ in range(2 * ENOUGH)]
    first = next(answer for answer in answers if answer.segmented)
    assert first.segmentation.class_map[9, 9] == 5
