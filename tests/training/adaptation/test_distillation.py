from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn import functional

from darkseg_ros.classes import CITYSCAPES, IGNORE_INDEX
from training.adaptation.distillation import FeatureAnchor, paste_labels, soft_cross_entropy


def test_certain_answers_make_the_cross_entropy_of_labels() -> None:
    logits, labels = torch.randn(2, 19, 3, 4), torch.randint(0, 19, (2, 3, 4))
    wanted = functional.one_hot(labels, 19).movedim(-1, 1).float()
    loss = soft_cross_entropy(logits, wanted, torch.ones(2, 3, 4))
    assert torch.allclose(loss.total / loss.weight, functional.cross_entropy(logits, labels), atol=1e-5)


def test_less_trust_makes_a_smaller_loss_and_no_gradient_reaches_the_teacher() -> None:
    logits = torch.randn(1, 19, 3, 4, requires_grad=True)
    wanted = torch.softmax(torch.randn(1, 19, 3, 4), 1).requires_grad_()
    whole = soft_cross_entropy(logits, wanted, torch.ones(1, 3, 4))
    half = soft_cross_entropy(logits, wanted, torch.full((1, 3, 4), 0.5))
    assert torch.allclose(half.total / half.weight, 0.5 * whole.total / whole.weight)
    whole.total.backward()
    assert logits.grad is not None
    assert wanted.grad is None


def test_pasted_labels_are_certain_and_count_in_full() -> None:
    labels = torch.full((1, 8, 8), IGNORE_INDEX)
    labels[:, :, 4:] = 13
    wanted, trust = paste_labels(torch.full((1, 19, 2, 2), 1 / 19), torch.zeros(1, 2, 2), labels)
    assert wanted[0, 13].tolist() == [[torch.tensor(1 / 19).item(), 1], [torch.tensor(1 / 19).item(), 1]]
    assert trust.tolist() == [[[0, 1], [0, 1]]]


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 1)

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        return [functional.avg_pool2d(self.layer(images), 4)]


def test_the_anchor_measures_how_far_the_features_of_objects_have_moved() -> None:
    encoder = Encoder()
    anchor = FeatureAnchor(copy.deepcopy(encoder), encoder)
    images = torch.randn(2, 3, 8, 8)
    cars, road = torch.full((2, 8, 8), CITYSCAPES.train_ids["car"]), torch.zeros(2, 8, 8, dtype=torch.int64)
    encoder(torch.cat([images, torch.randn(1, 3, 8, 8)]))
    assert anchor.distance(images, cars).total.item() < 1e-5
    with torch.no_grad():
        encoder.layer.weight += 1
    encoder(images)
    moved = anchor.distance(images, cars)
    assert moved.total.item() > 0.1
    assert moved.weight.item() == 8
    assert anchor.distance(images, road).weight.item() == 0
    moved.total.backward()
    assert encoder.layer.weight.grad is not None
