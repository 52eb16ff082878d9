"""The optimiser of segmenters: AdamW, a learning rate of its own for the encoder, warm-up and cosine."""

from __future__ import annotations

import math
from typing import Any

import torch
from omegaconf import DictConfig
from torch import nn


def build_optimiser(network: nn.Module, config: DictConfig) -> torch.optim.Optimizer:
    """AdamW with a learning rate of its own for the pretrained encoder."""
    named = list(network.named_parameters())
    encoder = [parameter for name, parameter in named if name.startswith("encoder.")]
    rest = [parameter for name, parameter in named if not name.startswith("encoder.")]
    settings = config.optimiser
    groups = [
        {"params": encoder, "peak_lr": settings.encoder_lr},
        {"params": rest, "peak_lr": settings.decoder_lr},
    ]
    return torch.optim.AdamW(groups, lr=settings.decoder_lr, weight_decay=settings.weight_decay)


def set_learning_rate(optimiser: Any, config: DictConfig, step: int) -> None:
    """Linear warm-up, then a cosine from the peak down to `final_factor` of it; a function of the step alone."""
    settings = config.optimiser
    warmup = min(1.0, (step + 1) / max(settings.warmup_steps, 1))
    cosine = 0.5 * (1 + math.cos(math.pi * step / config.steps))
    factor = warmup * (settings.final_factor + (1 - settings.final_factor) * cosine)
    for group in optimiser.param_groups:
        group["lr"] = group["peak_lr"] * factor
