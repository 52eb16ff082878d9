"""A picture of what a UNIT makes of a few images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from training.translation.images import bgr_of, read_view, unit_input
from training.translation.unit.network import Unit

SHEET_COLUMNS = 6


@torch.no_grad()
def sample_sheet(unit: Unit, day_images: list[Path], night_images: list[Path], *, view_px: int) -> np.ndarray:
    """Rows: day, day → night, day → day, day → night → day, night, night → day; without latent noise.

    Args:
        unit: in evaluation mode.
        day_images: of which a few, evenly spaced, are shown.
        night_images: the same.
        view_px: side of one image.

    Returns:
        (6 · view_px, columns · view_px, 3) uint8 BGR.
    """
    columns = min(SHEET_COLUMNS, len(day_images), len(night_images))
    day, night = (
        torch.stack([unit_input(read_view(images[i * len(images) // columns], view_px)) for i in range(columns)])
        for images in (day_images, night_images)
    )
    weight = next(unit.parameters())  # where and how precise
    day, night = day.to(weight), night.to(weight)
    day_mean = unit.encoder("day")(day)
    fake_night = unit.generator("night")(day_mean)
    rows = [
        day,
        fake_night,
        unit.generator("day")(day_mean),
        unit.generator("day")(unit.encoder("night")(fake_night)),
        night,
        unit.generator("day")(unit.encoder("night")(night)),
    ]
    return bgr_of(torch.cat([torch.cat(list(row), dim=2) for row in rows], dim=1))
