"""The settings of UNIT."""

from __future__ import annotations

from dataclasses import dataclass, field

from omegaconf import DictConfig

from darkseg_ros.errors import InputError
from training.translation.settings import STRIDE, NetworkSizes, TranslatorConfig, TranslatorOptimiser, refuse_sizes


@dataclass
class UnitNetworkConfig(NetworkSizes):
    """Sizes of `training.translation.unit.network`; the latent code has four times as many channels as the first layer.

    Attributes:
        residual_blocks: of each encoder and each generator.
        shared_blocks: of these, the ones both domains share.
        generator_norm: instance or layer.
        discriminator_scales: sizes at which an image is judged.
    """

    discriminator_layers: int = 4
    residual_blocks: int = 4
    shared_blocks: int = 1
    generator_norm: str = "layer"
    discriminator_scales: int = 3


@dataclass
class PerceptualConfig:
    """What images and translated images are compared by; see `training.translation.unit.losses.VggFeatures`.

    Attributes:
        vgg_weights: file of the weights; needed where `weights.perceptual` is not 0.
        layer: relu1_1 … relu5_3.
        reduction: images are made smaller by this factor first.
    """

    vgg_weights: str | None = None
    layer: str = "relu4_3"
    reduction: int = 1


@dataclass
class UnitWeights:
    """Weights of `UnitTerms`.

    Attributes:
        kl: λ1.
        reconstruction: λ2.
        gan: λ0.
        cycle_kl: λ3.
        cycle_reconstruction: λ4.
        perceptual: λvgg; 0 leaves the term out.

    Source: thesis, sections 3.2.3 and 3.2.4.
    """

    kl: float = 0.1
    reconstruction: float = 100.0
    gan: float = 10.0
    cycle_kl: float = 0.1
    cycle_reconstruction: float = 100.0
    perceptual: float = 1.0


@dataclass
class UnitConfig(TranslatorConfig):
    """Everything that one run of UNIT depends on."""

    translator: str = "unit"
    network: UnitNetworkConfig = field(default_factory=UnitNetworkConfig)
    weights: UnitWeights = field(default_factory=UnitWeights)
    perceptual: PerceptualConfig = field(default_factory=PerceptualConfig)
    optimiser: TranslatorOptimiser = field(default_factory=lambda: TranslatorOptimiser(lr=1e-4))


def refuse_unusable(config: DictConfig) -> None:
    """Raise InputError for sizes that cannot be cut out or translated, and a loss without its weights."""
    layers, scales = config.network.discriminator_layers, config.network.discriminator_scales
    refuse_sizes(
        config,
        stride=STRIDE,
        smallest=2 ** (layers + scales - 1),
        discriminator=f"discriminators of {layers} layers and {scales} scales",
    )
    if config.weights.perceptual and not config.perceptual.vgg_weights:
        raise InputError("weights.perceptual is set without perceptual.vgg_weights; name the file, or set it to 0")
