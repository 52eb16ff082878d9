"""The settings of CycleGAN."""

from __future__ import annotations

from dataclasses import dataclass, field

from omegaconf import DictConfig

from darkseg_ros.errors import InputError
from training.translation.settings import STRIDE, NetworkSizes, TranslatorConfig, refuse_sizes


@dataclass
class CycleGanNetwork(NetworkSizes):
    """Sizes of `training.translation.cyclegan.network`; residual blocks have four times as many channels.

    Attributes:
        residual_blocks: of each generator; the paper has 9, and 6 for 128².
    """

    residual_blocks: int = 9


@dataclass
class CycleGanWeights:
    """Weights of the terms that the generators minimise.

    Attributes:
        gan: least-squares GAN, both directions.
        cycle: L1 between an image and its way there and back.
        identity: L1 between a night image and what day → night makes of it, and the other way; 0 leaves it out.

    Source: arXiv 1703.10593, sections 4 and 5.2: λ = 10, identity 0.5 λ.
    """

    gan: float = 1.0
    cycle: float = 10.0
    identity: float = 5.0


@dataclass
class CycleGanConfig(TranslatorConfig):
    """Everything that one run of CycleGAN depends on.

    Attributes:
        pool_size: earlier translations that the discriminators are shown too; 0 shows the newest alone.
    """

    translator: str = "cyclegan"
    network: CycleGanNetwork = field(default_factory=CycleGanNetwork)
    weights: CycleGanWeights = field(default_factory=CycleGanWeights)
    pool_size: int = 50


def refuse_unusable(config: DictConfig) -> None:
    """Raise InputError for sizes that cannot be cut out, translated or judged."""
    from training.translation.patch_discriminator import smallest_px

    layers = config.network.discriminator_layers
    refuse_sizes(
        config, stride=STRIDE, smallest=smallest_px(layers), discriminator=f"discriminators of {layers} layers"
    )
    if config.pool_size < 0:
        raise InputError(f"pool_size is {config.pool_size}; expected 0 or more")
