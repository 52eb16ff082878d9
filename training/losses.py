"""The losses of segmentation: cross-entropy, focal, the thesis's combination of the two, and distillation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.nn import functional

from darkseg_ros.classes import IGNORE_INDEX
from training.data.class_balance import class_weights
from training.networks.layers import upsample_bilinear
from training.runs.fabric import all_reduce
from training.segmenter_config import LossConfig


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
        logits: (B, K, H/4, W/4) float.
        labels: (B, H, W) int64 train ids, IGNORE_INDEX = not counted.
        config: of the loss.
        class_weights: (K,) weight of each class.

    """
    logits = logits_at(logits, (labels.shape[1], labels.shape[2]), config.stride)
    first = config.stride // 2
    labels = labels[:, first :: config.stride, first :: config.stride]  # one pixel each: averaging would invent classes
    log_p_t = -functional.cross_entropy(logits, labels, ignore_index=IGNORE_INDEX, reduction="none")
    pixel_weights = functional.pad(class_weights, (0, IGNORE_INDEX + 1 - len(class_weights)))[labels]
    return SummedLoss(total=(pixel_weights * pixel_loss(log_p_t, config)).sum(), weight=pixel_weights.sum())


def class_weight_tensor(shares: np.ndarray, *, exponent: float) -> Tensor:
    """(K,) float32 of `training.data.class_balance.class_weights`."""
    return torch.tensor(class_weights(shares, exponent=exponent), dtype=torch.float32)


def logits_at(logits: Tensor, full_hw: tuple[int, int], stride: int) -> Tensor:
    """Logits at the centres of every n-th pixel of an image, bilinearly, from stride // 2 on in both directions.

    Resizing to 1/stride of the image would give them at the corners between pixels where the stride is even.

    Args:
        logits: (B, K, h, w) float.
        full_hw: size of the image that they span.
        stride: of the pixels, 1 or more.

    Returns:
        (B, K, ⌈(H − stride // 2) / stride⌉, …) float.
    """
    if stride == 1:
        return upsample_bilinear(logits, full_hw)
    rows, columns = (
        _bilinear_weights(size, full, stride, logits) for size, full in zip(logits.shape[-2:], full_hw, strict=True)
    )
    return rows @ logits @ columns.T


def _bilinear_weights(size: int, full: int, stride: int, like: Tensor) -> Tensor:
    """(positions, size) weights of the values along one side at every n-th pixel's centre."""
    pixels = torch.arange(stride // 2, full, stride, device=like.device)
    positions = ((pixels + 0.5) * (size / full) - 0.5).clamp(0, size - 1)
    distance = (positions[:, None] - torch.arange(size, device=like.device)).abs()
    return (1 - distance).clamp(min=0).to(like.dtype)


def distillation_loss(logits: Tensor, wanted: Tensor) -> SummedLoss:
    """Kullback–Leibler divergence of the probabilities of `logits` from those of `wanted`, every pixel alike.

    Args:
        logits: (B, K, H, W) float.
        wanted: (B, K, H, W) float, the other network's logits; no gradient reaches it.

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

    Args:
        log_p_t: of any shape.
        config: which loss; `training.segmenter_config.refuse_unusable` lets no other kind through.
    """
    if config.kind == "cross_entropy":
        return cross_entropy(log_p_t)
    if config.kind == "focal":
        return focal(log_p_t, gamma=config.focal_gamma)
    return combined(log_p_t, alpha=config.combined_alpha, gamma=config.focal_gamma)


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


def mean_over_processes(loss: SummedLoss, fabric: Fabric) -> Tensor:
    """This process' part of a loss's mean over the whole batch, times the number of processes.

    Gradients are averaged over the processes; dividing by what each labelled itself would give the pixels of a process
    with few labels more weight than they have in one process.
    """
    weight = all_reduce(loss.weight, fabric, how="sum")
    return fabric.world_size * loss.total / weight.clamp(min=1e-6)


def pooled(labelled: SummedLoss, pseudo_labelled: SummedLoss, *, weight: float) -> SummedLoss:
    """One loss over the pixels of both, as if they were drawn from one pool.

    Args:
        labelled: of the labelled images.
        pseudo_labelled: of the others.
        weight: of a pixel of the others.
    """
    return SummedLoss(
        total=labelled.total + weight * pseudo_labelled.total,
        weight=labelled.weight + weight * pseudo_labelled.weight,
    )
