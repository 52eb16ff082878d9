from __future__ import annotations

import torch

from training.adaptation.pseudo_labels import adjust_to_shares, confidence_weights


def random_answers(seed: int, classes: int = 5) -> torch.Tensor:
    return torch.softmax(2 * torch.randn(2, classes, 4, 6, generator=torch.Generator().manual_seed(seed)), 1)


def test_an_adjustment_of_no_strength_changes_nothing() -> None:
    answers = random_answers(0)
    assert torch.equal(adjust_to_shares(answers, torch.arange(5.0), strength=0), answers)


def test_an_adjustment_makes_rare_classes_rarer_and_keeps_probabilities() -> None:
    answers, log_weights = random_answers(1), torch.tensor([-2.0, -1, 0, 1, 3])
    adjusted = adjust_to_shares(answers, log_weights, strength=0.5)
    assert torch.allclose(adjusted.sum(1), torch.ones(2, 4, 6))
    assert (adjusted[:, 4] < answers[:, 4]).all()
    assert (adjusted[:, 0] > answers[:, 0]).all()


def test_the_adjustment_equals_a_constant_added_to_the_logits() -> None:
    logits, log_weights = torch.randn(1, 5, 3, 3), torch.linspace(-1, 1, 5)
    shifted = torch.softmax(logits - 0.3 * log_weights.view(1, -1, 1, 1), 1)
    assert torch.allclose(adjust_to_shares(torch.softmax(logits, 1), log_weights, strength=0.3), shifted, atol=1e-6)


def test_unsure_pixels_count_nothing_and_an_image_counts_by_its_sure_ones() -> None:
    answers = torch.full((1, 2, 1, 4), 0.5)
    answers[0, 0, 0, 0], answers[0, 1, 0, 0] = 0.95, 0.05
    assert confidence_weights(answers, pixel_min=0.9, by_image=False).tolist() == [[[1, 0, 0, 0]]]
    assert confidence_weights(answers, pixel_min=0.9, by_image=True).tolist() == [[[0.25, 0, 0, 0]]]
    assert confidence_weights(answers, pixel_min=0, by_image=True).tolist() == [[[1, 1, 1, 1]]]
