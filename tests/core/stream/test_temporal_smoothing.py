from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darkseg_ros.classes import IGNORE_INDEX
from darkseg_ros.model.segmenter import Segmentation
from darkseg_ros.stream.temporal_smoothing import TemporalSmoother
from darkseg_ros.synthetic_drive import SyntheticDrive

ROAD, CAR, SKY = 0, 13, 10


def segmentation(class_map: np.ndarray | list[int], confidence: np.ndarray | list[int] | int = 200) -> Segmentation:
    classes = np.atleast_2d(np.asarray(class_map, np.uint8))
    confidences = np.broadcast_to(np.asarray(confidence, np.uint8), classes.shape).copy()
    return Segmentation(classes, confidences, classes.shape, 1.5)


def answers_of_one_pixel(frames: int, votes: list[tuple[int, int]]) -> list[tuple[int, int]]:
    smoother = TemporalSmoother(frames)
    answers = [smoother(segmentation([train_id], confidence)) for train_id, confidence in votes]
    return [(int(answer.class_map[0, 0]), int(answer.confidence[0, 0])) for answer in answers]


@pytest.mark.parametrize(("frames", "needed"), [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3), (6, 3), (7, 4)])
def test_a_new_class_needs_half_of_the_frames_rounded_up(frames: int, needed: int) -> None:
    answers = answers_of_one_pixel(frames, [(ROAD, 200)] * 10 + [(CAR, 200)] * 10)
    assert [train_id for train_id, _ in answers] == [ROAD] * (10 + needed - 1) + [CAR] * (10 - needed + 1)


@given(frames=st.integers(1, 8), sure=st.integers(1, 255), unsure=st.integers(1, 255))
def test_a_new_class_never_needs_more_frames_than_vote(frames: int, sure: int, unsure: int) -> None:
    answers = answers_of_one_pixel(frames, [(ROAD, sure)] * frames + [(CAR, unsure)] * frames)
    assert answers[-1] == (CAR, unsure)


def test_one_frame_alone_cannot_flip_a_pixel() -> None:
    answers = answers_of_one_pixel(3, [(ROAD, 200), (ROAD, 200), (CAR, 200), (ROAD, 200), (ROAD, 200)])
    assert [train_id for train_id, _ in answers] == [ROAD] * 5


def test_one_sure_vote_outweighs_two_unsure_ones() -> None:
    assert answers_of_one_pixel(3, [(ROAD, 80), (ROAD, 80), (CAR, 200)])[-1] == (CAR, 200)


def test_the_confidence_is_the_mean_of_those_who_voted_for_the_winner() -> None:
    assert answers_of_one_pixel(3, [(ROAD, 100), (ROAD, 201), (CAR, 250)])[-1] == (ROAD, 151)


def test_three_classes_with_one_vote_each_go_to_the_surest() -> None:
    assert answers_of_one_pixel(3, [(ROAD, 100), (SKY, 180), (CAR, 150)])[-1] == (SKY, 180)


def test_a_tie_goes_to_the_class_seen_last() -> None:
    assert answers_of_one_pixel(4, [(ROAD, 90), (CAR, 90)])[-1] == (CAR, 90)


def test_what_the_newest_frame_leaves_unlabelled_stays_so() -> None:
    assert answers_of_one_pixel(3, [(ROAD, 200), (ROAD, 200), (IGNORE_INDEX, 40)])[-1] == (IGNORE_INDEX, 40)


def test_unlabelled_frames_have_no_vote() -> None:
    votes = [(IGNORE_INDEX, 120)] * 4 + [(CAR, 130)]
    assert answers_of_one_pixel(5, votes)[-1] == (CAR, 130)


def vote_of_one_pixel(votes: list[tuple[int, int]]) -> tuple[int, int]:
    """The rule of the docstring, written again for one pixel; votes oldest first."""
    newest = votes[-1]
    if newest[0] == IGNORE_INDEX:
        return newest
    weight_of: Counter[int] = Counter()
    for train_id, confidence in votes:
        if train_id != IGNORE_INDEX:
            weight_of[train_id] += confidence
    most = max(weight_of.values())
    winner = next(train_id for train_id, _ in reversed(votes) if weight_of.get(train_id) == most)
    voters = [confidence for train_id, confidence in votes if train_id == winner]
    return winner, (sum(voters) + len(voters) // 2) // len(voters)


@given(
    frames=st.integers(1, 6),
    stream=st.lists(
        st.lists(
            st.tuples(st.sampled_from([ROAD, CAR, SKY, IGNORE_INDEX]), st.integers(0, 255)), min_size=6, max_size=6
        ),
        min_size=1,
        max_size=9,
    ),
)
@settings(deadline=None)
def test_every_pixel_is_voted_on_by_itself(frames: int, stream: list[list[tuple[int, int]]]) -> None:
    smoother = TemporalSmoother(frames)
    for pixels in stream:
        answer = smoother(segmentation([train_id for train_id, _ in pixels], [weight for _, weight in pixels]))
    window = stream[-frames:]
    expected = [vote_of_one_pixel([pixels[index] for pixels in window]) for index in range(6)]
    got = zip(answer.class_map[0].tolist(), answer.confidence[0].tolist(), strict=True)
    assert list(got) == expected


def test_flicker_on_a_standing_scene_falls() -> None:
    label_map = SyntheticDrive(seed=3, size_hw=(64, 128), night=True).frame(0).label_map
    rng = np.random.default_rng(0)
    smoother = TemporalSmoother(5)
    raw, smooth = [], []
    for _ in range(25):
        noisy = label_map.copy()
        wrong = rng.random(noisy.shape) < 0.1
        noisy[wrong] = rng.integers(0, 19, wrong.sum())
        answer = smoother(segmentation(noisy, rng.integers(150, 220, noisy.shape)))
        raw.append(noisy)
        smooth.append(answer.class_map)

    def flicker(class_maps: list[np.ndarray]) -> float:
        return float(np.mean([np.mean(before != after) for before, after in itertools.pairwise(class_maps)]))

    # three of five must err alike: 5 % of 10 % at most, where before one error was enough
    assert flicker(smooth[5:]) < 0.1 * flicker(raw[5:])


def test_a_moving_edge_lags_by_its_speed_times_the_added_frames() -> None:
    speed_px, frames = 3, 5
    smoother = TemporalSmoother(frames)
    for index in range(12):
        class_map = np.full((1, 100), ROAD, np.uint8)
        class_map[:, speed_px * index :] = SKY
        answer = smoother(segmentation(class_map))
    edge_px = int(np.argmax(answer.class_map[0] == SKY))
    assert speed_px * 11 - edge_px == speed_px * 2  # ⌈5 / 2⌉ − 1 = 2 frames behind


@pytest.mark.parametrize("change", ["another size", "reset"])
def test_nothing_of_the_frames_before_is_left_after(change: str) -> None:
    smoother = TemporalSmoother(5)
    for _ in range(5):
        smoother(segmentation([ROAD, ROAD], 255))
    if change == "reset":
        smoother.reset()
        answer = smoother(segmentation([CAR, CAR], 30))
    else:
        answer = smoother(segmentation([CAR, CAR, CAR], 30))
    assert set(answer.class_map.ravel()) == {CAR}
    assert set(answer.confidence.ravel()) == {30}


def test_the_answer_is_a_copy_and_keeps_the_inference_time() -> None:
    smoother = TemporalSmoother(3)
    first = segmentation([ROAD, CAR])
    answer = smoother(first)
    assert answer.inference_ms == 1.5
    answer.class_map[:] = SKY
    answer.confidence[:] = 255
    assert first.class_map.tolist() == [[ROAD, CAR]]
    assert smoother(segmentation([ROAD, CAR], 10)).class_map.tolist() == [[ROAD, CAR]]


@pytest.mark.parametrize("frames", [0, -1, 256])
def test_a_number_of_frames_out_of_range_is_refused(frames: int) -> None:
    with pytest.raises(ValueError, match=r"expected 1…255 frames"):
        TemporalSmoother(frames)


def test_255_sure_frames_do_not_overflow() -> None:
    answers = answers_of_one_pixel(255, [(CAR, 255)] + [(ROAD, 255)] * 254)
    assert answers[-1] == (ROAD, 255)
