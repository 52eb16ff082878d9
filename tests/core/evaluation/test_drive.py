from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from darkseg_ros.classes import ClassTable, SegmentationClass
from darkseg_ros.errors import ImageMessageError
from darkseg_ros.evaluation.drive import (
    DriveEvaluation,
    DriveFrame,
    FrameJoin,
    Part,
    ShownFrame,
    WorstFrames,
)

MS, SECOND = 1_000_000, 1_000_000_000
ROAD, SKY = np.zeros((2, 3), np.uint8), np.full((2, 3), 10, np.uint8)
ALL: frozenset[Part] = frozenset({"image", "label_map", "class_map"})


def picture() -> np.ndarray:
    return np.zeros((2, 3, 3), np.uint8)


def drive(*, capacity: int = 100, refused: list[str] | None = None, shown_frames: int = 8) -> DriveEvaluation:
    return DriveEvaluation(
        lambda _: ALL,
        capacity=capacity,
        on_unusable=[].append if refused is None else refused.append,
        shown_frames=shown_frames,
    )


def names(frames: tuple[ShownFrame, ...]) -> list[str]:
    return [frame.name for frame in frames]


def shown(name: str, miou_present: float) -> ShownFrame:
    return ShownFrame(name, miou_present, None, ROAD, ROAD)


def test_a_frame_is_complete_when_all_expected_parts_came_in_any_order() -> None:
    join = FrameJoin(lambda _: frozenset({"label_map", "class_map"}), capacity=10)
    assert join.put(1, class_map=ROAD) == []
    assert join.put(2, label_map=SKY) == []
    (frame,) = join.put(1, label_map=SKY, invalid_mask=None)
    assert (frame.stamp_ns, frame.class_map is ROAD, frame.label_map is SKY) == (1, True, True)
    assert [left.stamp_ns for left in join.flush()] == [2]
    assert join.flush() == []


def test_the_oldest_arrival_makes_room() -> None:
    join = FrameJoin(lambda _: ALL, capacity=2)
    assert join.put(3, class_map=ROAD) == []
    assert join.put(1, class_map=ROAD) == []
    assert [frame.stamp_ns for frame in join.put(2, class_map=ROAD)] == [3]
    assert [frame.stamp_ns for frame in join.flush()] == [1, 2]


def test_a_frame_that_expects_nothing_more_does_not_wait() -> None:
    join = FrameJoin(lambda stamp_ns: frozenset({"class_map"}) if stamp_ns == 1 else ALL, capacity=1)
    assert join.put(1, class_map=ROAD) == [DriveFrame(1, class_map=ROAD)]


def test_a_join_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="capacity must be at least 1"):
        FrameJoin(lambda _: ALL, capacity=0)


def test_the_worst_frame_of_each_period_is_kept_worst_first() -> None:
    worst = WorstFrames(2)
    for period, name, miou in ((0, "a", 0.5), (0, "b", 0.3), (1, "c", 0.4), (2, "d", 0.9), (0, "e", 0.35)):
        worst.offer(period, shown(name, miou))
    assert names(worst.worst_first()) == ["b", "c"]
    worst.offer(3, shown("f", 0.1))  # pushes out the best of the kept
    worst.offer(1, shown("g", 0.2))  # its period was pushed out, now it is worse than another
    worst.offer(4, shown("h", float("nan")))
    assert names(worst.worst_first()) == ["f", "g"]


@pytest.mark.parametrize("mious", [(0.5, 0.4, 0.3, 0.2, 0.1), (0.1, 0.2, 0.3, 0.4, 0.5), (0.3, 0.1, 0.5, 0.2, 0.4)])
def test_the_best_of_the_kept_makes_room_never_the_worst(mious: tuple[float, ...]) -> None:
    worst = WorstFrames(2)
    for period, miou in enumerate(mious):
        worst.offer(period, shown(str(miou), miou))
    assert names(worst.worst_first()) == ["0.1", "0.2"]


def test_scores_and_counts_worked_by_hand() -> None:
    evaluation = drive()
    for index, class_map in enumerate((ROAD, ROAD, SKY)):
        stamp = index * 100 * MS
        evaluation.put(stamp, image=picture)
        evaluation.put(stamp, label_map=ROAD)
        evaluation.put(stamp, class_map=class_map)
    evaluation.put(300 * MS, image=picture)  # never answered
    evaluation.put(400 * MS, class_map=SKY)  # without label map
    evaluation.finish()
    result = evaluation.result()
    assert result.metrics.images == evaluation.scored == 3
    assert result.metrics.miou_present == pytest.approx(2 / 3)
    assert result.drive is not None
    assert (result.drive.frames_in, result.drive.class_maps, result.drive.label_maps) == (4, 4, 3)
    assert (result.drive.dropped, result.drive.dropped_share) == (1, pytest.approx(1 / 4))
    # road, road, sky, sky 0.2 s later: one of three changes is whole; with labels one of two
    assert result.drive.flicker == pytest.approx(1 / 3)
    assert result.drive.flicker_static == pytest.approx(1 / 2)
    assert result.drive.latency_from is None


def test_a_class_that_changes_with_its_label_is_no_static_flicker() -> None:
    evaluation = drive()
    for index, (label_map, class_map) in enumerate(((ROAD, ROAD), (SKY, SKY))):
        evaluation.put(index * 100 * MS, label_map=label_map, class_map=class_map)
    evaluation.finish()
    assert (evaluation.figures().flicker, evaluation.figures().flicker_static) == (1.0, None)


def test_a_label_map_without_camera_image_is_no_dropped_image() -> None:
    evaluation = drive()
    evaluation.put(0, image=picture)
    evaluation.put(100 * MS, label_map=ROAD)
    evaluation.finish()
    assert evaluation.figures().dropped == 1


def test_frames_that_wait_are_not_dropped_yet() -> None:
    evaluation = drive()
    evaluation.put(0, image=picture)
    assert evaluation.figures().dropped == 0
    evaluation.finish()
    assert evaluation.figures().dropped == 1


def test_without_camera_images_nothing_is_said_of_drops() -> None:
    evaluation = drive()
    evaluation.put(0, class_map=ROAD, label_map=ROAD)
    evaluation.finish()
    figures = evaluation.figures()
    assert (figures.frames_in, figures.dropped, figures.dropped_share) == (0, None, None)
    assert evaluation.scored == 1


def put_timed(evaluation: DriveEvaluation, index: int, **times: Any) -> None:
    evaluation.put(index * SECOND, image=picture, label_map=ROAD, class_map=ROAD, **times)


def test_latency_counts_from_the_stamp_where_clocks_agree() -> None:
    evaluation = drive()
    for index in range(100):
        put_timed(evaluation, index, image_at_ns=0, class_map_at_ns=7 * MS, class_map_age_ms=float(index + 1))
    result = evaluation.result()
    assert result.drive is not None
    assert result.drive.latency_from == "stamp"
    assert (result.drive.latency_p50_ms, result.drive.latency_p95_ms, result.drive.latency_p99_ms) == (50, 95, 99)
    np.testing.assert_allclose(result.latencies[:2], [[0, 1], [1, 2]])


def test_latency_counts_from_the_image_where_the_drive_is_replayed() -> None:
    evaluation = drive()
    for index in range(4):
        put_timed(evaluation, index, image_at_ns=10 * MS, class_map_at_ns=(11 + index) * MS)
    put_timed(evaluation, 4, class_map_age_ms=5.0)  # a stamp that happens to be near the clock
    figures = evaluation.figures()
    assert figures.latency_from == "image"
    assert (figures.latency_p50_ms, figures.latency_p99_ms) == (2, 4)


def test_a_frame_that_cannot_be_scored_is_named_and_the_next_one_counts() -> None:
    refused: list[str] = []
    evaluation = drive(refused=refused)
    evaluation.put(1_500_000_000, image=picture, label_map=ROAD, class_map=np.zeros((3, 2), np.uint8))
    put_timed(evaluation, 2)
    assert refused == [
        "the frame of stamp 1.500000000: the label map is (2, 3), the class map (3, 2); bring both to the same geometry"
    ]
    assert evaluation.scored == 1


def test_waiting_frames_and_shown_frames_are_bounded() -> None:
    evaluation = drive(capacity=3, shown_frames=2)
    for index in range(50):
        evaluation.put(index * SECOND, image=picture, label_map=SKY)
        put_timed(evaluation, 1000 + index)
    evaluation.finish()
    assert evaluation.figures().dropped == 50
    assert len(evaluation.result().shown) == 2


def test_nothing_to_score_is_an_error() -> None:
    evaluation = drive()
    evaluation.put(0, class_map=ROAD)
    evaluation.finish()
    with pytest.raises(ValueError, match="no image was evaluated"):
        evaluation.result()


def test_a_picture_that_cannot_be_shown_is_left_out() -> None:
    def broken() -> np.ndarray:
        raise ImageMessageError("cut off")

    assert ShownFrame("a", 0.1, broken, ROAD, ROAD).bgr() is None
    assert ShownFrame("a", 0.1, lambda: np.zeros((9, 9, 3), np.uint8), ROAD, ROAD).bgr() is None
    assert ShownFrame("a", 0.1, None, ROAD, ROAD).bgr() is None
    assert ShownFrame("a", 0.1, picture, ROAD, ROAD).bgr() is not None


def test_a_part_that_comes_again_replaces_the_first_and_keeps_its_place() -> None:
    join = FrameJoin(lambda _: ALL, capacity=2)
    join.put(5, class_map=ROAD)
    join.put(4, class_map=ROAD)
    join.put(5, class_map=SKY)
    (oldest,) = join.put(6, class_map=ROAD)
    assert (oldest.stamp_ns, oldest.class_map is SKY) == (5, True)
    (complete,) = join.put(4, image=picture, label_map=ROAD)
    assert complete.has(ALL)
    assert not complete.has(ALL | {"confidence"})
    assert [frame.stamp_ns for frame in join.flush()] == [6]


def test_of_frames_as_bad_the_first_is_kept_and_all_are_shown_by_name() -> None:
    worst = WorstFrames(2)
    for period, name in ((0, "first"), (0, "second"), (1, "early"), (2, "late")):
        worst.offer(period, shown(name, 0.5))
    assert names(worst.worst_first()) == ["early", "first"]


def test_a_report_without_pictures_keeps_no_frame() -> None:
    worst = WorstFrames(0)
    worst.offer(0, shown("a", 0.5))
    assert worst.worst_first() == ()


def test_frames_of_a_half_second_are_shown_by_their_worst_and_named_by_their_stamp() -> None:
    evaluation = drive()
    half_right = np.array([[0, 0, 0], [10, 10, 10]], np.uint8)
    for stamp_ms, class_map in ((0, half_right), (499, SKY), (500, half_right), (999, ROAD), (1000, ROAD)):
        evaluation.put(stamp_ms * MS, image=picture, label_map=ROAD, class_map=class_map)
    frames = evaluation.result().shown
    assert names(frames) == ["0.499000000 s", "0.500000000 s", "1.000000000 s"]
    assert [frame.miou_present for frame in frames] == [0, 0.5, 1]
    assert frames[0].class_map is SKY
    assert frames[0].label_map is ROAD
    assert frames[0].bgr() is not None


def test_as_many_of_the_worst_frames_are_shown_as_a_page_holds() -> None:
    evaluation = DriveEvaluation(lambda _: ALL, capacity=9, on_unusable=[].append)
    for index in range(20):
        put_timed(evaluation, index)
    assert len(evaluation.result().shown) == 8


def test_times_count_from_the_first_frame_though_it_was_dropped() -> None:
    evaluation = drive(capacity=1)
    evaluation.put(2 * SECOND, image=picture)
    put_timed(evaluation, 5, class_map_age_ms=4.0)
    evaluation.put(6 * SECOND, image=picture)
    evaluation.put(7 * SECOND, image=picture)
    put_timed(evaluation, 12, class_map_age_ms=6.0)
    evaluation.finish()
    # frame 5 came out while frame 2 still waited
    np.testing.assert_allclose(evaluation.result().latencies, [[0, 4], [7, 6]])
    assert evaluation.figures().dropped == 3


@pytest.mark.parametrize(("known", "told"), [(1, None), (2, None), (3, "stamp")])
def test_a_latency_is_told_where_it_is_known_of_more_than_half(known: int, told: str | None) -> None:
    evaluation = drive()
    for index in range(4):
        put_timed(evaluation, index, class_map_age_ms=9.0 if index < known else None)
    result = evaluation.result()
    assert result.drive is not None
    assert result.drive.latency_from == told
    assert result.drive.latency_p50_ms == (9.0 if told else None)
    assert result.latencies.shape == ((known, 2) if told else (0, 2))


@pytest.mark.parametrize("times", [{"image_at_ns": 0}, {"class_map_at_ns": 0}])
def test_a_latency_from_the_image_needs_both_arrivals(times: dict[str, int]) -> None:
    evaluation = drive()
    put_timed(evaluation, 0, **times)
    assert evaluation.figures().latency_from is None


def test_a_frame_at_time_zero_has_a_latency_too() -> None:
    evaluation = drive()
    put_timed(evaluation, 0, image_at_ns=0, class_map_at_ns=3_500_000)
    put_timed(evaluation, 1, class_map_age_ms=0.0)
    put_timed(evaluation, 2, image_at_ns=0, class_map_at_ns=2_500_000)
    figures = evaluation.figures()
    assert (figures.latency_from, figures.latency_p50_ms, figures.latency_p95_ms) == ("image", 2.5, 3.5)


def test_label_maps_without_class_map_are_matched_by_none() -> None:
    evaluation = drive()
    put_timed(evaluation, 0)
    for index in (1, 2, 3):
        evaluation.put(index * SECOND, label_map=ROAD)
    evaluation.finish()
    assert evaluation.figures().matched_share == 1 / 4
    nothing = drive()
    assert nothing.figures().matched_share is None
    assert nothing.figures().flicker is None


def test_confidence_mask_and_classes_of_a_drive_reach_its_figures() -> None:
    two = ClassTable((SegmentationClass("lane", "flat", (1, 2, 3)), SegmentationClass("rest", "flat", (4, 5, 6))))
    evaluation = DriveEvaluation(
        lambda _: ALL, capacity=1, on_unusable=[].append, classes=two, uiou_min_confidence=0.25
    )
    doubt = np.array([[True, True, True], [False, False, False]])
    confidence = np.array([[51, 255, 255], [51, 255, 255]], np.uint8)
    put_timed(evaluation, 0, confidence=confidence, invalid_mask=doubt)
    result = evaluation.result()
    assert result.classes == two
    assert result.confusion.tolist() == [[6, 0, 0], [0, 0, 0]]
    assert result.metrics.uiou_min_confidence == 0.25
    assert result.metrics.uiou == pytest.approx(5 / 6)  # one of the unsure pixels lies where the annotator was, too


def test_a_frame_that_cannot_be_scored_is_no_dropped_one_and_not_shown() -> None:
    evaluation = drive(refused=[])
    evaluation.put(0, image=picture, label_map=ROAD, class_map=np.zeros((3, 2), np.uint8))
    put_timed(evaluation, 1)
    assert evaluation.figures().dropped == 0
    assert names(evaluation.result().shown) == ["1.000000000 s"]
