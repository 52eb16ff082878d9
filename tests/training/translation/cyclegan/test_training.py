from __future__ import annotations

import pytest
import torch

from training.translation.cyclegan.training import discriminator_loss, generator_loss


def test_least_squares_losses_are_those_worked_by_hand() -> None:
    real, fake = torch.tensor([1.0, 0.5]), torch.tensor([0.0, 2.0])
    assert generator_loss(fake).item() == pytest.approx((1 + 1) / 2)
    assert discriminator_loss(real, fake).item() == pytest.approx(((0 + 0.25) / 2 + (0 + 4) / 2) / 2)


def test_a_fooled_and_a_perfect_discriminator_have_no_loss() -> None:
    assert generator_loss(torch.ones(3)).item() == 0
    assert discriminator_loss(torch.ones(3), torch.zeros(3)).item() == 0
