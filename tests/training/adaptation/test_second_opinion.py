from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from darkseg_ros.classes import CITYSCAPES, IGNORE_INDEX
from darkseg_ros.errors import InputError
from tests.bundles import CAMVID
from training.adaptation.second_opinion import NO_LARGE_VEHICLE, Box, consider, opinion_map, read_boxes, write_boxes

CAR, BUS, TRAIN, BUILDING, PERSON = (
    CITYSCAPES.train_ids[name] for name in ("car", "bus", "train", "building", "person")
)


def test_a_believed_box_names_its_middle_and_lets_its_rim_open() -> None:
    opinion = opinion_map([Box((0.25, 0.25, 0.75, 0.75), CAR, 0.8)], (40, 80), score_min=0.5)
    assert opinion[20, 40] == CAR
    assert opinion[11, 21] == IGNORE_INDEX
    assert opinion[2, 2] == NO_LARGE_VEHICLE


def test_a_weak_vehicle_box_only_makes_a_vehicle_possible() -> None:
    opinion = opinion_map([Box((0.25, 0.25, 0.75, 0.75), CAR, 0.2)], (40, 80), score_min=0.5)
    assert opinion[20, 40] == IGNORE_INDEX


def test_the_surer_of_two_boxes_wins() -> None:
    corners = (0.25, 0.25, 0.75, 0.75)
    for first, second in (((CAR, 0.6), (BUS, 0.9)), ((BUS, 0.9), (CAR, 0.6))):
        boxes = [Box(corners, *first), Box(corners, *second)]
        assert opinion_map(boxes, (40, 40), score_min=0.5)[20, 20] == BUS


def test_the_own_bonnet_is_no_car() -> None:
    opinion = opinion_map([Box((0.05, 0.8, 0.95, 1.0), CAR, 0.9)], (40, 80), score_min=0.5)
    assert (opinion == NO_LARGE_VEHICLE).all()


def test_a_box_beyond_the_image_is_cut() -> None:
    opinion = opinion_map([Box((-0.2, -0.3, 0.3, 0.4), PERSON, 0.9)], (40, 80), score_min=0.5)
    assert opinion.shape == (40, 80)
    assert opinion[2, 4] == PERSON


def test_answers_stay_probabilities_and_without_an_opinion_as_they_were() -> None:
    answers = torch.softmax(torch.randn(2, 19, 6, 6, generator=torch.Generator().manual_seed(0)), 1)
    opinion = torch.randint(0, 256, (2, 6, 6), generator=torch.Generator().manual_seed(1))
    heard = consider(answers, opinion, weight=0.7)
    assert torch.allclose(heard.sum(1), torch.ones(2, 6, 6), atol=1e-5)
    assert torch.allclose(consider(answers, opinion, weight=0.0), answers, atol=1e-6)
    assert torch.allclose(consider(answers, torch.full_like(opinion, IGNORE_INDEX), weight=0.7), answers, atol=1e-6)


def test_a_named_class_gains_and_a_train_without_a_box_becomes_what_comes_next() -> None:
    answers = torch.full((1, 19, 1, 2), 0.01)
    answers[0, TRAIN], answers[0, BUILDING] = 0.5, 0.33
    opinion = torch.tensor([[[CAR, NO_LARGE_VEHICLE]]])
    heard = consider(answers, opinion, weight=0.9)
    assert heard.argmax(1).tolist() == [[[CAR, BUILDING]]]


def test_boxes_come_back_as_they_were_written(tmp_path: Path) -> None:
    boxes = {"a": [Box((0.1, 0.2, 0.3, 0.4), CAR, 0.5)], "b": []}
    write_boxes(tmp_path / "boxes.json", boxes)
    assert read_boxes(tmp_path / "boxes.json") == boxes


@pytest.mark.parametrize("content", ["", "[]", '{"a": [[1, 2]]}', '{"a": 1}'])
def test_what_holds_no_boxes_is_told(tmp_path: Path, content: str) -> None:
    (tmp_path / "boxes.json").write_text(content)
    with pytest.raises(InputError, match="detect_objects"):
        read_boxes(tmp_path / "boxes.json")


def test_the_opinion_of_no_boxes_is_that_there_is_no_large_vehicle() -> None:
    assert np.array_equal(opinion_map([], (3, 4), score_min=0.5), np.full((3, 4), NO_LARGE_VEHICLE))


def test_an_opinion_is_of_the_segmenters_own_classes_and_silent_on_others() -> None:
    boxes = [Box((0.0, 0.0, 0.5, 1.0), CAR, 0.8), Box((0.5, 0.0, 1.0, 1.0), PERSON, 0.8)]
    opinion = opinion_map(boxes, (40, 80), score_min=0.5, classes=CAMVID)
    assert opinion[20, 20] == CAMVID.train_ids["car"]
    assert opinion[20, 60] == IGNORE_INDEX  # CamVid's people are called pedestrians
    answers = torch.full((1, 11, 1, 1), 1 / 11)
    heard = consider(answers, torch.full((1, 1, 1), NO_LARGE_VEHICLE), weight=0.9, classes=CAMVID)
    assert torch.allclose(heard, answers)  # no truck, bus or train to take from
