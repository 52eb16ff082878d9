"""How bright images are, and which of them by it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from darkseg_ros.errors import InputError
from darkseg_ros.frames.levels import RED_WEIGHT, histogram_level
from darkseg_ros.frames.source import read_image

NIGHT_THRESHOLD = 65.0


BAND = (15.0, 20.0)


def require_band(band: tuple[float, float]) -> None:
    """Raise InputError unless a band goes from a lower to a higher level."""
    if not 0 <= band[0] <= band[1] <= 255:
        raise InputError(f"the band {band[0]:g} {band[1]:g} is none; expected two levels of 0…255, the lower first")


def histogram_levels(paths: list[Path], *, red_weight: float = RED_WEIGHT) -> np.ndarray:
    """Levels of image files, (N,) float64, read one at a time.

    Raises:
        InputError: if the weight is negative or an image cannot be read.
    """
    if not red_weight >= 0:
        raise InputError(f"red weight {red_weight:g}; expected 0 or more, the thesis has 0.5")
    progress = tqdm(paths, desc="levels", unit="image", mininterval=10)
    return np.array([histogram_level(read_image(path), red_weight=red_weight) for path in progress])


def level_quantiles(levels: np.ndarray) -> dict[str, float]:
    """Levels at the quantiles that describe a distribution, by the quantile's name."""
    shares = (0, 0.05, 0.25, 0.5, 0.75, 0.95, 1)
    return {f"{share:g}": float(level) for share, level in zip(shares, np.quantile(levels, shares), strict=True)}


def choose_by_level(levels: np.ndarray, band: tuple[float, float], *, count: int | None) -> np.ndarray:
    """Images within a band of histogram levels, those nearest its middle first.

    Args:
        levels: (N,) of `domain_split.histogram_levels`, sorted by name.
        band: lowest and highest level, both within.
        count: how many at most; None takes all.

    Returns:
        Indices; equally near ones in the order of their names.

    Raises:
        InputError: if no level is within the band.

    Source: section 4.2.2.3 of the thesis, histogram-based method, band 15…20.
    """
    low, high = band
    order = np.argsort(np.abs(levels - (low + high) / 2), kind="stable")
    chosen = order[(levels[order] >= low) & (levels[order] <= high)][:count]
    if not len(chosen):
        raise InputError(
            f"no candidate has a level within the band {low:g}…{high:g}: levels are {levels.min():.1f}…"
            f"{levels.max():.1f}, half of them {np.quantile(levels, 0.25):.1f}…{np.quantile(levels, 0.75):.1f}; "
            "choose another --band"
        )
    return chosen


@dataclass(frozen=True)
class SplitSettings:
    """Where day ends and which levels are chosen.

    Attributes:
        night_threshold: an image with a lower level is night.
        band: lowest and highest level chosen, both within; None chooses none.
        red_weight: weight of the red channel, green and blue have 1.
    """

    night_threshold: float = NIGHT_THRESHOLD
    band: tuple[float, float] | None = BAND
    red_weight: float = RED_WEIGHT
