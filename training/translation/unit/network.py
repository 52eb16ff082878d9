"""UNIT: two variational autoencoders with a shared latent space, and two discriminators.

Source: Liu, Breuel and Kautz, "Unsupervised image-to-image translation networks", NeurIPS 2017 (arXiv 1703.00848).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from darkseg_ros.errors import InputError
from training.runs.checkpoints import load_checkpoint
from training.translation.unit.config import LATENT_STRIDE

Domain = Literal["day", "night"]
Direction = Literal["day_to_night", "night_to_day"]

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
        self.shared_encoder = _residual_blocks(self.latent_channels, shared_blocks, "instance")
        self.shared_generator = _residual_blocks(self.latent_channels, shared_blocks, generator_norm)
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
        refuse_odd_size(day)
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


class Translator(nn.Module):
    """One direction of a trained UNIT: (B, 3, H, W) RGB in [-1, 1] → the same in the other domain.

    H and W are multiples of 4; the latent code is the mean, without noise, so equal images translate equally.
    """

    def __init__(self, encoder: nn.Module, generator: nn.Module) -> None:
        super().__init__()
        self.encoder, self.generator = encoder, generator

    def forward(self, images: Tensor) -> Tensor:
        refuse_odd_size(images)
        return self.generator(self.encoder(images))


def load_translator(checkpoint: Path, direction: Direction = "day_to_night") -> tuple[Translator, dict[str, Any]]:
    """The averaged weights of a run of `training.train_unit`, in evaluation mode, and the run's settings.

    Raises:
        InputError: if the file is no checkpoint of `training.train_unit`, or there is no such direction.
    """
    if direction not in ("day_to_night", "night_to_day"):
        raise InputError(f"there is no direction {direction}; expected day_to_night or night_to_day")
    state = load_checkpoint(checkpoint)
    if "averaged_unit" not in state:
        raise InputError(f"{checkpoint} is of another kind of run; expected one of training.train_unit")
    try:
        unit = build_unit(state["config"]["network"])
        unit.load_state_dict(state["averaged_unit"])
    except (KeyError, RuntimeError) as error:
        raise InputError(
            f"{checkpoint} holds a UNIT that this version does not know ({error}); train it anew or take its version"
        ) from error
    from_day = direction == "day_to_night"
    encoder = unit.encoder("day" if from_day else "night")
    generator = unit.generator("night" if from_day else "day")
    return Translator(encoder, generator).eval().requires_grad_(False), state["config"]


def build_unit(settings: Any) -> Unit:
    """The `Unit` of a `unit_config.UnitNetworkConfig`, or of a mapping with its keys."""
    return Unit(
        channels=settings["channels"],
        residual_blocks=settings["residual_blocks"],
        shared_blocks=settings["shared_blocks"],
        generator_norm=settings["generator_norm"],
    )


def refuse_odd_size(images: Tensor) -> None:
    """Raise InputError unless height and width are multiples of `LATENT_STRIDE`."""
    height, width = images.shape[-2:]
    if height % LATENT_STRIDE or width % LATENT_STRIDE:
        raise InputError(
            f"an image of {width}×{height} cannot be translated; expected sides that are multiples of {LATENT_STRIDE}: "
            "resize or pad it"
        )


class _ResidualBlock(nn.Module):
    def __init__(self, channels: int, norm: str) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_convolution(channels, channels, 3, norm=norm), nn.ReLU(), *_convolution(channels, channels, 3, norm=norm)
        )

    def forward(self, features: Tensor) -> Tensor:
        return features + self.body(features)


def _residual_blocks(channels: int, count: int, norm: str) -> nn.Sequential:
    return nn.Sequential(*(_ResidualBlock(channels, norm) for _ in range(count)))


def _front(channels: int, own_blocks: int) -> nn.Sequential:
    return nn.Sequential(
        *_convolution(3, channels, 7, norm="instance"),
        nn.ReLU(),
        *_convolution(channels, 2 * channels, 4, norm="instance", stride=2),
        nn.ReLU(),
        *_convolution(2 * channels, 4 * channels, 4, norm="instance", stride=2),
        nn.ReLU(),
        _residual_blocks(4 * channels, own_blocks, "instance"),
    )


def _back(channels: int, own_blocks: int, norm: str) -> nn.Sequential:
    return nn.Sequential(
        _residual_blocks(4 * channels, own_blocks, norm),
        nn.Upsample(scale_factor=2),
        *_convolution(4 * channels, 2 * channels, 3, norm=norm),
        nn.ReLU(),
        nn.Upsample(scale_factor=2),
        *_convolution(2 * channels, channels, 3, norm=norm),
        nn.ReLU(),
        _image_layer(channels),
        nn.Tanh(),
    )


def _image_layer(channels: int) -> nn.Conv2d:
    layer = nn.Conv2d(channels, 3, 7, padding=3, padding_mode="reflect")
    nn.init.kaiming_normal_(layer.weight)
    layer.weight.data *= 0.3  # the tanh after it would start saturated, and hardly learn
    return layer


def _convolution(in_channels: int, out_channels: int, kernel: int, *, norm: str, stride: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(
        in_channels, out_channels, kernel, stride, padding=(kernel - 1) // 2, padding_mode="reflect", bias=False
    )
    nn.init.kaiming_normal_(convolution.weight)
    # Layer normalisation of a feature map is group normalisation with one group.
    groups = 1 if norm == "layer" else out_channels
    return [convolution, nn.GroupNorm(groups, out_channels)]


def _patch_discriminator(channels: int, layers: int) -> nn.Sequential:
    modules: list[nn.Module] = []
    in_channels = 3
    for layer in range(layers):
        out_channels = channels * 2**layer
        modules += [nn.Conv2d(in_channels, out_channels, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        in_channels = out_channels
    return nn.Sequential(*modules, nn.Conv2d(in_channels, 1, 1))
