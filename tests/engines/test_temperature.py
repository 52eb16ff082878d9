from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from engines.temperature import collect_agreement, fit_temperature, match_temperature, temperature_between


def drawn_logits(count: int, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits, and labels drawn so that their softmax is right."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, 19, generator=generator)
    return logits, torch.multinomial(torch.softmax(logits, 1), 1, generator=generator)[:, 0]


def test_temperature_of_overconfident_logits_is_their_excess() -> None:
    """Softmax is right, then the logits are tripled: the best temperature is 3."""
    logits, labels = drawn_logits(20_000)
    assert fit_temperature(3 * logits, labels) == pytest.approx(3, rel=0.05)


def test_matching_the_true_accuracy_finds_the_excess_without_labels() -> None:
    logits, labels = drawn_logits(20_000)
    accuracy = float((logits.argmax(1) == labels).float().mean())
    assert match_temperature(3 * logits, accuracy) == pytest.approx(3, rel=0.05)


@pytest.mark.parametrize(("excess", "probability"), [(0.0, 1 / 19), (np.log(18.0), 0.5), (np.log(162.0), 0.9)])
def test_the_confidence_after_matching_is_the_accuracy(excess: float, probability: float) -> None:
    """One logit of e against 18 of 0 has the probability exp(e) / (exp(e) + 18); at 1.0 that is the accuracy itself."""
    logits = torch.zeros(4, 19)
    logits[:, 3] = float(excess)
    if excess:
        assert match_temperature(logits, probability) == pytest.approx(1.0, rel=1e-4)
    for accuracy in (0.3, 0.6, 0.8):
        if excess:
            temperature = match_temperature(logits, accuracy)
            assert float(torch.softmax(logits / temperature, 1).amax()) == pytest.approx(accuracy, abs=1e-4)


@pytest.mark.parametrize(("accuracy", "edge"), [(1.0, 0.1), (0.0, 10.0)])
def test_what_no_temperature_reaches_ends_at_the_edge_of_the_range(accuracy: float, edge: float) -> None:
    logits, _ = drawn_logits(100)
    assert match_temperature(logits, accuracy) == pytest.approx(edge, rel=1e-3)


def test_day_and_night_meet_at_equal_ratios() -> None:
    assert temperature_between(0.5, 2.0) == pytest.approx(1.0)
    assert temperature_between(1.0, 4.0) == pytest.approx(2.0)


class Stripes(nn.Module):
    """Answers class 1 in the columns from `first_column` on, class 0 before it, at a quarter of the input's size."""

    def __init__(self, first_column: int) -> None:
        super().__init__()
        self.first_column = first_column

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[2] // 4, images.shape[3] // 4
        logits = torch.zeros(len(images), 19, height, width)
        logits[:, 0] = 5.0
        logits[:, 1, :, self.first_column :] = 9.0
        return logits


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{index}.png" for index in range(3)]
    for path in paths:
        cv2.imwrite(str(path), np.zeros((20, 30, 3), np.uint8))
    return paths


def test_agreement_is_the_share_of_pixels_with_the_same_class(pictures: list[Path]) -> None:
    """16 columns; the answers differ in columns 4 to 7, a quarter of them."""
    logits, agreement = collect_agreement(Stripes(4), Stripes(8), pictures, network_hw=(64, 64))
    assert agreement == 0.75
    assert logits.shape == (3 * 256, 19)


def test_a_network_agrees_with_itself(pictures: list[Path]) -> None:
    assert collect_agreement(Stripes(4), Stripes(4), pictures, network_hw=(64, 64))[1] == 1.0


def test_a_network_that_is_always_wrong_ends_at_the_hottest_temperature() -> None:
    logits = torch.zeros(64, 19)
    logits[:, 3] = 5.0
    assert fit_temperature(logits, torch.full((64,), 4)) == pytest.approx(10)
