"""The settings of `training.train_segmenter`, and those that it shares with `training.adapt_segmenter`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING, DictConfig

from darkseg_ros.errors import InputError
from darkseg_ros.night.cheap_night import CheapNight
from training.data.augmentation import Augmentation
from training.data.cache import CacheConfig
from training.networks.config import NetworkConfig
from training.networks.input_size import SIDE_MULTIPLE
from training.runs.config import TrainingSettings


@dataclass
class ImagesConfig:
    """Where the images are.

    Attributes:
        source: labelled images, drawn from as one pool: labelled day, and day translated to night. Each entry is a
            folder with image/ and label/, or a mapping with the keys of `training.data.pairs.Source`.
        night: folder of unlabelled night images.
        validation: labelled images by the name of their set, as entries of `source`; null leaves a set out. Metrics,
            gates and model cards go by these names.
        shard_groups: sources that lie in shards are split into as many groups of whole shards; each batch takes equally
            many images of each. With a multiple of devices · num_nodes, no shard is read by two processes.
        cache: where decoded training images are kept.
        classes: what is learned, a list of ``{name, category, rgb}`` in the order of the train ids; null for the 19 of
            Cityscapes. With others, data sets of the catalogue need a ``mapping``.
    """

    source: list[Any] = MISSING
    night: str = MISSING
    validation: dict[str, Any] = field(default_factory=dict)
    shard_groups: int = 1
    cache: CacheConfig = field(default_factory=CacheConfig)
    classes: list[Any] | None = None


@dataclass
class DataConfig(ImagesConfig):
    """Where the images of `training.train_segmenter` are.

    Attributes:
        pseudo_labels: folder of label maps that `training.pseudo_label` wrote for the images of `night`; null without
            self-training.
    """

    pseudo_labels: str | None = None


@dataclass
class LossConfig:
    """Which loss, and where it is taken.

    Attributes:
        kind: cross_entropy, focal or combined.
        focal_gamma: how far sure pixels are played down; 0 makes the focal loss the cross-entropy.
        combined_alpha: share of the cross-entropy in the combined loss, the rest is focal.
        stride: the loss is taken at 1/this of the crop's size: 1 at full size, 2 at half, a quarter of the time.
        class_weight_exponent: of `training.data.class_balance.class_weights`; 0 weighs all pixels alike, 1 all
            classes. In the focal loss the weights are α_t.
    """

    kind: str = "cross_entropy"
    focal_gamma: float = 2.0
    combined_alpha: float = 0.5
    stride: int = 2
    class_weight_exponent: float = 0.0


@dataclass
class OptimiserConfig:
    """AdamW with linear warm-up and a cosine down to `final_factor`.

    Attributes:
        encoder_lr: peak learning rate of the encoder.
        decoder_lr: of decoder and head.
        weight_decay: decoupled.
        warmup_steps: steps of the linear rise.
        final_factor: last learning rate over the peak.
        gradient_clip: largest norm of the gradient.
        average_decay: of the averaged weights (the teacher), once warmed up.
    """

    encoder_lr: float = 3e-4
    decoder_lr: float = 1.5e-3
    weight_decay: float = 0.01
    warmup_steps: int = 150
    final_factor: float = 0.02
    gradient_clip: float = 5.0
    average_decay: float = 0.998


@dataclass
class SelfTrainingConfig:
    """Learning from the night images that `data.pseudo_labels` has label maps for.

    Attributes:
        batch_size: pseudo-labelled night images a step, beside the labelled ones, over all processes; 0 switches
            self-training off. 2 beside a `SegmenterConfig.batch_size` of 8 are the thesis's quarter.
        mix_share: of the steps in which labelled objects are pasted onto the night images.
        weight: of the pseudo-labelled loss.
        pooled: take one mean over the pixels of both, as the thesis's pooled data do, so that 2 of 10 images are about
            20 % of the loss; false adds two means, which are 50 % each.
    """

    batch_size: int = 0
    mix_share: float = 0.5
    weight: float = 1.0
    pooled: bool = False


@dataclass
class DistillationConfig:
    """Learning the probabilities that another segmenter gives to the pseudo-labelled night images.

    Attributes:
        checkpoint: of another run, of any network, whose averaged weights answer; null switches distillation off.
        weight: of `training.losses.distillation_loss`.
    """

    checkpoint: str | None = None
    weight: float = 1.0


@dataclass
class SegmenterRunConfig(TrainingSettings):
    """What a run that trains a segmenter depends on, however it does so.

    Attributes:
        batch_size: labelled images a step, over all processes.
        rare_class_share: of the labelled images drawn by rare class.
        rare_class_temperature: lower prefers rarer classes.
    """

    steps: int = 4000
    batch_size: int = 8
    rare_class_share: float = 0.5
    rare_class_temperature: float = 0.05
    network: NetworkConfig = field(default_factory=NetworkConfig)
    augmentation: Augmentation = field(default_factory=Augmentation)
    cheap_night: CheapNight = field(default_factory=CheapNight)
    loss: LossConfig = field(default_factory=LossConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)


@dataclass
class SegmenterConfig(SegmenterRunConfig):
    """Everything that one run of `training.train_segmenter` depends on."""

    data: DataConfig = field(default_factory=DataConfig)
    self_training: SelfTrainingConfig = field(default_factory=SelfTrainingConfig)
    distillation: DistillationConfig = field(default_factory=DistillationConfig)


def refuse_unusable_loss(loss: DictConfig) -> None:
    """Raise InputError for a `LossConfig` that no loss can be taken with."""
    if loss.kind not in ("cross_entropy", "focal", "combined"):
        raise InputError(f"loss.kind is {loss.kind}; expected cross_entropy, focal or combined")
    if loss.focal_gamma < 0 or not 0 <= loss.combined_alpha <= 1:
        raise InputError(
            f"loss.focal_gamma is {loss.focal_gamma} and loss.combined_alpha {loss.combined_alpha}; "
            "expected 0 or more, and 0…1"
        )
    if loss.stride < 1:
        raise InputError(f"loss.stride is {loss.stride}; expected 1 or more")


def refuse_unusable_sizes(config: DictConfig) -> None:
    """Raise InputError for an input or crops that no network takes, or that are of two shapes.

    Args:
        config: a resolved `SegmenterRunConfig`.
    """
    network, augmentation = config.network, config.augmentation
    for name, height_px in (("network.input_px", network.input_px), ("augmentation.crop_px", augmentation.crop_px)):
        if height_px < SIDE_MULTIPLE or height_px % SIDE_MULTIPLE:
            raise InputError(f"{name} is {height_px}; expected a multiple of {SIDE_MULTIPLE}")
    if not 0.1 <= network.width_over_height <= 10:
        raise InputError(
            f"network.width_over_height is {network.width_over_height}; expected 0.1…10, such as 2 for 320×640 pixels"
        )
    if augmentation.width_over_height != network.width_over_height:
        raise InputError(
            f"network.width_over_height is {network.width_over_height} and augmentation.width_over_height "
            f"{augmentation.width_over_height}: objects would be learnt in another shape than they are judged in; "
            "set both to one value"
        )


def refuse_unusable(config: DictConfig) -> None:
    """Raise InputError for settings that do not fit each other, before anything heavy is loaded.

    Args:
        config: a resolved `SegmenterConfig`.
    """
    refuse_unusable_loss(config.loss)
    refuse_unusable_sizes(config)
    self_training = config.self_training
    if self_training.batch_size and not config.data.pseudo_labels:
        raise InputError("self_training.batch_size is set without data.pseudo_labels; run training.pseudo_label first")
    if self_training.mix_share and self_training.batch_size > config.batch_size:
        raise InputError(
            f"batch_size {config.batch_size} labels fewer images than self_training.batch_size "
            f"{self_training.batch_size}; choose a smaller one, or self_training.mix_share=0"
        )
    if config.distillation.checkpoint and not self_training.batch_size:
        raise InputError(
            "distillation.checkpoint is set without night images to answer; set self_training.batch_size too"
        )
