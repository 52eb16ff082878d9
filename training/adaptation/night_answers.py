"""What a student is to learn for unlabelled night images."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from darkseg_ros.classes import ClassTable
from training.adaptation.pseudo_labels import adjust_to_shares, confidence_weights
from training.adaptation.second_opinion import consider
from training.adaptation.settings import NightConfig


@torch.no_grad()
def night_answers(
    teacher: nn.Module, night: dict[str, Tensor], *, config: NightConfig, log_weights: Tensor, classes: ClassTable
) -> tuple[Tensor, Tensor]:
    """What the student is to learn for night images, (B, K, h, w) probabilities, and how much it counts, (B, h, w).

    Args:
        teacher: the averaged student, in evaluation mode.
        night: a batch of `training.adaptation.night_samples.NightSamples`.
        config: of the night.
        log_weights: see `adjust_to_shares`.
        classes: of the teacher.
    """
    wanted = torch.softmax(teacher(night["calm"]).float(), 1)
    if "answers" in night:
        wanted = (1 - config.answers_weight) * wanted + config.answers_weight * night["answers"]
    wanted = adjust_to_shares(wanted, log_weights, strength=config.share_adjustment)
    wanted = consider(wanted, night["opinion"], weight=config.box_weight, classes=classes)
    return wanted, confidence_weights(wanted, pixel_min=config.pixel_min, by_image=config.by_image)
