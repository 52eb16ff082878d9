"""The settings of Pix2Pix."""

from __future__ import annotations

from dataclasses import dataclass, field

from omegaconf import DictConfig

from darkseg_ros.errors import InputError
from training.translation.settings import NetworkSizes, TranslatorConfig, refuse_sizes


@dataclass
class Pix2PixNetwork(NetworkSizes):
    """Sizes of `training.translation.pix2pix.network`; each layer doubles the channels, at most eightfold.

    Attributes:
        downsamplings: halvings of the image; the paper has 8, for 256². Sides are multiples of 2 to this power.
        dropout: in the innermost three layers of the way up, while training; the noise of the conditional GAN.
    """

    downsamplings: int = 8
    dropout: float = 0.5


@dataclass
class Pix2PixWeights:
    """Weights of the terms that the generator minimises.

    Attributes:
        gan: conditional GAN.
        l1: distance to the partner.

    Source: arXiv 1611.07004, section 3.1 and appendix 6.2: λ = 100.
    """

    gan: float = 1.0
    l1: float = 100.0


@dataclass
class Pix2PixConfig(TranslatorConfig):
    """Everything that one run of Pix2Pix depends on; it learns day to night from images with partners."""

    translator: str = "pix2pix"
    network: Pix2PixNetwork = field(default_factory=Pix2PixNetwork)
    weights: Pix2PixWeights = field(default_factory=Pix2PixWeights)


def refuse_unusable(config: DictConfig) -> None:
    """Raise InputError for sizes that cannot be cut out, translated or judged."""
    from training.translation.patch_discriminator import smallest_px

    network = config.network
    if not 2 <= network.downsamplings <= 10 or not 0 <= network.dropout < 1:
        raise InputError(
            f"network.downsamplings is {network.downsamplings} and network.dropout {network.dropout}; "
            "expected 2…10, and 0 or more and less than 1"
        )
    layers = network.discriminator_layers
    refuse_sizes(
        config,
        stride=2**network.downsamplings,
        smallest=smallest_px(layers),
        discriminator=f"discriminators of {layers} layers",
    )
