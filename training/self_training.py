"""Learning from unlabelled night images: a teacher's pseudo-labels, mixed with labelled pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from darkseg_ros.classes import IGNORE_INDEX, NUM_CLASSES
from training.slim_fpn import upsample_bilinear


@dataclass(frozen=True)
class Pseudo:
    """What a teacher says of a batch of images.

    Attributes:
        label_maps: (B, H, W) int64 train ids, IGNORE_INDEX where the teacher is not sure enough.
        image_weight: scalar in [0, 1], the share of trusted pixels on which it is sure.
    """

    label_maps: Tensor
    image_weight: Tensor


class ClassPriors(nn.Module):
    """Class shares of labelled images and of the teacher's answers, as running averages.

    The teacher's probabilities are multiplied by (labelled share / answered share)^strength, so that a class that the
    teacher has stopped seeing at night (the black sky) is not lost for good.

    Source: distribution alignment of Berthelot et al., ReMixMatch, ICLR 2020 (arXiv 1911.09785), section 3.1.
    """

    def __init__(self, *, strength: float, momentum: float = 0.99) -> None:
        super().__init__()
        self._strength, self._momentum = strength, momentum
        uniform = torch.full((NUM_CLASSES,), 1 / NUM_CLASSES)
        self.register_buffer("labelled", uniform.clone())
        self.register_buffer("answered", uniform.clone())
        self.labelled: Tensor
        self.answered: Tensor

    def observe_labels(self, labels: Tensor) -> None:
        """Take the class shares of (B, H, W) labels into the average."""
        counts = torch.bincount(labels[labels != IGNORE_INDEX].flatten(), minlength=NUM_CLASSES).float()
        self.labelled.lerp_(counts / counts.sum().clamp(min=1), 1 - self._momentum)

    def align(self, probabilities: Tensor) -> Tensor:
        """(B, 19, h, w) probabilities → the same, pulled towards the labelled shares and normalised again."""
        self.answered.lerp_(probabilities.mean((0, 2, 3)), 1 - self._momentum)
        ratio = ((self.labelled + 1e-4) / (self.answered + 1e-4)) ** self._strength
        aligned = probabilities * ratio[:, None, None]
        return aligned / aligned.sum(1, keepdim=True)


@torch.no_grad()
def label_with_teacher(
    teacher: nn.Module, images: Tensor, trusted: Tensor, priors: ClassPriors, *, confidence_min: float
) -> Pseudo:
    """Pseudo-label a batch.

    Args:
        teacher: network in evaluation mode.
        images: (B, 3, H, W) float.
        trusted: (B, H, W) bool; other pixels get no label.
        priors: of the run; updated.
        confidence_min: pixels with a lower maximum probability get no label.

    Source: confidence weighting of Tranheden et al., DACS, WACV 2021 (arXiv 2007.08702), section 3.3.
    Differs: the threshold also drops pixels, and the weight is the share over the batch.
    """
    probabilities = priors.align(torch.softmax(teacher(images), 1))
    probability, train_ids = upsample_bilinear(probabilities, images.shape[-2:]).max(1)
    sure = (probability >= confidence_min) & trusted
    label_maps = torch.where(sure, train_ids, IGNORE_INDEX)
    return Pseudo(label_maps, sure.sum() / trusted.sum().clamp(min=1))


def mix_classes(
    source_images: Tensor, source_labels: Tensor, target_images: Tensor, pseudo: Pseudo, *, seed: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    """Paste half of the classes of each labelled image onto a pseudo-labelled one.

    Args:
        source_images: (B, 3, H, W) float, B ≥ the number of targets.
        source_labels: (B, H, W) int64.
        target_images: (N, 3, H, W) float.
        pseudo: of the targets.
        seed: of the choice of classes.

    Returns:
        (N, 3, H, W) mixed images and (N, H, W) int64 labels.

    Source: Olsson et al., ClassMix, WACV 2021 (arXiv 2007.07936).
    """
    rng = np.random.default_rng(seed)
    images, labels = [], []
    for source, source_label, target, target_label in zip(
        source_images, source_labels, target_images, pseudo.label_maps, strict=False
    ):
        present = [int(c) for c in torch.unique(source_label) if c != IGNORE_INDEX]
        chosen = rng.permutation(present)[: (len(present) + 1) // 2]
        pasted = torch.isin(source_label, torch.tensor(chosen, device=source_label.device))
        images.append(torch.where(pasted, source, target))
        labels.append(torch.where(pasted, source_label, target_label))
    return torch.stack(images), torch.stack(labels)
