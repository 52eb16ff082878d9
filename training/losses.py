"""The losses of segmentation: cross-entropy, focal, the thesis's combination of the two, and distillation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from darkseg_ros.classes import IGNORE_INDEX, NUM_CLASSES
from darkseg_ros.errors import InputError
from training.networks.layers import upsample_bilinear


@dataclass
class LossConfig:
    """Which loss, and where it is taken.

    Attributes:
        kind: cross_entropy, focal or combined.
        focal_gamma: how far sure pixels are played down; 0 makes the focal loss the cross-entropy.
        combined_alpha: share of the cross-entropy in the combined loss, the rest is focal.
        stride: the loss is taken at 1/this of the crop's size: 1 at full size, 2 at half, a quarter of the time.
        class_weight_exponent: of the class weights (`datasets.class_weights`); 0 weighs all pixels alike, 1 all
            classes. In the focal loss the weights are α_t.
    """

    kind: str = "cross_entropy"
    focal_gamma: float = 2.0
    combined_alpha: float = 0.5
    stride: int = 2
    class_weight_exponent: float = 0.0


@dataclass(frozen=True)
class SummedLoss:
    """A loss before its division, so that several processes can divide by what they labelled together.

    Attributes:
        total: scalar, the weighted sum over the pixels that count.
        weight: scalar, the sum of their weights.
    """

    total: Tensor
    weight: Tensor


def segmentation_loss(logits: Tensor, labels: Tensor, *, config: LossConfig, class_weights: Tensor) -> SummedLoss:
    """The loss of a batch; its weighted mean is ``total / weight``.

    Args:
        logits: (B, 19, H/4, W/4) float.
        labels: (B, H, W) int64 train ids, IGNORE_INDEX = not counted.
        config: of the loss.
        class_weights: (19,) weight of each class.

    Raises:
        InputError: if `config` names no loss, or settings outside their range.
    """
    stride = config.stride
    labels = labels[:, stride // 2 :: stride, stride // 2 :: stride]  # the centre pixel: averaging would invent classes
    logits = upsample_bilinear(logits, labels.shape[-2:])
    log_p_t = -functional.cross_entropy(logits, labels, ignore_index=IGNORE_INDEX, reduction="none")
    pixel_weights = functional.pad(class_weights, (0, IGNORE_INDEX + 1 - NUM_CLASSES))[labels]
    return SummedLoss(total=(pixel_weights * pixel_loss(log_p_t, config)).sum(), weight=pixel_weights.sum())


def distillation_loss(logits: Tensor, wanted: Tensor) -> SummedLoss:
    """Kullback–Leibler divergence of the probabilities of `logits` from those of `wanted`, every pixel alike.

    Args:
        logits: (B, 19, H, W) float.
        wanted: (B, 19, H, W) float, the other network's logits; no gradient reaches it.

    Source: Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network" (arXiv 1503.02531), section 2.
    Differs: temperature 1.
    """
    divergence = functional.kl_div(
        functional.log_softmax(logits, dim=1),
        functional.log_softmax(wanted.detach(), dim=1),
        log_target=True,
        reduction="sum",
    )
    return SummedLoss(total=divergence, weight=logits.new_tensor(logits[:, 0].numel()))


def pixel_loss(log_p_t: Tensor, config: LossConfig) -> Tensor:
    """The loss of each pixel from ln p_t, the logarithm of the probability of its labelled class.

    Raises:
        InputError: if `config` names no loss, or settings outside their range.
    """
    if config.focal_gamma < 0 or not 0 <= config.combined_alpha <= 1:
        raise InputError(
            f"loss.focal_gamma is {config.focal_gamma} and loss.combined_alpha {config.combined_alpha}; "
            "expected 0 or more, and 0…1"
        )
    if config.kind == "cross_entropy":
        return cross_entropy(log_p_t)
    if config.kind == "focal":
        return focal(log_p_t, gamma=config.focal_gamma)
    if config.kind == "combined":
        return combined(log_p_t, alpha=config.combined_alpha, gamma=config.focal_gamma)
    raise InputError(f"loss.kind is {config.kind}; expected cross_entropy, focal or combined")


def cross_entropy(log_p_t: Tensor) -> Tensor:
    """-ln p_t.

    Source: thesis, equation 3.10.
    """
    return -log_p_t


def focal(log_p_t: Tensor, *, gamma: float) -> Tensor:
    """-(1 - p_t)^γ ln p_t.

    Source: Lin et al., ICCV 2017 (arXiv 1708.02002), equation 5; thesis, equation 3.11.
    Differs: p_t is the softmax probability of the labelled class instead of one sigmoid a class; α_t is the class
        weight in `segmentation_loss` (1 unless asked for); the mean is over pixels, not over positive anchors.
    """
    missing = (-torch.expm1(log_p_t)).clamp(min=1e-6)  # the slope of 0^γ is infinite for γ < 1
    return -(missing**gamma) * log_p_t


def combined(log_p_t: Tensor, *, alpha: float, gamma: float) -> Tensor:
    """α cross-entropy + (1 - α) focal.

    Source: thesis, equation 3.12.
    """
    return alpha * cross_entropy(log_p_t) + (1 - alpha) * focal(log_p_t, gamma=gamma)
