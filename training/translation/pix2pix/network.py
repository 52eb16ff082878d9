"""Pix2Pix: a U-Net that learns from pairs, judged beside its input by a conditional discriminator.

Source: Isola, Zhu, Zhou and Efros, "Image-to-image translation with conditional adversarial networks", CVPR 2017
(arXiv 1611.07004).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from darkseg_ros.errors import InputError
from training.translation.layers import convolution
from training.translation.translator import Direction, Translator


class UNetGenerator(nn.Module):
    """(B, 3, H, W) day image in [-1, 1] → its night; H and W multiples of 2 to the power of `downsamplings`.

    Args:
        channels: width of the first layer, doubled by each further one, at most eightfold.
        downsamplings: halvings of the image.
        dropout: in the innermost three layers of the way up; none in evaluation mode.

    Source: arXiv 1611.07004, section 3.2.1 and appendix 6.1.1.
    Differs: instance normalisation in the place of batch normalisation, which is the same for single images; nearest
    neighbours and a convolution in the place of fractional strides; no dropout once trained, so that equal images
    translate equally.
    """

    def __init__(self, *, channels: int, downsamplings: int, dropout: float) -> None:
        super().__init__()
        widths = [channels * min(2**level, 8) for level in range(downsamplings)]
        down: list[nn.Module] = [nn.Conv2d(3, widths[0], 4, stride=2, padding=1)]
        for level in range(1, downsamplings):
            strided = convolution(widths[level - 1], widths[level], 4, norm="instance", stride=2)
            # the innermost map may have one position, which normalisation would make 0
            innermost = level == downsamplings - 1
            down.append(nn.Sequential(nn.LeakyReLU(0.2), *(strided[:1] if innermost else strided)))
        self.down = nn.ModuleList(down)
        up: list[nn.Module] = []
        for level in reversed(range(1, downsamplings)):
            given = widths[level] if level == downsamplings - 1 else 2 * widths[level]  # beside the way down
            dropped = level >= downsamplings - 3
            up.append(
                nn.Sequential(
                    nn.ReLU(),
                    nn.Upsample(scale_factor=2),
                    *convolution(given, widths[level - 1], 3, norm="instance"),
                    *([nn.Dropout(dropout)] if dropped else []),
                )
            )
        self.up = nn.ModuleList(up)
        last = nn.Conv2d(2 * widths[0], 3, 3, padding=1, padding_mode="reflect")
        self.to_image = nn.Sequential(nn.ReLU(), nn.Upsample(scale_factor=2), last, nn.Tanh())

    def forward(self, day: Tensor) -> Tensor:
        features = [day]
        for layer in self.down:
            features.append(layer(features[-1]))
        decoded = features.pop()
        for layer in self.up:
            decoded = torch.cat([layer(decoded), features.pop()], dim=1)
        image: Tensor = self.to_image(decoded)
        return image


def build_generator(settings: Any) -> UNetGenerator:
    """The generator of a `Pix2PixNetwork`, or of a mapping with its keys."""
    return UNetGenerator(
        channels=settings["channels"], downsamplings=settings["downsamplings"], dropout=settings["dropout"]
    )


def translator_of(state: dict[str, Any], direction: Direction) -> Translator:
    """The checkpoint's averaged generator.

    Raises:
        InputError: if another direction than the one it learned is asked for.
    """
    if direction != "day_to_night":
        raise InputError(
            "Pix2Pix learns one direction, day_to_night; train another with data.day and data.night exchanged"
        )
    settings = state["config"]["network"]
    generator = build_generator(settings)
    generator.load_state_dict(state["averaged_generator"])
    return Translator(generator, stride=2 ** settings["downsamplings"])
