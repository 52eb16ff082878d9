"""Images of any size through a translator: whole, squeezed, or in overlapping tiles."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from darkseg_ros.errors import InputError
from training.translation.enhancement import Enhancement
from training.translation.images import bgr_of, unit_input
from training.translation.settings import STRIDE
from training.translation.translator import Direction

_OVERLAP = 0.25


@dataclass(frozen=True)
class TranslationSettings:
    """How images pass through the translator; with neither size, whole and at their own.

    Attributes:
        direction: what the images are and become.
        resize_px: side of the square they are squeezed into before, and stretched back from after.
        tile_px: side of the overlapping square tiles they are cut into; a multiple of the translator's stride.
        enhance: what is done to them afterwards.
    """

    direction: Direction = "day_to_night"
    resize_px: int | None = None
    tile_px: int | None = None
    enhance: Enhancement = "none"


def translate_image(translator: nn.Module, bgr: np.ndarray, settings: TranslationSettings) -> np.ndarray:
    """Translate one image of any size.

    Args:
        translator: (B, 3, H, W) float RGB in [-1, 1] → the same; H and W multiples of its ``stride``, 4 if it has none.
        bgr: (H, W, 3) uint8.
        settings: whole, squeezed or in tiles.

    Returns:
        (H, W, 3) uint8 BGR.
    """
    height, width = bgr.shape[:2]
    if settings.resize_px is not None:
        side = settings.resize_px
        squeezed = cv2.resize(bgr, (side, side), interpolation=cv2.INTER_AREA)
        translated = bgr_of(_translate_whole(translator, unit_input(squeezed)[None])[0])
        return np.asarray(cv2.resize(translated, (width, height), interpolation=cv2.INTER_CUBIC))
    if settings.tile_px is not None:
        return bgr_of(_translate_tiles(translator, unit_input(bgr)[None], settings.tile_px)[0])
    return bgr_of(_translate_whole(translator, unit_input(bgr)[None])[0])


@torch.inference_mode()
def _translate_whole(translator: nn.Module, rgb: Tensor) -> Tensor:
    """Translate (B, 3, H, W) on the translator's device, padded to the sizes it takes; the answer is on the CPU."""
    height, width = rgb.shape[-2:]
    stride = stride_of(translator)
    # two latent positions at least: borders are reflected there, and one position has nothing to reflect
    padded = _pad(rgb, *(max(math.ceil(side / stride), 2) * stride for side in (height, width)))
    parameter = next(translator.parameters(), None)
    answer = translator(padded if parameter is None else padded.to(parameter.device))
    return answer[..., :height, :width].float().cpu()


def _translate_tiles(translator: nn.Module, rgb: Tensor, tile_px: int) -> Tensor:
    """Translate (1, 3, H, W) tile by tile; in the overlaps the answers fade from one tile into the next.

    The weights of a pixel are divided by their sum, so what all tiles agree on comes out as it is.
    """
    height, width = rgb.shape[-2:]
    padded = _pad(rgb, max(height, tile_px), max(width, tile_px))
    ramp = torch.linspace(0, 1, round(tile_px * _OVERLAP) + 2)[1:-1]
    fade = torch.cat([ramp, torch.ones(tile_px - 2 * len(ramp)), ramp.flip(0)])
    weight = fade[:, None] * fade[None, :]
    total, weights = torch.zeros_like(padded), torch.zeros_like(padded[:, :1])
    for top in _tile_starts(padded.shape[-2], tile_px):
        for left in _tile_starts(padded.shape[-1], tile_px):
            window = (..., slice(top, top + tile_px), slice(left, left + tile_px))
            total[window] += weight * _translate_whole(translator, padded[window])
            weights[window] += weight
    return (total / weights)[..., :height, :width]


def _tile_starts(length: int, tile_px: int) -> list[int]:
    """Where the tiles along one axis begin: evenly spread, overlapping by at least a quarter."""
    count = math.ceil((length - tile_px) / (tile_px * (1 - _OVERLAP))) + 1
    return [round(start) for start in np.linspace(0, length - tile_px, count)]


def _pad(rgb: Tensor, height: int, width: int) -> Tensor:
    """Repeat the last row and column up to a size; mirroring would need images larger than their margin."""
    return functional.pad(rgb, (0, width - rgb.shape[-1], 0, height - rgb.shape[-2]), mode="replicate")


def stride_of(translator: nn.Module) -> int:
    """What the sides of its images are multiples of."""
    return int(getattr(translator, "stride", STRIDE))


def refuse_unfit_sizes(settings: TranslationSettings, stride: int) -> None:
    """Raise InputError for squares that a translator of this stride cannot take."""
    for name, side in (("--resize-px", settings.resize_px), ("--tile-px", settings.tile_px)):
        smallest = max(4 * STRIDE, stride)
        if side is not None and (side < smallest or side % stride):
            raise InputError(f"{name} is {side}; expected a multiple of {stride} from {smallest} on")
