"""Learning from other networks' answers and features."""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from darkseg_ros.classes import CITYSCAPES, IGNORE_INDEX, ClassTable
from training.adaptation.things import things_of
from training.losses import SummedLoss

_CELL_SHARE_MIN = 0.75  # of a feature cell's pixels that are of objects


def soft_cross_entropy(logits: Tensor, wanted: Tensor, weights: Tensor) -> SummedLoss:
    """Cross-entropy against probabilities, each pixel by its own weight; divided by the number of all pixels.

    Args:
        logits: (B, K, h, w) float.
        wanted: (B, K, h, w) probabilities; no gradient reaches them.
        weights: (B, h, w) in [0, 1]: less trust makes a smaller loss.

    Source: Tranheden et al., DACS, WACV 2021 (arXiv 2007.08702), section 3.2.
    Differs: soft labels in the place of the most probable class.
    """
    loss = -(wanted.detach() * functional.log_softmax(logits.float(), dim=1)).sum(1)
    return SummedLoss(total=(weights * loss).sum(), weight=logits.new_tensor(weights.numel(), dtype=torch.float32))


class FeatureAnchor:
    """Holds an encoder's deepest features to those that it started with, where there are objects.

    Args:
        start: the encoder with its first weights; copied.
        encoder: the one that learns; its features are read as it runs.
        classes: of the labels.

    Source: the thing-class ImageNet feature distance of Hoyer et al., DAFormer, CVPR 2022 (arXiv 2111.14887),
        equations 4 to 6.
    Differs: the distance is over the length of the wanted features, so that its weight goes for any encoder.
    """

    def __init__(self, start: nn.Module, encoder: nn.Module, classes: ClassTable = CITYSCAPES) -> None:
        self._things = torch.tensor(things_of(classes))
        self._start = copy.deepcopy(start).eval().requires_grad_(False)
        self._features: Tensor | None = None
        encoder.register_forward_hook(self._keep)

    def _keep(self, _module: nn.Module, _images: object, outputs: list[Tensor]) -> None:
        self._features = outputs[-1]

    def distance(self, images: Tensor, labels: Tensor) -> SummedLoss:
        """The distance for the first images of the encoder's last batch.

        Args:
            images: (B, 3, H, W), the same that the encoder saw.
            labels: (B, H, W) int64 train ids.
        """
        features = cast(Tensor, self._features)[: len(images)].float()
        self._start.to(images.device)
        with torch.no_grad():
            wanted = self._start(images)[-1].float()
        height, width = features.shape[-2:]
        things = torch.isin(labels, self._things.to(labels.device)).float()
        cells = functional.adaptive_avg_pool2d(things, (height, width)) >= _CELL_SHARE_MIN
        distance = (features - wanted).norm(dim=1) / wanted.norm(dim=1).clamp(min=1e-6)
        return SummedLoss(total=(distance * cells).sum(), weight=cells.sum().float())


def paste_labels(wanted: Tensor, weights: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities and weights of mixed images: certain where a label was pasted, the teacher's elsewhere.

    Args:
        wanted: (B, K, h, w) probabilities.
        weights: (B, h, w).
        labels: (B, H, W) int64 train ids that were pasted, IGNORE_INDEX elsewhere; H and W multiples of h and w.
    """
    stride = labels.shape[-1] // wanted.shape[-1]
    labels = labels[:, stride // 2 :: stride, stride // 2 :: stride]
    pasted = labels != IGNORE_INDEX
    certain = functional.one_hot(labels * pasted, wanted.shape[1]).movedim(-1, 1).to(wanted.dtype)
    return torch.where(pasted[:, None], certain, wanted), torch.where(pasted, torch.ones_like(weights), weights)
