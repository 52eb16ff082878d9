"""CycleGAN: a generator each way, held together by the way back, and a discriminator of each domain.

Source: Zhu, Park, Isola and Efros, "Unpaired image-to-image translation using cycle-consistent adversarial networks",
ICCV 2017 (arXiv 1703.10593).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor, nn

from training.translation.layers import downsampling, residual_stack, upsampling
from training.translation.patch_discriminator import PatchDiscriminator
from training.translation.settings import STRIDE
from training.translation.translator import Direction, Translator


class CycleGanImages(NamedTuple):
    """What one pass over a pair of batches makes; all (B, 3, H, W) in [-1, 1].

    Attributes:
        fake_night: day → night.
        fake_day: night → day.
        day_cycled: day → night → day.
        night_cycled: night → day → night.
        same_day: what night → day makes of the day images.
        same_night: what day → night makes of the night images.
    """

    fake_night: Tensor
    fake_day: Tensor
    day_cycled: Tensor
    night_cycled: Tensor
    same_day: Tensor
    same_night: Tensor


class CycleGan(nn.Module):
    """Both generators.

    Args:
        channels: width at full image size.
        residual_blocks: of each generator.

    Source: arXiv 1703.10593, section 7.2.
    Differs: nearest neighbours and a convolution in the place of fractional strides, which leaves no checkerboard.
    """

    def __init__(self, *, channels: int, residual_blocks: int) -> None:
        super().__init__()
        self.to_night, self.to_day = (_generator(channels, residual_blocks) for _ in range(2))

    def forward(self, day: Tensor, night: Tensor) -> CycleGanImages:
        """Translate, translate back, and translate what is in the other domain already.

        Args:
            day: (B, 3, H, W) RGB in [-1, 1]; H and W multiples of 4.
            night: the same.
        """
        fake_night, fake_day = self.to_night(day), self.to_day(night)
        return CycleGanImages(
            fake_night=fake_night,
            fake_day=fake_day,
            day_cycled=self.to_day(fake_night),
            night_cycled=self.to_night(fake_day),
            same_day=self.to_day(day),
            same_night=self.to_night(night),
        )


class Discriminators(nn.Module):
    """A discriminator of each domain; arguments as `PatchDiscriminator`."""

    def __init__(self, *, channels: int, layers: int) -> None:
        super().__init__()
        self.day, self.night = (PatchDiscriminator(in_channels=3, channels=channels, layers=layers) for _ in range(2))

    def forward(self, day: Tensor, night: Tensor) -> tuple[Tensor, Tensor]:
        """Values of day and of night images, a map each."""
        return self.day(day), self.night(night)


def build_cyclegan(settings: Any) -> CycleGan:
    """The `CycleGan` of a `CycleGanNetwork`, or of a mapping with its keys."""
    return CycleGan(channels=settings["channels"], residual_blocks=settings["residual_blocks"])


def translator_of(state: dict[str, Any], direction: Direction) -> Translator:
    """One direction of a checkpoint's averaged weights."""
    cyclegan = build_cyclegan(state["config"]["network"])
    cyclegan.load_state_dict(state["averaged_cyclegan"])
    return Translator(cyclegan.to_night if direction == "day_to_night" else cyclegan.to_day, stride=STRIDE)


def _generator(channels: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(
        *downsampling(channels), residual_stack(4 * channels, blocks, "instance"), *upsampling(channels, "instance")
    )
