"""Feature extractors small enough for tests: mean colours of an image."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn


class MeanColour(nn.Module):
    """(N, 3, S, S) → (N, 3, 1, 1) times a factor."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, images: Tensor) -> Tensor:
        """Mean of each channel."""
        return images.mean((2, 3), keepdim=True) * self.factor


def write_torchscript(path: Path, module: nn.Module, *, input_px: int = 8) -> Path:
    """Trace and save; the trace takes any number of images."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the format is deprecated, and what published extractors come in
        torch.jit.trace(module, torch.zeros(2, 3, input_px, input_px)).save(str(path))
    return path
