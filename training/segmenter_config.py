"""The settings of `training.train_segmenter`."""

from __future__ import annotations

from dataclasses import dataclass, field

from omegaconf import MISSING

from darkseg_ros.night.cheap_night import CheapNight
from training.data.augmentation import Augmentation
from training.losses import LossConfig
from training.networks.config import NetworkConfig
from training.runs.config import RunSettings


@dataclass
class DataConfig:
    """Where the images are.

    Attributes:
        source: folders with image/ and label/, drawn from as one pool: labelled day, and day translated to night.
        night: folder of unlabelled night images.
        pseudo_labels: folder of label maps that `training.pseudo_label` wrote for them; null without self-training.
        day_validation: folder with image/ and label/.
        night_validation: the same, by night.
    """

    source: list[str] = MISSING
    night: str = MISSING
    pseudo_labels: str | None = None
    day_validation: str = MISSING
    night_validation: str = MISSING


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
    """

    batch_size: int = 0
    mix_share: float = 0.5
    weight: float = 1.0


@dataclass
class DistillationConfig:
    """Learning the probabilities that another segmenter gives to the pseudo-labelled night images.

    Attributes:
        checkpoint: of another run, of any network, whose averaged weights answer; null switches distillation off.
        weight: of `segmentation_losses.distillation_loss`.
    """

    checkpoint: str | None = None
    weight: float = 1.0


@dataclass
class SegmenterConfig(RunSettings):
    """Everything that one training run depends on.

    Attributes:
        output: folder of the run: checkpoints, TensorBoard events, metrics.json.
        steps: optimiser steps in all.
        batch_size: labelled images a step, over all processes.
        rare_class_share: of the labelled images drawn by rare class.
        rare_class_temperature: lower prefers rarer classes.
    """

    output: str = MISSING
    seed: int = 0
    steps: int = 4000
    batch_size: int = 8
    rare_class_share: float = 0.5
    rare_class_temperature: float = 0.05
    data: DataConfig = field(default_factory=DataConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    augmentation: Augmentation = field(default_factory=Augmentation)
    cheap_night: CheapNight = field(default_factory=CheapNight)
    loss: LossConfig = field(default_factory=LossConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    self_training: SelfTrainingConfig = field(default_factory=SelfTrainingConfig)
    distillation: DistillationConfig = field(default_factory=DistillationConfig)
