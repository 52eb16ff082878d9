from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from darkseg_ros.classes import CITYSCAPES, IGNORE_INDEX
from training.losses import (
    SummedLoss,
    combined,
    cross_entropy,
    distillation_loss,
    focal,
    logits_at,
    pooled,
    segmentation_loss,
)
from training.segmenter_config import LossConfig

EQUAL = torch.ones(len(CITYSCAPES))


def mean_loss(logits: Tensor, labels: Tensor, *, weights: Tensor = EQUAL, **settings: object) -> float:
    loss = segmentation_loss(logits, labels, config=LossConfig(**settings), class_weights=weights)  # type: ignore[arg-type]
    return (loss.total / loss.weight).item()


def logits_of(probability: float) -> Tensor:
    """(1, 19, 4, 4) logits that give class 3 this probability and share the rest evenly."""
    logits = torch.full((1, len(CITYSCAPES), 4, 4), math.log((1 - probability) / (len(CITYSCAPES) - 1)))
    logits[:, 3] = math.log(probability)
    return logits


def test_cross_entropy_is_minus_the_logarithm_of_the_probability() -> None:
    assert cross_entropy(torch.tensor([0.5]).log()).tolist() == pytest.approx([0.693147])  # ln 2


def test_focal_loss_plays_down_sure_pixels_by_the_square_of_what_is_missing() -> None:
    log_p_t = torch.tensor([0.5, 0.9, 0.1]).log()
    # 0.25 · 0.693147, 0.01 · 0.105361, 0.81 · 2.302585
    assert focal(log_p_t, gamma=2.0).tolist() == pytest.approx([0.173287, 0.001054, 1.865094], abs=1e-6)


def test_focal_loss_of_gamma_zero_is_the_cross_entropy() -> None:
    log_p_t = torch.tensor([0.5, 0.9, 0.1]).log()
    torch.testing.assert_close(focal(log_p_t, gamma=0.0), cross_entropy(log_p_t))


def test_combined_loss_is_the_weighted_mean_of_both() -> None:
    log_p_t = torch.tensor([0.5]).log()
    assert combined(log_p_t, alpha=0.5, gamma=2.0).item() == pytest.approx(0.433217, abs=1e-6)  # (0.693147+0.173287)/2
    assert combined(log_p_t, alpha=0.25, gamma=2.0).item() == pytest.approx(0.303252, abs=1e-6)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("cross_entropy", 0.223144), ("focal", 0.008926), ("combined", 0.116035)],  # p_t = 0.8: -ln 0.8, 0.04 times it
)
def test_each_kind_gives_its_own_loss_from_logits(kind: str, expected: float) -> None:
    labels = torch.full((1, 16, 16), 3)
    assert mean_loss(logits_of(0.8), labels, kind=kind) == pytest.approx(expected, abs=3e-6)


def test_loss_of_uniform_logits_is_the_logarithm_of_the_class_count() -> None:
    labels = torch.full((1, 16, 16), 3)
    assert mean_loss(torch.zeros(1, len(CITYSCAPES), 4, 4), labels) == pytest.approx(2.944439, abs=1e-5)  # ln 19


def test_loss_is_the_mean_weighted_by_the_class_of_the_label() -> None:
    logits = torch.zeros(2, len(CITYSCAPES), 4, 4)
    logits[1, 3] = 50.0  # the second image is surely class 3, the first undecided
    labels = torch.full((2, 16, 16), 3)
    labels[0] = 7
    weights = torch.ones(len(CITYSCAPES))
    weights[7] = 3.0
    loss = mean_loss(logits, labels, weights=weights, stride=4)
    assert loss == pytest.approx(3 * 2.944439 / 4, abs=1e-4)  # (3 · ln 19 + 1 · 0) / (3 + 1)


@pytest.mark.parametrize("kind", ["cross_entropy", "focal", "combined"])
def test_unlabelled_pixels_count_nowhere(kind: str) -> None:
    labels = torch.full((1, 16, 16), IGNORE_INDEX)
    loss = segmentation_loss(logits_of(0.8), labels, config=LossConfig(kind=kind), class_weights=EQUAL)
    assert (loss.total.item(), loss.weight.item()) == (0, 0)
    labels[:, :8] = 3
    half = mean_loss(logits_of(0.8), labels, kind=kind)
    assert half == pytest.approx(mean_loss(logits_of(0.8), torch.full((1, 16, 16), 3), kind=kind))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_gradients_are_numbers_even_where_a_pixel_is_certain_or_unlabelled(gamma: float) -> None:
    logits = torch.zeros(1, len(CITYSCAPES), 4, 4)
    logits[:, 3] = 200.0
    logits.requires_grad_()
    labels = torch.full((1, 16, 16), 3)
    labels[:, :, 8:] = IGNORE_INDEX
    config = LossConfig(kind="focal", focal_gamma=gamma)
    segmentation_loss(logits, labels, config=config, class_weights=EQUAL).total.backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_labels_are_taken_at_the_middle_of_each_step() -> None:
    """Only the pixels (1, 1), (1, 3) … of an image count at stride 2, (2, 2), (2, 6) … at stride 4."""
    for stride in (2, 4):
        labels = torch.full((1, 16, 16), IGNORE_INDEX)
        labels[:, stride // 2 :: stride, stride // 2 :: stride] = 3
        loss = segmentation_loss(
            logits_of(0.8), labels, config=LossConfig(stride=stride), class_weights=torch.ones(len(CITYSCAPES))
        )
        assert loss.weight.item() == (16 // stride) ** 2


@pytest.mark.parametrize("stride", [1, 2, 3, 4])
def test_logits_are_taken_at_the_centres_of_the_labelled_pixels(stride: int) -> None:
    """Between the centres of the outer logits, a ramp of logits is a ramp over the image's pixels."""
    ramp = (torch.arange(8) + 0.5).mul(4).view(1, 1, 1, 8).expand(1, 1, 8, 8)  # pixels of the 32 columns
    sampled = logits_at(ramp, (32, 32), stride)
    centres = torch.arange(stride // 2, 32, stride) + 0.5
    torch.testing.assert_close(sampled[0, 0, 0], centres.clamp(2, 30))


def test_a_pool_of_both_weighs_pixels_not_parts() -> None:
    by_day = SummedLoss(total=torch.tensor(80.0), weight=torch.tensor(80.0))
    by_night = SummedLoss(total=torch.tensor(60.0), weight=torch.tensor(20.0))
    loss = pooled(by_day, by_night, weight=1.0)
    assert (loss.total / loss.weight).item() == pytest.approx(0.8 * 1 + 0.2 * 3)  # 20 of 100 pixels


def test_distillation_loss_is_the_mean_divergence_from_what_is_wanted() -> None:
    wanted = logits_of(0.5)[:, 2:4]  # 1 : 18 of two classes: probabilities 1/19 and 18/19
    loss = distillation_loss(torch.zeros_like(wanted), wanted)
    # 1/19 · ln(2/19) + 18/19 · ln(36/19)
    assert (loss.total / loss.weight).item() == pytest.approx(0.486952, abs=1e-5)
    assert loss.weight.item() == 16
    alike = distillation_loss(wanted + 7, wanted)  # the same probabilities
    assert alike.total.item() == pytest.approx(0, abs=1e-5)


def test_distillation_teaches_the_first_network_only() -> None:
    logits, wanted = (torch.randn(1, len(CITYSCAPES), 4, 4, requires_grad=True) for _ in range(2))
    distillation_loss(logits, wanted).total.backward()
    assert logits.grad is not None
    assert wanted.grad is None
