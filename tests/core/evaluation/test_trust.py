from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from darkseg_ros.evaluation.metrics import Evaluation
from darkseg_ros.evaluation.trust import trust_figures

counts = st.lists(st.integers(0, 4), min_size=6, max_size=6)


@settings(max_examples=150, deadline=None)
@given(right=counts, wrong=counts)
def test_the_figures_are_what_counting_every_pixel_gives(right: list[int], wrong: list[int]) -> None:
    found = trust_figures(np.array(right), np.array(wrong))
    if not sum(right) or not sum(wrong):
        assert found is None
        return
    assert found is not None
    sure = np.repeat(np.arange(6), right)
    unsure = np.repeat(np.arange(6), wrong)
    pairs = [(r > w) + 0.5 * (r == w) for r in sure for w in unsure]
    np.testing.assert_allclose(found.auroc, np.mean(pairs))
    threshold = max(level for level in range(6) if np.mean(sure >= level) >= 0.95)
    np.testing.assert_allclose(found.fpr95, np.mean(unsure >= threshold))
    everything = np.concatenate([sure, unsure])
    success = [np.sum(sure >= level) / np.sum(everything >= level) for level in sure]
    error = [np.sum(unsure <= level) / np.sum(everything <= level) for level in unsure]
    np.testing.assert_allclose(found.aupr_success, np.mean(success))
    np.testing.assert_allclose(found.aupr_error, np.mean(error))


def test_a_confidence_that_knows_gets_one_and_its_opposite_nothing() -> None:
    knows = trust_figures(np.array([0, 0, 5]), np.array([3, 0, 0]))
    assert knows is not None
    assert (knows.auroc, knows.fpr95, knows.aupr_success, knows.aupr_error) == (1, 0, 1, 1)
    opposite = trust_figures(np.array([3, 0, 0]), np.array([0, 0, 5]))
    assert opposite is not None
    assert (opposite.auroc, opposite.fpr95) == (0, 1)


def test_an_evaluation_holds_them_beside_the_calibration_error() -> None:
    label_map = np.zeros((4, 4), np.uint8)
    class_map = label_map.copy()
    class_map[0, :2], class_map[0, 2] = 3, 255
    label_map[3] = 255
    confidence = np.full((4, 4), 200, np.uint8)
    confidence[0, :2], confidence[0, 2] = 50, 0
    evaluation = Evaluation()
    evaluation.add(label_map, class_map, confidence)
    metrics = evaluation.metrics(intervals=False)
    assert (metrics.auroc, metrics.fpr95, metrics.aupr_success, metrics.aupr_error) == (1, 0, 1, 1)


def test_without_confidence_there_are_none() -> None:
    evaluation = Evaluation()
    evaluation.add(np.zeros((2, 2), np.uint8), np.ones((2, 2), np.uint8))
    assert evaluation.metrics(intervals=False).auroc is None
