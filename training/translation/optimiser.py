"""The optimiser of translators, and its step."""

from __future__ import annotations

from typing import Any

import torch
from lightning_fabric import Fabric
from omegaconf import DictConfig
from torch import Tensor, nn

from training.runs.fabric import refuse_nan
from training.runs.loop import TrainingRun


def build_optimiser(network: nn.Module, config: DictConfig) -> torch.optim.Optimizer:
    """Adam as in arXiv 1703.00848, section 5, 1703.10593, section 4, and 1611.07004, section 3.3."""
    return torch.optim.Adam(network.parameters(), lr=config.optimiser.lr, betas=(0.5, 0.999))


def set_learning_rate(optimiser: Any, config: DictConfig, step: int) -> None:
    """Constant, from the middle of the run on linearly down to 0 at its end; a function of the step alone."""
    for group in optimiser.param_groups:
        group["lr"] = config.optimiser.lr * min(1.0, 2 * (1 - step / config.steps))


def descend(loss: Tensor, optimiser: Any, run: TrainingRun, *, fabric: Fabric) -> None:
    """One step down the gradient of a loss; raises InputError if it is no number."""
    refuse_nan(loss, run.step, run.last, fabric=fabric)
    optimiser.zero_grad()
    fabric.backward(loss)
    optimiser.step()
