"""Calibrated confidence: the one number that makes "90 % sure" mean right nine times in ten.

By day labels say how often the network is right. By night there are none, and darkened day images do not stand in for
them: a network trained on such images is as sure of them, and as often right, as by day. What tells is how often a
network that has never seen the night agrees on real night images.
"""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from darkseg_ros.classes import IGNORE_INDEX
from darkseg_ros.frames.labelled import LabelledImage, read_labelled
from darkseg_ros.frames.source import read_image
from darkseg_ros.model.exposure import Exposure
from darkseg_ros.model.segmenter import preprocess
from darkseg_ros.night.cheap_night import CheapNight, darken
from training.data.network_input import network_input
from training.networks.layers import OUTPUT_STRIDE

_PIXELS_PER_IMAGE = 500


@torch.no_grad()
def collect_logits(
    network: nn.Module,
    pairs: list[LabelledImage],
    night_images: list[Path],
    *,
    network_hw: tuple[int, int],
    exposure: Exposure | None = None,
    seed: int = 0,
) -> tuple[Tensor, Tensor]:
    """Logits and train ids of random labelled pixels; every second image is darkened, so that both domains count.

    Args:
        network: to calibrate.
        pairs: labelled day images.
        night_images: that give the darkened ones their light.
        network_hw: size that images are stretched to.
        exposure: that dark images are brightened to.
        seed: of the choice of pixels and light.

    Returns:
        (P, 19) float and (P,) int64.
    """
    height, width = network_hw
    rng = np.random.default_rng(seed)
    logits, labels = [], []
    for index, pair in enumerate(tqdm(pairs, desc="temperature", unit="image", mininterval=10)):
        bgr, label_map = read_labelled(pair)
        if index % 2:
            bgr = darken(bgr, read_image(night_images[rng.integers(len(night_images))]), CheapNight(), rng)
        frame = preprocess(bgr, network_hw, exposure)[0]
        logits_wh = (width // OUTPUT_STRIDE, height // OUTPUT_STRIDE)
        truth = cv2.resize(label_map, logits_wh, interpolation=cv2.INTER_NEAREST_EXACT).ravel()
        chosen = rng.permutation(np.flatnonzero(truth != IGNORE_INDEX))[:_PIXELS_PER_IMAGE]
        answer = network(network_input(frame)[None])[0].flatten(1)
        logits.append(answer[:, chosen].T)
        labels.append(torch.from_numpy(truth[chosen].astype(np.int64)))
    return torch.cat(logits), torch.cat(labels)


@torch.no_grad()
def collect_agreement(
    network: nn.Module,
    reference: nn.Module,
    images: list[Path],
    *,
    network_hw: tuple[int, int],
    exposure: Exposure | None = None,
    seed: int = 0,
) -> tuple[Tensor, float]:
    """Logits of random pixels of unlabelled images, and how often another network gives all their pixels its class.

    Two networks of one kind, trained in their own ways, agree about as often as one of them is right, on images of
    another domain too.

    Args:
        network: to calibrate.
        reference: trained without images of this domain; where the one has taught the other they share their errors,
            and the agreement says too much.
        images: of the domain.
        network_hw: size that images are stretched to, for both networks.
        exposure: that dark images are brightened to, for both networks.
        seed: of the choice of pixels.

    Returns:
        (P, 19) float, and the share of agreement in [0, 1].

    Source: Jiang et al., "Assessing Generalization of SGD via Disagreement", ICLR 2022 (arXiv 2106.13799), theorem 4.1.
    Differs: one pair of networks that share their initial weights; the theorem has the mean over independent runs.
    """
    rng = np.random.default_rng(seed)
    logits, agreement = [], []
    for path in tqdm(images, desc="agreement", unit="image", mininterval=10):
        frames = network_input(preprocess(read_image(path), network_hw, exposure)[0])[None]
        answer, other = network(frames)[0].flatten(1), reference(frames)[0].flatten(1)
        agreement.append(float((answer.argmax(0) == other.argmax(0)).float().mean()))
        logits.append(answer[:, rng.permutation(answer.shape[1])[:_PIXELS_PER_IMAGE]].T)
    return torch.cat(logits), float(np.mean(agreement))


def match_temperature(logits: Tensor, accuracy: float) -> float:
    """The temperature at which the mean confidence of (P, 19) logits is the accuracy; within 0.1…10."""
    low, high = math.log(0.1), math.log(10)
    for _ in range(40):
        middle = (low + high) / 2
        confidence = float(torch.softmax(logits / math.exp(middle), 1).amax(1).mean())
        # the hotter, the less sure
        low, high = (middle, high) if confidence > accuracy else (low, middle)
    return math.exp((low + high) / 2)


def temperature_between(day: float, night: float) -> float:
    """One temperature for both, since a bundle has one: their geometric mean, a little unsure by day, sure by night."""
    return math.sqrt(day * night)


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature that minimises the negative log-likelihood of (P, 19) logits against (P,) train ids.

    Within 0.1…10: a network no better than chance would ask for an infinite one.

    Source: Guo et al., ICML 2017 (arXiv 1706.04599), section 4.2.
    """
    log_temperature = torch.zeros(1, requires_grad=True)
    optimiser = torch.optim.LBFGS([log_temperature], lr=0.2, max_iter=60, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = functional.cross_entropy(logits / log_temperature.exp(), labels)
        value.backward()
        return value

    optimiser.step(loss)
    return float(log_temperature.detach().exp().clamp(0.1, 10))
