"""A picture of what a translator in training makes of a few images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from training.translation.images import bgr_of, read_view, unit_input

SHEET_COLUMNS = 6


def sheet_views(day: Sequence[Path], night: Sequence[Path], view_px: int, *, like: nn.Module) -> list[Tensor]:
    """A few images of each domain, evenly spaced, as (N, 3, S, S), where and as precise as a network's weights.

    Args:
        day: to choose from.
        night: to choose from.
        view_px: side S of one.
        like: the network.
    """
    columns = min(SHEET_COLUMNS, len(day), len(night))
    return [
        torch.stack([unit_input(read_view(images[i * len(images) // columns], view_px)) for i in range(columns)]).to(
            next(like.parameters())
        )
        for images in (day, night)
    ]


def picture_of(rows: Sequence[Tensor]) -> np.ndarray:
    """(N, 3, S, S) images of each row, below each other: (rows · S, N · S, 3) uint8 BGR."""
    return bgr_of(torch.cat([torch.cat(list(row), dim=2) for row in rows], dim=1))
