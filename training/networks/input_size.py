"""Sizes that the networks take; loads no torch."""

from __future__ import annotations

SIDE_MULTIPLE = 32
"""Both sides of an input are multiples of it: encoders halve them five times."""


def side_at(side: int, scale: float) -> int:
    """A side of an image at a scale, as networks take it."""
    return max(round(side * scale / SIDE_MULTIPLE), 1) * SIDE_MULTIPLE


def rectangle_hw(height_px: int, width_over_height: float) -> tuple[int, int]:
    """Height and width of an input or a crop; the width is the multiple of 32 that comes nearest to the wanted shape.

    >>> rectangle_hw(320, 2.0)
    (320, 640)
    >>> rectangle_hw(384, 16 / 9)
    (384, 672)
    """
    return height_px, height_px if width_over_height == 1 else side_at(height_px, width_over_height)
