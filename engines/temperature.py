"""Calibrated confidence: the one number that makes "90 % sure" mean right nine times in ten."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from darkseg_ros.classes import IGNORE_INDEX
from darkseg_ros.frames import read_image
from darkseg_ros.labelled_images import LabelledImage, read_labelled
from training.cheap_night import CheapNight, darken
from training.datasets import network_input
from training.slim_fpn import OUTPUT_STRIDE

_PIXELS_PER_IMAGE = 500


@torch.no_grad()
def collect_logits(
    network: nn.Module, pairs: list[LabelledImage], night_images: list, *, input_px: int, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Logits and train ids of random labelled pixels; every second image is darkened, so that both domains count.

    Returns:
        (P, 19) float and (P,) int64.
    """
    rng = np.random.default_rng(seed)
    logits, labels = [], []
    for index, pair in enumerate(tqdm(pairs, desc="temperature", unit="image", mininterval=10)):
        bgr, label_map = read_labelled(pair)
        if index % 2:
            bgr = darken(bgr, read_image(night_images[rng.integers(len(night_images))]), CheapNight(), rng)
        squeezed = cv2.resize(bgr, (input_px, input_px), interpolation=cv2.INTER_LINEAR)
        side = input_px // OUTPUT_STRIDE
        truth = cv2.resize(label_map, (side, side), interpolation=cv2.INTER_NEAREST_EXACT).ravel()
        chosen = rng.permutation(np.flatnonzero(truth != IGNORE_INDEX))[:_PIXELS_PER_IMAGE]
        answer = network(network_input(squeezed)[None])[0].flatten(1)
        logits.append(answer[:, chosen].T)
        labels.append(torch.from_numpy(truth[chosen].astype(np.int64)))
    return torch.cat(logits), torch.cat(labels)


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
