"""UNIT: two variational autoencoders with a shared latent space, and two discriminators.

Source: Liu, Breuel and Kautz, "Unsupervised image-to-image translation networks", NeurIPS 2017 (arXiv 1703.00848).
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from darkseg_ros.errors import InputError
from training.translation.layers import downsampling, residual_stack, upsampling
from training.translation.settings import STRIDE
from training.translation.translator import Direction, Translator, refuse_odd_size

Domain = Literal["day", "night"]

DRAWS_PER_PAIR = 4
"""Latent codes sampled for a pair of images: day, night, and the two translated images of the cycle."""


class UnitImages(NamedTuple):
    """What one pass over a pair of batches makes; images (B, 3, H, W) in [-1, 1], means (B, C, H/4, W/4).

    Attributes:
        day_mean: of the latent code of the day images.
        night_mean: of the night images.
        day_again: day → day, self-reconstruction.
        night_again: night → night.
        fake_night: day → night.
        fake_day: night → day.
        fake_night_mean: of the latent code of the translated images.
        fake_day_mean: the same, the other way.
        day_cycled: day → night → day.
        night_cycled: night → day → night.
    """

    day_mean: Tensor
    night_mean: Tensor
    day_again: Tensor
    night_again: Tensor
    fake_night: Tensor
    fake_day: Tensor
    fake_night_mean: Tensor
    fake_day_mean: Tensor
    day_cycled: Tensor
    night_cycled: Tensor


class Unit(nn.Module):
    """Encoders and generators of both domains; the last encoder and first generator blocks exist once, for both.

    Args:
        channels: width at full image size; the latent code has four times as many.
        residual_blocks: of each encoder and each generator, the shared ones among them.
        shared_blocks: of these, how many are shared.
        generator_norm: instance or layer. The encoder always has instance normalisation.

    Source: arXiv 1703.00848, section 3 and table 6.
    Differs: layer normalisation is the thesis's (section 3.2.3); upsampling is nearest neighbour and a convolution,
    which leaves no checkerboard; reflected borders.
    """

    def __init__(
        self, *, channels: int, residual_blocks: int, shared_blocks: int, generator_norm: Literal["instance", "layer"]
    ) -> None:
        super().__init__()
        if not 1 <= shared_blocks <= residual_blocks:
            raise InputError(
                f"network.shared_blocks is {shared_blocks}; expected 1 to network.residual_blocks ({residual_blocks}): "
                "without a shared block there is no shared latent space"
            )
        if generator_norm not in ("instance", "layer"):
            raise InputError(f"network.generator_norm is {generator_norm}; expected instance or layer")
        self.latent_channels = 4 * channels
        own_blocks = residual_blocks - shared_blocks
        # Registered once each, so that a parameter has one name in checkpoints and is averaged once.
        self.fronts = nn.ModuleDict({domain: _front(channels, own_blocks) for domain in ("day", "night")})
        self.shared_encoder = residual_stack(self.latent_channels, shared_blocks, "instance")
        self.shared_generator = residual_stack(self.latent_channels, shared_blocks, generator_norm)
        self.backs = nn.ModuleDict({domain: _back(channels, own_blocks, generator_norm) for domain in ("day", "night")})

    def encoder(self, domain: Domain) -> nn.Sequential:
        """(B, 3, H, W) image in [-1, 1] → (B, C, H/4, W/4) mean of its latent code."""
        return nn.Sequential(self.fronts[domain], self.shared_encoder)

    def generator(self, domain: Domain) -> nn.Sequential:
        """(B, C, H/4, W/4) latent code → (B, 3, H, W) image in [-1, 1]."""
        return nn.Sequential(self.shared_generator, self.backs[domain])

    def forward(self, day: Tensor, night: Tensor, noise: Tensor) -> UnitImages:
        """Reconstruct, translate and translate back.

        Args:
            day: (B, 3, H, W) RGB in [-1, 1]; H and W multiples of 4.
            night: the same.
            noise: (B, 4, C, H/4, W/4) draws of N(0, I), for the latent codes of day, night, translated day and
                translated night images.

        Raises:
            InputError: if a side is no multiple of 4.
        """
        refuse_odd_size(day, STRIDE)
        day_noise, night_noise, fake_night_noise, fake_day_noise = noise.unbind(1)
        encode_day, encode_night = self.encoder("day"), self.encoder("night")
        generate_day, generate_night = self.generator("day"), self.generator("night")

        day_mean, night_mean = encode_day(day), encode_night(night)
        codes = torch.cat([day_mean + day_noise, night_mean + night_noise])
        day_again, fake_day = generate_day(codes).chunk(2)
        fake_night, night_again = generate_night(codes).chunk(2)

        fake_night_mean, fake_day_mean = encode_night(fake_night), encode_day(fake_day)
        return UnitImages(
            day_mean=day_mean,
            night_mean=night_mean,
            day_again=day_again,
            night_again=night_again,
            fake_night=fake_night,
            fake_day=fake_day,
            fake_night_mean=fake_night_mean,
            fake_day_mean=fake_day_mean,
            day_cycled=generate_day(fake_night_mean + fake_night_noise),
            night_cycled=generate_night(fake_day_mean + fake_day_noise),
        )


class Discriminators(nn.Module):
    """A discriminator of each domain.

    Args:
        channels: width of the first layer, doubled by each further one.
        layers: strided convolutions of one discriminator.
        scales: sizes at which an image is judged: full, half, a quarter, …
    """

    def __init__(self, *, channels: int, layers: int, scales: int) -> None:
        super().__init__()
        self.day = MultiScaleDiscriminator(channels=channels, layers=layers, scales=scales)
        self.night = MultiScaleDiscriminator(channels=channels, layers=layers, scales=scales)

    def forward(self, day: Tensor, night: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Logits of "real" for day and for night images, each a map a scale."""
        return self.day(day), self.night(night)


class MultiScaleDiscriminator(nn.Module):
    """Judges patches of an image at several sizes.

    Source: Wang et al., pix2pixHD, CVPR 2018 (arXiv 1711.11585), section 3.2; patches: arXiv 1611.07004.
    Differs: no normalisation, so that the brightness of a patch counts.
    """

    def __init__(self, *, channels: int, layers: int, scales: int) -> None:
        super().__init__()
        self.scales = nn.ModuleList(_patch_discriminator(channels, layers) for _ in range(scales))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.02)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) images in [-1, 1] → logits (B, 1, h, w) of each scale, the largest first."""
        logits = []
        for discriminator in self.scales:
            logits.append(discriminator(images))
            images = functional.avg_pool2d(images, 3, stride=2, padding=1, count_include_pad=False)
        return logits


def translator_of(state: dict[str, Any], direction: Direction) -> Translator:
    """One direction of a checkpoint's averaged weights; the latent code is the mean, without noise."""
    unit = build_unit(state["config"]["network"])
    unit.load_state_dict(state["averaged_unit"])
    from_day = direction == "day_to_night"
    encoder = unit.encoder("day" if from_day else "night")
    generator = unit.generator("night" if from_day else "day")
    return Translator(nn.Sequential(encoder, generator), stride=STRIDE)


def build_unit(settings: Any) -> Unit:
    """The `Unit` of a `unit_config.UnitNetworkConfig`, or of a mapping with its keys."""
    return Unit(
        channels=settings["channels"],
        residual_blocks=settings["residual_blocks"],
        shared_blocks=settings["shared_blocks"],
        generator_norm=settings["generator_norm"],
    )


def _front(channels: int, own_blocks: int) -> nn.Sequential:
    return nn.Sequential(*downsampling(channels), residual_stack(4 * channels, own_blocks, "instance"))


def _back(channels: int, own_blocks: int, norm: str) -> nn.Sequential:
    return nn.Sequential(residual_stack(4 * channels, own_blocks, norm), *upsampling(channels, norm))


def _patch_discriminator(channels: int, layers: int) -> nn.Sequential:
    modules: list[nn.Module] = []
    in_channels = 3
    for layer in range(layers):
        out_channels = channels * 2**layer
        modules += [nn.Conv2d(in_channels, out_channels, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        in_channels = out_channels
    return nn.Sequential(*modules, nn.Conv2d(in_channels, 1, 1))
