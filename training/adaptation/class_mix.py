"""ClassMix: labelled objects pasted onto pseudo-labelled images."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from darkseg_ros.classes import IGNORE_INDEX
from training.data.random_streams import Stream, generator


def mix_in_some_steps(
    labelled: Mapping[str, Tensor],
    images: Tensor,
    labels: Tensor,
    *,
    share: float,
    seed: int,
    step: int,
    rank: int,
) -> tuple[Tensor, Tensor]:
    """`mix_classes` of labelled images onto others in a share of the steps; in the other steps they stay as they are.

    Args:
        labelled: a batch of `training.data.samples.LabelledSamples`, at least as many as `images`. Every n-th counts,
            so that the pairs are the same in any number of processes.
        images: (N, 3, H, W) float.
        labels: (N, H, W) int64.
        share: of the steps.
        seed: of the run.
        step: of the run.
        rank: of this process.
    """
    if generator(seed, Stream.MIX_OR_NOT, step).random() >= share:
        return images, labels
    every = max(len(labelled["images"]) // len(images), 1)
    return mix_classes(
        labelled["images"][::every],
        labelled["labels"][::every],
        images,
        labels,
        seed=seed,
        step=step,
        first_position=rank * len(images),
    )


def mix_classes(
    source_images: Tensor,
    source_labels: Tensor,
    target_images: Tensor,
    target_labels: Tensor,
    *,
    seed: int,
    step: int = 0,
    first_position: int = 0,
) -> tuple[Tensor, Tensor]:
    """Paste half of the classes of each source image onto a target image.

    Args:
        source_images: (B, 3, H, W) float.
        source_labels: (B, H, W) int64 train ids.
        target_images: (N, 3, H, W) float, N ≤ B.
        target_labels: (N, H, W) int64.
        seed: of the run.
        step: of the run; the choice of classes is another in each.
        first_position: of the target images in the global batch: the choice goes by position, so that it is the same
            whatever process makes it.

    Returns:
        (N, 3, H, W) mixed images and (N, H, W) int64 labels.

    Source: Olsson et al., ClassMix, WACV 2021 (arXiv 2007.07936); across domains: Tranheden et al., DACS, WACV 2021
        (arXiv 2007.08702).
    """
    images, labels = [], []
    for index, (source, source_label, target, target_label) in enumerate(
        zip(source_images, source_labels, target_images, target_labels, strict=False)
    ):
        rng = generator(seed, Stream.CLASS_MIX, step, first_position + index)
        present = [int(c) for c in torch.unique(source_label) if c != IGNORE_INDEX]
        chosen = rng.permutation(present)[: (len(present) + 1) // 2]
        pasted = torch.isin(source_label, torch.tensor(chosen, dtype=torch.int64, device=source_label.device))
        images.append(torch.where(pasted, source, target))
        labels.append(torch.where(pasted, source_label, target_label))
    return torch.stack(images), torch.stack(labels)
