"""The settings of `training.train_segmenter`; an unknown key is an error."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from darkseg_ros.errors import InputError
from training.augmentation import Augmentation
from training.cheap_night import CheapNight


@dataclass
class DataConfig:
    """Where the images are.

    Attributes:
        source: folder with image/ and label/: labelled day.
        night: folder of unlabelled night images.
        pseudo_labels: folder of label maps that `training.pseudo_label` wrote for them; null without self-training.
        day_validation: folder with image/ and label/.
        night_validation: the same, by night.
    """

    source: str = MISSING
    night: str = MISSING
    pseudo_labels: str | None = None
    day_validation: str = MISSING
    night_validation: str = MISSING


@dataclass
class NetworkConfig:
    """The network and what it starts from.

    Attributes:
        encoder: segmentation_models_pytorch's name of it.
        encoder_weights: torchvision state dict of the encoder; null for a random start.
        channels: width of the decoder.
        input_px: side of the square that validation images, and later camera frames, are squeezed into.
        start_checkpoint: checkpoint of another run whose averaged weights this run starts from; null for none.
    """

    encoder: str = "mobilenet_v2"
    encoder_weights: str | None = None
    channels: int = 64
    input_px: int = 384
    start_checkpoint: str | None = None


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
        batch_size: pseudo-labelled night images a step; 0 switches self-training off.
        mix_share: of the steps in which labelled objects are pasted onto the night images.
        weight: of the pseudo-labelled loss.
    """

    batch_size: int = 0
    mix_share: float = 0.5
    weight: float = 1.0


@dataclass
class SegmenterConfig:
    """Everything that one training run depends on.

    Attributes:
        output: folder of the run: checkpoints, TensorBoard events, metrics.json.
        steps: optimiser steps in all.
        batch_size: labelled images a step, over all processes.
        loss_stride: the loss is taken at 1/this of the crop's size.
        rare_class_share: of the labelled images drawn by rare class.
        rare_class_temperature: lower prefers rarer classes.
        class_weight_exponent: of the loss; 0 weighs all pixels alike, 1 all classes.
        loader_workers: image-loading processes; changes nothing but speed.
    """

    output: str = MISSING
    seed: int = 0
    steps: int = 4000
    batch_size: int = 8
    loss_stride: int = 2
    rare_class_share: float = 0.5
    rare_class_temperature: float = 0.05
    class_weight_exponent: float = 0.0
    save_every: int = 200
    evaluate_every: int = 1000
    accelerator: str = "auto"
    devices: int = 1
    num_nodes: int = 1
    precision: str = "32-true"
    loader_workers: int = 1
    data: DataConfig = field(default_factory=DataConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    augmentation: Augmentation = field(default_factory=Augmentation)
    cheap_night: CheapNight = field(default_factory=CheapNight)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    self_training: SelfTrainingConfig = field(default_factory=SelfTrainingConfig)


def read_command_line(description: str, arguments: list[str] | None = None) -> DictConfig:
    """Parse ``--config FILE [key=value …]``.

    Raises:
        InputError: if the file is missing, or a key or value does not fit `SegmenterConfig`.
    """
    parser = ArgumentParser(description=description)
    parser.add_argument("--config", type=Path, required=True, help="YAML file of the run")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings that replace the file's")
    parsed = parser.parse_args(sys.argv[1:] if arguments is None else arguments)
    return load_config(parsed.config, parsed.overrides)


def load_config(path: Path, overrides: list[str]) -> DictConfig:
    """Defaults ← YAML file ← overrides, resolved and complete; raises as `read_command_line`."""
    if not path.is_file():
        raise InputError(f"there is no config {path}; see training/configs/")
    try:
        config = OmegaConf.merge(
            OmegaConf.structured(SegmenterConfig), OmegaConf.load(path), OmegaConf.from_dotlist(overrides)
        )
        OmegaConf.resolve(config)
    except OmegaConfBaseException as error:
        raise InputError(f"{path} with {overrides or 'no overrides'}: {error}") from error
    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        raise InputError(f"{path} leaves {', '.join(missing)} open; set them in the file or as key=value")
    assert isinstance(config, DictConfig)
    return config
