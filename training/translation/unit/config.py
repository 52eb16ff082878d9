"""The settings of `training.train_unit`."""

from __future__ import annotations

from dataclasses import dataclass, field

from omegaconf import MISSING

from training.runs.config import RunSettings

LATENT_STRIDE = 4
"""Image pixels to one latent position, along each side."""


@dataclass
class UnitDataConfig:
    """Where the images of the two domains are; no image needs a partner.

    Attributes:
        day: folders of images, drawn from as one pool.
        night: the same.
        day_list: image list of the only folder of `day` (see `training.data.image_lists`); null for all of its images.
        night_list: the same of `night`.
    """

    day: list[str] = MISSING
    night: list[str] = MISSING
    day_list: str | None = None
    night_list: str | None = None


@dataclass
class UnitNetworkConfig:
    """Sizes of `training.translation.unit.network`.

    Attributes:
        channels: width of encoders and generators at full image size; the latent code has four times as many.
        residual_blocks: of each encoder and each generator.
        shared_blocks: of these, the ones both domains share.
        generator_norm: instance or layer.
        discriminator_channels: width of the first layer of a discriminator, doubled by each further one.
        discriminator_layers: strided convolutions.
        discriminator_scales: sizes at which an image is judged.
    """

    channels: int = 64
    residual_blocks: int = 4
    shared_blocks: int = 1
    generator_norm: str = "layer"
    discriminator_channels: int = 64
    discriminator_layers: int = 4
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
class UnitOptimiserConfig:
    """Adam; the learning rate is constant for the first half of the run and falls linearly to 0 in the second.

    Attributes:
        lr: of encoders and generators, and of the discriminators.
        average_decay: of the averaged weights, once warmed up.
    """

    lr: float = 1e-4
    average_decay: float = 0.999


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
class UnitConfig(RunSettings):
    """Everything that one training run depends on.

    Attributes:
        output: folder of the run: checkpoints, TensorBoard events, samples.
        steps: optimiser steps in all.
        batch_size: pairs of images a step, over all processes.
        view_px: side of the square that images are squeezed into.
        crop_px: side of the random square cut out of it; a multiple of 4.
    """

    output: str = MISSING
    seed: int = 0
    steps: int = 280_000
    batch_size: int = 1
    view_px: int = 256
    crop_px: int = 256
    data: UnitDataConfig = field(default_factory=UnitDataConfig)
    network: UnitNetworkConfig = field(default_factory=UnitNetworkConfig)
    weights: UnitWeights = field(default_factory=UnitWeights)
    perceptual: PerceptualConfig = field(default_factory=PerceptualConfig)
    optimiser: UnitOptimiserConfig = field(default_factory=UnitOptimiserConfig)
