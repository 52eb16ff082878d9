"""The settings that all translators have; each adds its network and the weights of its loss."""

from __future__ import annotations

from dataclasses import dataclass, field

from omegaconf import MISSING, DictConfig

from darkseg_ros.errors import InputError
from training.data.cache import CacheConfig
from training.runs.config import TrainingSettings

STRIDE = 4
"""UNIT and CycleGAN halve images twice, so that sides are multiples of it."""


@dataclass
class NetworkSizes:
    """Sizes of the networks of every translator.

    Attributes:
        channels: width of the generators' first layer.
        discriminator_channels: width of the first layer of a discriminator.
        discriminator_layers: its convolutions of stride 2.
    """

    channels: int = 64
    discriminator_channels: int = 64
    discriminator_layers: int = 3


@dataclass
class TranslatorData:
    """Where the images of the two domains are.

    Attributes:
        day: folders of images, drawn from as one pool.
        night: the same; for a paired translator, images of the same names as those by day.
        day_list: image list of the only folder of `day` (see `training.data.image_lists`); null for all of its images.
        night_list: the same of `night`.
        cache: where decoded images are kept.
    """

    day: list[str] = MISSING
    night: list[str] = MISSING
    day_list: str | None = None
    night_list: str | None = None
    cache: CacheConfig = field(default_factory=CacheConfig)


@dataclass
class TranslatorOptimiser:
    """Adam; the learning rate is constant for the first half of the run and falls linearly to 0 in the second.

    Attributes:
        lr: of generators and discriminators.
        average_decay: of the averaged weights, once warmed up.
    """

    lr: float = 2e-4
    average_decay: float = 0.999


@dataclass
class TranslatorConfig(TrainingSettings):
    """What every translator's run depends on.

    Attributes:
        translator: a name of `training.translation.catalogue.TRANSLATORS`.
        batch_size: pairs of images a step, over all processes.
        view_px: side of the square that images are squeezed into.
        crop_px: side of the random square cut out of it.
    """

    translator: str = MISSING
    steps: int = 280_000
    batch_size: int = 1
    view_px: int = 256
    crop_px: int = 256
    data: TranslatorData = field(default_factory=TranslatorData)
    optimiser: TranslatorOptimiser = field(default_factory=TranslatorOptimiser)


def refuse_sizes(config: DictConfig, *, stride: int, smallest: int, discriminator: str) -> None:
    """Raise InputError for squares that cannot be cut out, translated or judged.

    Args:
        config: a `TranslatorConfig`.
        stride: the network takes multiples of it.
        smallest: side that the discriminator needs.
        discriminator: in words, for the message.
    """
    for name in ("view_px", "crop_px"):
        if config[name] <= 0 or config[name] % stride:
            nearest = max(1, round(config[name] / stride)) * stride
            raise InputError(f"{name} is {config[name]}; expected a multiple of {stride}, such as {nearest}")
    if config.crop_px > config.view_px:
        raise InputError(f"crop_px is {config.crop_px}, larger than view_px, {config.view_px}; make it smaller")
    if config.crop_px < smallest:
        raise InputError(f"crop_px is {config.crop_px}; {discriminator} need {smallest} or more")
