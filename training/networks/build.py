"""Builds the network that a run's settings name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from omegaconf import DictConfig
from torch import nn

from darkseg_ros.classes import CITYSCAPES
from training.networks.config import NETWORKS, NetworkConfig, complete
from training.networks.encoders import load_encoder_weights
from training.networks.layers import EncoderDecoder


def build_network(
    settings: NetworkConfig | DictConfig | Mapping[str, Any], *, num_classes: int = len(CITYSCAPES)
) -> EncoderDecoder:
    """The network of `NETWORKS` that the settings name: (B, 3, H, W) → logits (B, K, H/4, W/4).

    Args:
        settings: completed by `training.networks.config.complete`.
        num_classes: K.

    Raises:
        InputError: if there is no such network, option or encoder, or the weights do not fit.
    """
    config = complete(settings)
    builder = resolve_name(f"training.networks.{NETWORKS[config.name].builder}")
    network: EncoderDecoder = builder(encoder=config.encoder, num_classes=num_classes, **config.options)
    if config.encoder_weights:
        load_encoder_weights(network.encoder, Path(config.encoder_weights))
    if config.freeze_batch_norm:
        for layer in batch_norm_layers(network):
            layer.requires_grad_(False)
    return network


def set_to_training(network: nn.Module, config: NetworkConfig) -> None:
    """Training mode, frozen BatchNorm apart."""
    network.train()
    if config.freeze_batch_norm:
        for layer in batch_norm_layers(network):
            layer.eval()


def batch_norm_layers(network: nn.Module) -> list[nn.Module]:
    """Every BatchNorm layer of a network."""
    return [layer for layer in network.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
