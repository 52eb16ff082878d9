from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from darkseg_ros.classes import IGNORE_INDEX, NUM_CLASSES
from training.averaging import copy_as_teacher, update_teacher
from training.self_training import ClassPriors, Pseudo, label_with_teacher, mix_classes


class FixedLogits(nn.Module):
    """Answers the same logits to everything."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, images: Tensor) -> Tensor:
        return self.logits


def test_unsure_and_untrusted_pixels_get_no_label() -> None:
    logits = torch.zeros(1, NUM_CLASSES, 2, 2)
    logits[0, 7, :, 0] = 20.0  # sure of class 7 on the left half, undecided on the right
    trusted = torch.ones(1, 2, 2, dtype=torch.bool)
    trusted[0, 1, 0] = False
    pseudo = label_with_teacher(
        FixedLogits(logits), torch.zeros(1, 3, 2, 2), trusted, ClassPriors(strength=0.0), confidence_min=0.9
    )
    assert pseudo.label_maps[0].tolist() == [[7, IGNORE_INDEX], [IGNORE_INDEX, IGNORE_INDEX]]
    assert pseudo.image_weight.item() == pytest.approx(1 / 3)


def test_priors_bring_back_a_class_that_the_teacher_underrates() -> None:
    probabilities = torch.full((1, NUM_CLASSES, 1, 1), 0.0)
    probabilities[0, 2], probabilities[0, 10] = 0.6, 0.4  # building just above sky
    priors = ClassPriors(strength=1.0, momentum=0.0)
    labels = torch.tensor([[[2, 10]]])  # labelled images show as much sky as building
    priors.observe_labels(labels)
    aligned = priors.align(probabilities)
    assert aligned[0, :, 0, 0].sum().item() == pytest.approx(1)
    assert aligned[0, 10, 0, 0].item() == pytest.approx(aligned[0, 2, 0, 0].item(), abs=0.01)


def test_strength_zero_leaves_probabilities_alone() -> None:
    probabilities = torch.softmax(torch.randn(2, NUM_CLASSES, 3, 3), 1)
    torch.testing.assert_close(ClassPriors(strength=0.0).align(probabilities), probabilities)


def test_a_mixed_image_shows_source_pixels_exactly_where_it_has_source_labels() -> None:
    source_labels = torch.tensor([[[0, 0, 1, 1, 2, 2, 255]]])
    pseudo = Pseudo(torch.full((1, 1, 7), 9), torch.tensor(1.0))
    images, labels = mix_classes(
        torch.ones(1, 3, 1, 7), source_labels, torch.zeros(1, 3, 1, 7), pseudo, seed=(0, 0)
    )
    pasted = labels[0, 0] != 9
    assert images[0, 0, 0].tolist() == pasted.float().tolist()
    assert set(labels[0, 0][pasted].tolist()) < {0, 1, 2}
    assert len(set(labels[0, 0][pasted].tolist())) == 2  # half of three classes, rounded up
    assert labels[0, 0, 6] == 9


def test_the_teacher_is_the_weighted_mean_of_itself_and_the_student() -> None:
    student = nn.BatchNorm1d(1)
    teacher = copy_as_teacher(student)
    with torch.no_grad():
        student.weight.fill_(3.0)
    student.num_batches_tracked.fill_(4)
    update_teacher(teacher, student, step=1, decay=0.9)  # α = min(1 − 1/2, 0.9) = 0.5
    assert teacher.weight.item() == pytest.approx(0.5 * 1 + 0.5 * 3)
    assert teacher.num_batches_tracked.item() == 4
    update_teacher(teacher, student, step=1000, decay=0.9)
    assert teacher.weight.item() == pytest.approx(0.9 * 2 + 0.1 * 3)
