"""Label maps of a network's answers: aligned to the class shares of a reference, and the surest of each class."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from darkseg_ros.classes import IGNORE_INDEX
from darkseg_ros.errors import InputError
from darkseg_ros.frames.source import read_image
from darkseg_ros.model.exposure import Exposure, normalise_exposure
from training.data.network_input import network_input
from training.networks.layers import OUTPUT_STRIDE

_CHUNK = 32


_ROUNDS = 12


_SMOOTHING_CELLS = 13


_SHARE_FLOOR = 1e-3


@dataclass(frozen=True)
class LabelChoice:
    """Which pixels get a label.

    Attributes:
        portion: share of each class' pixels that is kept, the surest first.
        confidence_min: probability that a label needs.
        bottom_margin: share of the height left out (own bonnet).
    """

    portion: float
    confidence_min: float
    bottom_margin: float


ALL_PIXELS = LabelChoice(portion=1.0, confidence_min=0.0, bottom_margin=0.0)
"""As the thesis; the default without a reference."""


SUREST_PIXELS = LabelChoice(portion=0.6, confidence_min=0.4, bottom_margin=0.1)
"""The default with a reference."""


def aligned_to_reference(
    network: nn.Module,
    images: list[Path],
    reference: list[Path],
    input_hw: tuple[int, int],
    *,
    class_count: int,
    exposure: Exposure | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Train ids and confidence as `aligned_answers` gives them."""
    quarter_hw = [side // OUTPUT_STRIDE for side in input_hw]
    day_total = torch.zeros(class_count, *quarter_hw)
    for answer in answers(network, reference, input_hw, "reference", mirror=True, exposure=exposure):
        day_total += answer.sum(0)
    day_shares = smooth_shares(day_total / len(reference))
    shape = (len(images), class_count, *quarter_hw)
    needed, free = 2 * int(np.prod(shape)), shutil.disk_usage(tempfile.gettempdir()).free
    if free < needed:  # a full disk under a memory map ends the process without a word
        raise InputError(
            f"the answers need {needed / 1e9:.1f} GB, {tempfile.gettempdir()} has {free / 1e9:.1f}; set TMPDIR"
        )
    with tempfile.TemporaryDirectory() as temporary:
        # on disk, not in memory: 10,000 images are 3.5 GB
        stored = np.lib.format.open_memmap(Path(temporary) / "answers.npy", "w+", np.float16, shape)
        filled = 0
        for answer in answers(network, images, input_hw, "night", mirror=True, exposure=exposure):
            stored[filled : filled + len(answer)] = answer.numpy()
            filled += len(answer)
        return aligned_answers(stored, alignment_weights(stored, day_shares))


@torch.no_grad()
def answers(
    network: nn.Module,
    paths: list[Path],
    input_hw: tuple[int, int],
    description: str,
    *,
    mirror: bool,
    exposure: Exposure | None = None,
) -> Iterator[Tensor]:
    """Softmax probabilities of images in chunks, (n, K, h, w) float on the CPU, a quarter of the input's size.

    Args:
        network: in evaluation mode.
        paths: of the images.
        input_hw: size that they are squeezed to.
        description: of the progress bar.
        exposure: that dark images are brightened to.
        mirror: give the mean of each image's answer and that of its mirror image.
    """
    device = next(network.parameters()).device
    for start in tqdm(range(0, len(paths), _CHUNK), desc=description, unit="chunk", mininterval=10):
        squeezed = [
            cv2.resize(read_image(path), input_hw[::-1], interpolation=cv2.INTER_AREA)
            for path in paths[start : start + _CHUNK]
        ]
        if exposure is not None:
            for bgr in squeezed:
                normalise_exposure(bgr, exposure)
        yield torch.cat([_answer(network, network_input(bgr)[None].to(device), mirror=mirror) for bgr in squeezed])


def _answer(network: nn.Module, image: Tensor, *, mirror: bool) -> Tensor:
    probabilities = torch.softmax(network(image), 1)
    if mirror:
        probabilities = (probabilities + torch.softmax(network(image.flip(-1)), 1).flip(-1)) / 2
    return probabilities.cpu()


def smooth_shares(shares: Tensor) -> Tensor:
    """Mean class shares by place, mirrored and smoothed so that a few hundred images suffice.

    Args:
        shares: (K, h, w), summing to 1 over the classes.
    """
    mirrored = (shares + shares.flip(-1)) / 2
    return functional.avg_pool2d(
        mirrored[None], _SMOOTHING_CELLS, stride=1, padding=_SMOOTHING_CELLS // 2, count_include_pad=False
    )[0]


def alignment_weights(stored: np.ndarray, wanted_shares: Tensor) -> Tensor:
    """Factors by class and place that bring the mean of the answers to the wanted shares.

    Args:
        stored: (N, K, h, w) probabilities.
        wanted_shares: (K, h, w), smoothed.

    Returns:
        (K, h, w) positive factors for `aligned_answers`.

    Source: distribution alignment of Berthelot et al., ReMixMatch, ICLR 2020 (arXiv 1911.09785), section 3.1; spatial
        priors of Zou et al., CBST, ECCV 2018 (arXiv 1810.07911), section 4.3.
    Differs: iterated until the shares meet, by place, with the shares of the same kind of camera by day.
    """
    weights = torch.ones_like(wanted_shares)
    for _ in tqdm(range(_ROUNDS), desc="align", mininterval=10):
        total = torch.zeros_like(wanted_shares)
        for start in range(0, len(stored), _CHUNK):
            total += _weighted(stored[start : start + _CHUNK], weights).sum(0)
        found = smooth_shares(total / len(stored))
        weights *= ((wanted_shares + _SHARE_FLOOR) / (found + _SHARE_FLOOR)).sqrt()  # the root damps oscillation
    return weights


def aligned_answers(stored: np.ndarray, weights: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Train ids and aligned confidence in [0, 1]; (N, h, w) uint8 and float16."""
    train_ids = np.empty((len(stored), *stored.shape[2:]), np.uint8)
    confidence = np.empty(train_ids.shape, np.float16)
    for start in range(0, len(stored), _CHUNK):
        values, indices = _weighted(stored[start : start + _CHUNK], weights).max(1)
        train_ids[start : start + _CHUNK], confidence[start : start + _CHUNK] = (
            indices.numpy(),
            values.numpy(),
        )
    return train_ids, confidence


def _weighted(probabilities: np.ndarray, weights: Tensor) -> Tensor:
    product = torch.from_numpy(probabilities.astype(np.float32)) * weights
    return product / product.sum(1, keepdim=True)


def keep_surest(train_ids: np.ndarray, confidence: np.ndarray, *, portion: float, confidence_min: float) -> np.ndarray:
    """Label maps in which only the surest pixels of each class keep their label.

    Args:
        train_ids: (N, h, w) uint8.
        confidence: (N, h, w) in [0, 1].
        portion: of each class' pixels, the surest first.
        confidence_min: a label's lowest confidence.

    Returns:
        (N, h, w) uint8, 255 where dropped.

    Source: class-balanced self-training, Zou et al., ECCV 2018 (arXiv 1810.07911), section 4.2.
    """
    labels = np.full(train_ids.shape, IGNORE_INDEX, np.uint8)
    for train_id in np.unique(train_ids):
        of_class = train_ids == train_id
        threshold = max(float(np.quantile(confidence[of_class].astype(np.float32), 1 - portion)), confidence_min)
        labels[of_class & (confidence >= threshold)] = train_id
    return labels
