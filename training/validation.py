"""Metrics of a network in torch, with the geometry that the vehicle's runtime uses."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from darkseg_ros.evaluation import Evaluation, Metrics
from darkseg_ros.labelled_images import LabelledImage, read_labelled
from training.datasets import network_input
from training.slim_fpn import upsample_bilinear


@torch.no_grad()
def evaluate_network(
    network: nn.Module, validation_sets: dict[str, list[LabelledImage]], *, input_px: int
) -> dict[str, Metrics]:
    """Metrics by validation set; images are squeezed to input_px² and class maps brought back by nearest neighbour."""
    device = next(network.parameters()).device
    network.eval()
    metrics = {}
    for name, pairs in validation_sets.items():
        evaluation = Evaluation()
        for pair in tqdm(pairs, desc=f"evaluate {name}", unit="image", leave=False, mininterval=10):
            bgr, label_map = read_labelled(pair)
            squeezed = cv2.resize(bgr, (input_px, input_px), interpolation=cv2.INTER_LINEAR)
            logits = upsample_bilinear(network(network_input(squeezed)[None].to(device)), (input_px, input_px))
            probability, train_ids = torch.softmax(logits, 1).max(1)
            size_wh = (label_map.shape[1], label_map.shape[0])
            class_map, confidence = (
                cv2.resize(values, size_wh, interpolation=cv2.INTER_NEAREST_EXACT)
                for values in (
                    train_ids[0].to(torch.uint8).cpu().numpy(),
                    (probability[0] * 255).round().to(torch.uint8).cpu().numpy(),
                )
            )
            evaluation.add(label_map, np.asarray(class_map), np.asarray(confidence))
        metrics[name] = evaluation.metrics()
    return metrics
