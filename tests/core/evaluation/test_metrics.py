from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darkseg_ros.classes import ClassTable, SegmentationClass
from darkseg_ros.evaluation.metrics import (
    FLICKER_GAP_MAX_NS,
    ConfusionBlocks,
    Evaluation,
    Flicker,
    Invalidation,
    bootstrap_intervals,
    class_accuracy,
    confusion_matrix,
    frequency_weighted_iou,
    iou_per_class,
    mean_iou,
    mean_iou_of_present,
    paired_interval,
    pixel_accuracy,
)

# road: 2 pixels, 1 right, 1 called sidewalk; sidewalk: 2 pixels, 1 right, 1 left unlabelled;
# building: 2 pixels, 1 right, 1 called wall (which the label map does not hold); 1 pixel without ground truth
LABEL_MAP = np.array([[0, 0, 1, 1], [2, 2, 255, 255]], np.uint8)
CLASS_MAP = np.array([[0, 1, 1, 255], [2, 3, 0, 255]], np.uint8)


def test_rows_are_ground_truth_columns_predictions() -> None:
    expected = np.zeros((19, 20), np.int64)
    expected[0, 0] = expected[0, 1] = expected[1, 1] = expected[2, 2] = expected[2, 3] = 1
    expected[1, 19] = 1
    np.testing.assert_array_equal(confusion_matrix(LABEL_MAP, CLASS_MAP), expected)


def test_iou_of_each_class_is_hits_over_union() -> None:
    iou = iou_per_class(confusion_matrix(LABEL_MAP, CLASS_MAP))
    # road 1/(1+0+1), sidewalk 1/(1+1+1), building 1/(1+0+1), wall 0/(0+1+0); no other class occurs
    np.testing.assert_allclose(iou[:4], [1 / 2, 1 / 3, 1 / 2, 0])
    assert np.isnan(iou[4:]).all()


def test_means_and_accuracies_worked_by_hand() -> None:
    confusion = confusion_matrix(LABEL_MAP, CLASS_MAP)
    assert mean_iou(confusion) == pytest.approx((1 / 2 + 1 / 3 + 1 / 2 + 0) / 4)
    assert mean_iou_of_present(confusion) == pytest.approx((1 / 2 + 1 / 3 + 1 / 2) / 3)
    assert pixel_accuracy(confusion) == pytest.approx(3 / 6)
    assert class_accuracy(confusion) == pytest.approx(1 / 2)
    # the three classes have two pixels each, so the weights are equal
    assert frequency_weighted_iou(confusion) == pytest.approx((1 / 2 + 1 / 3 + 1 / 2) / 3)


def test_frequency_weighted_iou_weighs_by_labelled_pixels() -> None:
    # road: 3 pixels all right, IoU 3/4; sky: 1 pixel called road, IoU 0
    confusion = confusion_matrix(np.array([[0, 0, 0, 10]]), np.array([[0, 0, 0, 0]]))
    assert frequency_weighted_iou(confusion) == pytest.approx(3 / 4 * 3 / 4)


def test_an_unlabelled_prediction_is_a_miss_and_no_false_alarm() -> None:
    iou = iou_per_class(confusion_matrix(np.array([[13, 13, 13, 0]]), np.array([[13, 255, 255, 0]])))
    assert iou[13] == pytest.approx(1 / 3)
    assert iou[0] == 1.0


def test_pixels_without_ground_truth_do_not_count() -> None:
    assert confusion_matrix(np.full((2, 2), 255), np.array([[0, 1], [2, 255]])).sum() == 0


def test_a_class_in_neither_map_counts_in_no_mean() -> None:
    confusion = confusion_matrix(np.array([[5]]), np.array([[5]]))
    assert mean_iou(confusion) == mean_iou_of_present(confusion) == class_accuracy(confusion) == 1.0


@pytest.mark.parametrize(("label", "prediction", "named"), [(19, 0, "label map"), (0, 254, "class map")])
def test_values_that_are_no_train_ids_are_refused(label: int, prediction: int, named: str) -> None:
    with pytest.raises(ValueError, match=f"the {named} holds the value"):
        confusion_matrix(np.array([[label]]), np.array([[prediction]]))


def test_geometries_must_agree() -> None:
    with pytest.raises(ValueError, match="same geometry"):
        confusion_matrix(np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8))


def test_expected_calibration_error_worked_by_hand() -> None:
    evaluation = Evaluation()
    # bin of confidence 1.0: 2 pixels, 1 right, so |1 - 2|; of 51/255 = 0.2: 2 pixels, none right, |0 - 0.4|
    evaluation.add(
        np.array([[0, 0, 1, 1, 255]]),
        np.array([[0, 1, 2, 2, 0]]),
        np.array([[255, 255, 51, 51, 255]], np.uint8),
    )
    assert evaluation.metrics().ece == pytest.approx((1 + 0.4) / 4)


def test_doubts_of_one_confidence_do_not_make_up_for_those_of_another() -> None:
    evaluation = Evaluation()
    # 0.2 and always right: 0.8 too little; 1.0 and always wrong: 1.0 too much
    evaluation.add(np.array([[0, 0]]), np.array([[0, 1]]), np.array([[51, 255]], np.uint8))
    assert evaluation.metrics().ece == pytest.approx((0.8 + 1.0) / 2)


@pytest.mark.parametrize(("second", "together"), [(33, True), (34, False)])
def test_confidences_of_one_fifteenth_are_one_bin(second: int, together: bool) -> None:
    """17 / 255 = 1/15 begins a bin, 34 / 255 = 2/15 the next one."""
    evaluation = Evaluation()
    evaluation.add(np.array([[0, 0]]), np.array([[0, 1]]), np.array([[17, second]], np.uint8))
    too_little, too_much = 1 - 17 / 255, second / 255
    expected = too_little - too_much if together else too_little + too_much
    assert evaluation.metrics().ece == pytest.approx(expected / 2)


def test_bins_add_up_over_images() -> None:
    evaluation = Evaluation()
    for right in (0, 1):
        evaluation.add(np.array([[0, 255]]), np.array([[right, 0]]), np.array([[51, 51]], np.uint8))
    assert evaluation.metrics().ece == pytest.approx(abs(1 - 0.4) / 2)


def test_without_confidence_there_is_no_calibration_error() -> None:
    evaluation = Evaluation()
    evaluation.add(LABEL_MAP, CLASS_MAP)
    assert evaluation.metrics().ece is None


def test_confidence_for_a_part_of_the_images_gives_no_figure_that_looks_like_one_of_all() -> None:
    evaluation = Evaluation()
    for index in range(10):
        right = np.array([[0, 1]], np.uint8)
        evaluation.add(right, right, np.full((1, 2), 255, np.uint8) if index == 4 else None)
    metrics = evaluation.metrics()
    assert (metrics.images, metrics.images_with_confidence) == (10, 1)
    assert (metrics.ece, metrics.uiou, metrics.uiou_min_confidence, metrics.uiou_curve) == (None, None, None, ())


def test_images_count_as_having_confidence_where_all_of_them_have() -> None:
    evaluation = Evaluation()
    for _ in range(3):
        evaluation.add(LABEL_MAP, CLASS_MAP, np.full(LABEL_MAP.shape, 255, np.uint8))
    metrics = evaluation.metrics()
    assert metrics.images_with_confidence == metrics.images == 3
    assert metrics.ece is not None
    assert metrics.uiou is not None


def test_figures_are_over_all_pixels_not_means_of_images() -> None:
    evaluation = Evaluation()
    evaluation.add(np.array([[0, 0, 0]]), np.array([[0, 0, 0]]))
    evaluation.add(np.array([[0]]), np.array([[1]]))
    metrics = evaluation.metrics()
    assert metrics.images == 2
    assert metrics.pixel_accuracy == pytest.approx(3 / 4)
    assert metrics.iou["road"] == pytest.approx(3 / 4)
    assert metrics.iou["sidewalk"] == 0.0
    assert metrics.iou["sky"] is None
    assert metrics.miou == pytest.approx(3 / 8)
    assert metrics.miou_present == pytest.approx(3 / 4)


def test_the_interval_of_equal_images_is_a_point() -> None:
    one = confusion_matrix(LABEL_MAP, CLASS_MAP)
    intervals = bootstrap_intervals(np.stack([one] * 5))
    assert intervals["miou"] == pytest.approx((1 / 3, 1 / 3))
    assert intervals["miou_present"] == pytest.approx((4 / 9, 4 / 9))


def test_the_interval_spans_what_resampling_can_give() -> None:
    right = confusion_matrix(np.array([[0]]), np.array([[0]]))
    wrong = confusion_matrix(np.array([[0]]), np.array([[1]]))
    # of two images drawn twice, a quarter of the draws is all right and a quarter all wrong
    assert bootstrap_intervals(np.stack([right, wrong]))["miou_present"] == (0.0, 1.0)


def test_the_interval_is_deterministic() -> None:
    confusions = np.random.default_rng(1).integers(0, 50, (7, 19, 20))
    assert bootstrap_intervals(confusions) == bootstrap_intervals(confusions)


def test_images_without_any_ground_truth_are_refused() -> None:
    evaluation = Evaluation()
    with pytest.raises(ValueError, match="no image was evaluated"):
        evaluation.metrics()
    evaluation.add(np.array([[255]]), np.array([[0]]))
    with pytest.raises(ValueError, match="no pixel has ground truth"):
        evaluation.metrics()


def test_one_image_without_ground_truth_among_others_does_no_harm() -> None:
    evaluation = Evaluation()
    evaluation.add(np.array([[0]]), np.array([[0]]))
    evaluation.add(np.array([[255]]), np.array([[1]]))
    metrics = evaluation.metrics()
    assert metrics.miou == 1.0
    assert metrics.ci95["miou"] == (1.0, 1.0)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    height=st.integers(1, 12),
    width=st.integers(1, 12),
    classes=st.integers(1, 19),
)
def test_figures_agree_with_scikit_learn(seed: int, height: int, width: int, classes: int) -> None:
    theirs = pytest.importorskip("sklearn.metrics", reason="scikit-learn is the independent implementation")
    rng = np.random.default_rng(seed)
    label_map, class_map = (rng.choice(np.array([*range(classes), 255], np.uint8), (height, width)) for _ in range(2))
    label_map[0, 0] = 0  # at least one pixel counts
    counted = label_map != 255
    truth, predicted = label_map[counted], np.minimum(class_map[counted], 19)  # unlabelled is a class of its own
    confusion = confusion_matrix(label_map, class_map)
    np.testing.assert_array_equal(confusion, theirs.confusion_matrix(truth, predicted, labels=range(20))[:19])
    iou = theirs.jaccard_score(truth, predicted, labels=range(19), average=None, zero_division=0)
    ours = iou_per_class(confusion)
    np.testing.assert_allclose(ours[~np.isnan(ours)], iou[~np.isnan(ours)], atol=1e-9)
    assert not iou[np.isnan(ours)].any()
    assert pixel_accuracy(confusion) == pytest.approx(theirs.accuracy_score(truth, predicted))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), classes=st.integers(1, 19))
def test_mean_iou_agrees_with_scikit_learn(seed: int, classes: int) -> None:
    theirs = pytest.importorskip("sklearn.metrics", reason="scikit-learn is the independent implementation")
    rng = np.random.default_rng(seed)
    label_map = rng.choice(np.array([*range(classes), 255], np.uint8), (5, 7))
    class_map = rng.integers(0, classes, (5, 7), np.uint8)
    label_map[0, 0] = 0
    counted = label_map != 255
    macro = theirs.jaccard_score(label_map[counted], class_map[counted], average="macro")
    assert float(mean_iou(confusion_matrix(label_map, class_map))) == pytest.approx(macro)


# five pixels of road: right and certain, right and doubtful, called sky and certain, called sky and doubtful,
# doubtful; and one of sky, certain and right. Where the annotator was in doubt stands in DOUBT.
TRUTH = np.array([[0, 0, 0, 0, 0, 10]], np.uint8)
PREDICTION = np.array([[0, 0, 10, 10, 1, 10]], np.uint8)
CONFIDENCE = np.array([[255, 51, 255, 51, 51, 255]], np.uint8)
DOUBT = np.array([[False, False, False, False, True, True]])


def invalidation(**options: np.ndarray) -> Invalidation:
    counts = Invalidation()
    counts.add(TRUTH, PREDICTION, CONFIDENCE, **options)
    return counts


def test_uiou_worked_by_hand() -> None:
    uiou = invalidation(invalid_mask=DOUBT).uiou_per_class(0.5)
    # road: TP 1, TI 1 (the last), FI 2 (the doubtful ones in clear regions), FN 1 (called sky, certain), FP 0
    assert uiou[0] == pytest.approx((1 + 1) / (1 + 1 + 0 + 1 + 2))
    # sky: TP 1 though the annotator was in doubt, FP 1
    assert uiou[10] == pytest.approx(1 / (1 + 1))
    assert np.isnan(np.delete(uiou, [0, 10])).all()
    point = invalidation(invalid_mask=DOUBT).at(0.5)
    assert point.uiou == pytest.approx((2 / 5 + 1 / 2) / 2)
    assert point.invalid_share == pytest.approx(3 / 6)


def test_without_a_mask_every_invalid_prediction_is_a_false_one() -> None:
    uiou = invalidation().uiou_per_class(0.5)
    assert uiou[0] == pytest.approx(1 / (1 + 1 + 3))  # TP 1, FN 1, FI 3
    assert uiou[10] == pytest.approx(1 / 2)


def test_uiou_at_threshold_0_is_the_iou() -> None:
    uiou = invalidation(invalid_mask=DOUBT).uiou_per_class(0.0)
    iou = iou_per_class(confusion_matrix(TRUTH, PREDICTION))
    np.testing.assert_allclose(uiou[[0, 10]], iou[[0, 10]])


def test_an_unlabelled_prediction_is_invalid_at_every_threshold() -> None:
    counts = Invalidation()
    certain = np.full((1, 2), 255, np.uint8)
    counts.add(np.array([[0, 0]]), np.array([[255, 255]]), certain, invalid_mask=np.array([[True, False]]))
    assert counts.uiou_per_class(0.0)[0] == pytest.approx(1 / 2)  # TI 1, FI 1
    assert counts.at(0.0).invalid_share == 1.0


def test_a_prediction_at_the_threshold_is_valid() -> None:
    counts = Invalidation()
    counts.add(np.array([[0]]), np.array([[0]]), np.array([[102]], np.uint8))  # 102 / 255 = 0.4
    assert counts.at(0.4).invalid_share == 0.0
    assert counts.at(0.41).invalid_share == 1.0


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), min_confidence=st.floats(0, 1))
def test_uiou_agrees_with_counting_pixel_by_pixel(seed: int, min_confidence: float) -> None:
    rng = np.random.default_rng(seed)
    ids = np.array([0, 1, 2, 18, 255], np.uint8)
    label_map, class_map = (rng.choice(ids, (6, 7)) for _ in range(2))
    confidence = rng.integers(0, 256, (6, 7), np.uint8)
    doubt = rng.random((6, 7)) < 0.4
    counts = Invalidation()
    counts.add(label_map[:3], class_map[:3], confidence[:3], invalid_mask=doubt[:3])
    counts.add(label_map[3:], class_map[3:], confidence[3:], invalid_mask=doubt[3:])
    uiou = counts.uiou_per_class(min_confidence)
    for train_id in (0, 1, 2, 18):
        good = bad = pixels = 0
        for truth, prediction, certainty, doubtful in zip(
            label_map.flat, class_map.flat, confidence.flat, doubt.flat, strict=True
        ):
            if truth == 255:
                continue
            invalid = prediction == 255 or int(certainty) < min_confidence * 255
            if truth == train_id:
                pixels += 1
                right = doubtful if invalid else prediction == truth
                good += bool(right)
                bad += not right
            elif prediction == train_id and not invalid:
                bad += 1
        if pixels:
            assert uiou[train_id] == pytest.approx(good / (good + bad))
        else:
            assert np.isnan(uiou[train_id])


def test_metrics_hold_the_uiou_at_a_half_unless_told_otherwise_and_its_curve() -> None:
    evaluation = Evaluation()
    evaluation.add(TRUTH, PREDICTION, CONFIDENCE, invalid_mask=DOUBT)
    metrics = evaluation.metrics()
    assert metrics.uiou == pytest.approx((2 / 5 + 1 / 2) / 2)
    assert metrics.uiou_min_confidence == 0.5
    curve = {point.min_confidence: point.uiou for point in metrics.uiou_curve}
    assert list(curve) == pytest.approx(np.arange(20) * 0.05)
    assert curve[0.0] == pytest.approx(metrics.miou_present)
    assert curve[0.5] == pytest.approx(metrics.uiou)


@pytest.mark.parametrize("wrong", ["confidence", "invalid_mask"])
def test_confidence_and_mask_of_another_size_are_refused_and_nothing_is_added(wrong: str) -> None:
    evaluation = Evaluation()
    options = {"confidence": CONFIDENCE, "invalid_mask": DOUBT, wrong: np.zeros((2, 2), np.uint8)}
    with pytest.raises(ValueError, match=f"the {wrong.replace('_', ' ')} is"):
        evaluation.add(TRUTH, PREDICTION, **options)
    assert evaluation.images == 0


MS = 1_000_000


def test_flicker_worked_by_hand() -> None:
    flicker = Flicker()
    flicker.add(0, np.array([[0, 0, 1, 1]], np.uint8))
    assert flicker.share() is None
    flicker.add(33 * MS, np.array([[0, 2, 1, 255]], np.uint8))  # two of four change, one to unlabelled
    flicker.add(66 * MS, np.array([[0, 2, 1, 255]], np.uint8))  # none
    assert flicker.share() == pytest.approx(2 / 8)


def test_flicker_with_label_maps_compares_pixels_of_steady_ground_truth_only() -> None:
    flicker = Flicker()
    flicker.add(0, np.array([[0, 0, 1, 1]], np.uint8), np.array([[5, 5, 5, 255]], np.uint8))
    # pixel 0 stays, 1 flickers, 2 changes with its label, 3 has no ground truth
    flicker.add(33 * MS, np.array([[0, 2, 2, 2]], np.uint8), np.array([[5, 5, 6, 255]], np.uint8))
    assert flicker.share() == pytest.approx(1 / 2)


@pytest.mark.parametrize(("stamp_ns", "hw"), [(501 * MS, (1, 4)), (0, (1, 4)), (-33 * MS, (1, 4)), (33 * MS, (2, 2))])
def test_frames_far_apart_back_in_time_or_of_another_size_do_not_flicker(stamp_ns: int, hw: tuple[int, int]) -> None:
    flicker = Flicker()
    flicker.add(0, np.zeros((1, 4), np.uint8))
    flicker.add(stamp_ns, np.ones(hw, np.uint8))
    assert flicker.share() is None


def test_memory_is_bounded_and_no_image_is_lost() -> None:
    evaluation = Evaluation()
    right, wrong = np.array([[0]], np.uint8), np.array([[1]], np.uint8)
    for index in range(5000):
        evaluation.add(right, wrong if index % 4 == 0 else right)
    blocks = evaluation._confusions.stacked()
    assert len(blocks) <= 1024
    # equally weighty blocks: 5000 images make 625 of eight
    assert {int(block.sum()) for block in blocks} == {8}
    metrics = evaluation.metrics()
    assert metrics.images == 5000
    assert metrics.pixel_accuracy == pytest.approx(3 / 4)
    low, high = metrics.ci95["pixel_accuracy"]
    assert low <= 3 / 4 <= high < low + 0.1


def test_intervals_can_be_left_out() -> None:
    evaluation = Evaluation()
    evaluation.add(LABEL_MAP, CLASS_MAP)
    assert evaluation.metrics(intervals=False).ci95 == {}


@pytest.mark.parametrize(
    ("gap_ns", "share"), [(1, 1.0), (FLICKER_GAP_MAX_NS, 1.0), (FLICKER_GAP_MAX_NS + 1, None), (0, None)]
)
def test_frames_are_consecutive_up_to_the_largest_gap(gap_ns: int, share: float | None) -> None:
    flicker = Flicker()
    flicker.add(1_000, np.zeros((2, 3), np.uint8))
    flicker.add(1_000 + gap_ns, np.ones((2, 3), np.uint8))
    assert flicker.share() == share


def one_pixel(truth: int, prediction: int) -> np.ndarray:
    return confusion_matrix(np.array([[truth]], np.uint8), np.array([[prediction]], np.uint8))


@pytest.mark.parametrize(("units", "blocks"), [(1, 1), (1024, 1024), (1025, 513), (1026, 513), (1027, 514)])
def test_a_unit_has_a_block_of_its_own_until_there_are_too_many(units: int, blocks: int) -> None:
    collected = ConfusionBlocks()
    for _ in range(units):
        collected.add(one_pixel(0, 0))
    assert collected.count == collected.total().sum() == units
    assert len(collected.stacked()) == blocks


def test_the_interval_is_that_of_the_normal_approximation_for_many_images() -> None:
    half_right = np.stack([one_pixel(0, index % 2) for index in range(1000)])
    deviation = np.sqrt(0.25 / 1000)
    expected = (0.5 - 1.96 * deviation, 0.5 + 1.96 * deviation)
    # a percentile more or less would be 0.15 deviations away or more
    for name in ("pixel_accuracy", "class_accuracy"):
        assert bootstrap_intervals(half_right)[name] == pytest.approx(expected, abs=0.1 * deviation)
    right = np.stack([one_pixel(0, 0)] * 1000)
    low, high = paired_interval(half_right, right)
    assert (low + 1, high + 1) == pytest.approx(expected, abs=0.1 * deviation)


def test_published_intervals_are_those_of_seed_0() -> None:
    confusions = np.random.default_rng(1).integers(0, 50, (7, 19, 20))
    assert bootstrap_intervals(confusions) == bootstrap_intervals(confusions, seed=0)
    assert bootstrap_intervals(confusions) != bootstrap_intervals(confusions, seed=1)


def test_equal_answers_to_the_same_images_do_not_differ() -> None:
    confusions = np.random.default_rng(1).integers(0, 50, (7, 19, 20))
    assert paired_interval(confusions, confusions) == (0.0, 0.0)


def test_figures_without_any_pixel_are_nan_and_no_error() -> None:
    nothing = np.zeros((19, 20), np.int64)
    for figure in (mean_iou, mean_iou_of_present, pixel_accuracy, class_accuracy, frequency_weighted_iou):
        assert np.isnan(figure(nothing))
    point = Invalidation().at(0.5)
    assert np.isnan(point.uiou)
    assert np.isnan(point.invalid_share)
    assert point.min_confidence == 0.5


def test_class_accuracy_is_a_mean_over_classes_whatever_their_size() -> None:
    # road: 9 of 10 right; sky: 1 of 2
    confusion = confusion_matrix(np.array([[0] * 10 + [10] * 2]), np.array([[0] * 9 + [10] * 2 + [0]]))
    assert class_accuracy(confusion) == pytest.approx((9 / 10 + 1 / 2) / 2)
    assert pixel_accuracy(confusion) == pytest.approx(10 / 12)


def test_figures_of_several_matrices_are_those_of_each() -> None:
    each = np.random.default_rng(0).integers(0, 9, (3, 19, 20))
    each[1, 4] = 0
    each[1, :, 4] = 0
    for figure in (mean_iou, mean_iou_of_present, iou_per_class):
        np.testing.assert_allclose(figure(each), np.stack([figure(one) for one in each]))


def test_a_class_only_in_the_class_map_lowers_the_mean_iou_alone() -> None:
    confusion = confusion_matrix(np.array([[0, 0]]), np.array([[0, 5]]))
    assert mean_iou(confusion) == pytest.approx((1 / 2 + 0) / 2)
    assert mean_iou_of_present(confusion) == pytest.approx(1 / 2)
    assert frequency_weighted_iou(confusion) == pytest.approx(1 / 2)


def test_how_well_the_confidence_tells_right_from_wrong_is_told() -> None:
    evaluation = Evaluation()
    # three right pixels of levels 200, 100, 100 and one wrong of 100: of the pairs one is won, two are even
    evaluation.add(np.array([[0, 0, 0, 0]]), np.array([[0, 0, 0, 1]]), np.array([[200, 100, 100, 100]], np.uint8))
    metrics = evaluation.metrics()
    assert metrics.auroc == pytest.approx((1 + 0.5 + 0.5) / 3)
    assert metrics.fpr95 == 1.0
    unsure = Evaluation()
    unsure.add(np.array([[0]]), np.array([[0]]), np.array([[200]], np.uint8))
    assert (unsure.metrics().auroc, unsure.metrics().fpr95) == (None, None)


def test_an_unlabelled_prediction_is_a_wrong_one_for_trust() -> None:
    evaluation = Evaluation()
    evaluation.add(np.array([[0, 0]]), np.array([[0, 255]]), np.array([[200, 100]], np.uint8))
    assert evaluation.metrics().auroc == 1.0


def test_another_threshold_of_uiou_is_the_one_that_is_told() -> None:
    evaluation = Evaluation(uiou_min_confidence=0.1)
    evaluation.add(TRUTH, PREDICTION, CONFIDENCE, invalid_mask=DOUBT)
    metrics = evaluation.metrics()
    assert metrics.uiou_min_confidence == 0.1
    assert metrics.uiou == pytest.approx(metrics.miou_present)  # nothing is that unsure


def test_tables_of_other_classes_are_scored_by_their_own_names() -> None:
    two = ClassTable((SegmentationClass("lane", "flat", (1, 2, 3)), SegmentationClass("rest", "flat", (4, 5, 6))))
    evaluation = Evaluation(two)
    confusion = evaluation.add(np.array([[0, 1, 1]]), np.array([[0, 1, 255]]), np.array([[9, 9, 9]], np.uint8))
    assert confusion.tolist() == [[1, 0, 0], [0, 1, 1]]
    assert evaluation.metrics().iou == {"lane": 1.0, "rest": 0.5}
    with pytest.raises(ValueError, match="the class map holds the value 2"):
        evaluation.add(np.array([[0]]), np.array([[2]]))


def test_steadier_frames_flicker_less_and_a_broken_sequence_starts_anew() -> None:
    flicker = Flicker()
    road, sky = np.zeros((1, 4), np.uint8), np.full((1, 4), 10, np.uint8)
    for stamp_ms, class_map in ((0, road), (33, sky), (5000, road), (5033, road), (5066, road)):
        flicker.add(stamp_ms * MS, class_map)
    assert flicker.share() == pytest.approx(1 / 3)


def test_frames_of_which_one_has_no_label_map_are_compared_whole() -> None:
    flicker = Flicker()
    flicker.add(0, np.array([[0, 0]], np.uint8))
    flicker.add(33 * MS, np.array([[0, 1]], np.uint8), np.array([[5, 255]], np.uint8))
    assert flicker.share() == pytest.approx(1 / 2)


def test_the_interval_of_a_change_says_by_how_much_points_rose() -> None:
    right, wrong = one_pixel(0, 0), one_pixel(0, 1)
    assert paired_interval(np.stack([right] * 4), np.stack([wrong] * 4)) == (1.0, 1.0)
    assert paired_interval(np.stack([wrong] * 4), np.stack([right] * 4)) == (-1.0, -1.0)


def test_every_mean_and_accuracy_has_an_interval_around_it() -> None:
    evaluation = Evaluation()
    rng = np.random.default_rng(3)
    for _ in range(60):
        label_map = rng.integers(0, 4, (6, 6), np.uint8)
        evaluation.add(label_map, np.where(rng.random((6, 6)) < 0.7, label_map, 1).astype(np.uint8))
    metrics = evaluation.metrics()
    assert set(metrics.ci95) == {"miou", "miou_present", "pixel_accuracy", "class_accuracy", "fwiou"}
    for name, (low, high) in metrics.ci95.items():
        assert low < getattr(metrics, name) < high < low + 0.1
