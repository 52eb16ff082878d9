"""The segmenters by name, and what they start from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import segmentation_models_pytorch as smp
import torch
from torch import nn

from darkseg_ros.errors import InputError
from training.networks.dense_stem import ENCODER_NAME
from training.networks.panoptic_fpn import PanopticFpn
from training.networks.slim_fpn import SlimFpn


@dataclass
class NetworkConfig:
    """The network and what it starts from.

    Attributes:
        architecture: slim_fpn, for real time on two CPU cores, or panoptic_fpn, the thesis's.
        encoder: segmentation_models_pytorch's name of it, or mobilenet_v2_dense_stem, which slim_fpn takes: see
            `training.networks.dense_stem`.
        encoder_weights: torchvision state dict of the encoder, or a checkpoint of training.train_segmenter, whose
            averaged encoder is taken, or of training.distil_stem; null for a random start.
        channels: width of slim_fpn's decoder.
        finest_stride: stride at which slim_fpn sums its levels, 4, or 8, which is faster.
        finest_channels: width of slim_fpn's head, narrower than `channels` only with finest_stride 8; null for
            `channels`.
        pyramid_channels: width of panoptic_fpn's pyramid.
        segmentation_channels: width of panoptic_fpn's branches, a multiple of 32.
        dropout: share of channels dropped before the head.
        freeze_batch_norm: keep the statistics and weights of every BatchNorm as they start, as Panoptic FPN's authors
            do. Batch statistics are those of one process: freeze them where a process sees few images.
        input_px: side of the square that validation images, and later camera frames, are squeezed into.
        start_checkpoint: checkpoint of another run of the same architecture whose averaged weights this run starts
            from; null for none.
    """

    architecture: str = "slim_fpn"
    encoder: str = "mobilenet_v2"
    encoder_weights: str | None = None
    channels: int = 64
    finest_stride: int = 4
    finest_channels: int | None = None
    pyramid_channels: int = 256
    segmentation_channels: int = 128
    dropout: float = 0.1
    freeze_batch_norm: bool = False
    input_px: int = 384
    start_checkpoint: str | None = None


def build_network(config: NetworkConfig) -> nn.Module:
    """A network with the parts ``encoder``, ``decoder`` and ``head``: (B, 3, H, W) → logits (B, 19, H/4, W/4).

    Raises:
        InputError: if `config` names an unknown architecture or encoder, or weights that do not fit.
    """
    own = config.encoder == ENCODER_NAME and config.architecture == "slim_fpn"
    if not own and config.encoder not in smp.encoders.get_encoder_names() and not config.encoder.startswith("tu-"):
        raise InputError(
            f"network.encoder is {config.encoder}; expected a name of segmentation_models_pytorch, such as resnet101"
        )
    network: SlimFpn | PanopticFpn
    if config.architecture == "slim_fpn":
        try:
            network = SlimFpn(
                encoder=config.encoder,
                channels=config.channels,
                finest_stride=config.finest_stride,
                finest_channels=config.finest_channels,
                dropout=config.dropout,
            )
        except ValueError as error:
            raise InputError(f"network.{error}") from error
    elif config.architecture == "panoptic_fpn":
        network = PanopticFpn(
            encoder=config.encoder,
            pyramid_channels=config.pyramid_channels,
            segmentation_channels=config.segmentation_channels,
            dropout=config.dropout,
        )
    else:
        raise InputError(f"network.architecture is {config.architecture}; expected slim_fpn or panoptic_fpn")
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


def load_encoder_weights(encoder: nn.Module, weights: Path) -> None:
    """Load a torchvision classification state dict, or a segmenter's checkpoint, into an encoder of the same kind.

    Raises:
        InputError: if the file is missing, neither of the two, or does not fit the encoder.
    """
    if not weights.is_file():
        raise InputError(f"there are no encoder weights {weights}; set DARKSEG_DATA or network.encoder_weights")
    try:
        state = torch.load(weights, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a handful of unrelated types for a damaged file
        raise InputError(f"{weights} is no whole state dict ({error}); fetch it again") from error
    if "teacher" in state:
        state = {name.removeprefix("encoder."): value for name, value in state["teacher"].items()}
    expected = encoder.state_dict()
    unfit = sorted(name for name in expected if name not in state or state[name].shape != expected[name].shape)
    if unfit:
        raise InputError(
            f"{weights} lacks {len(unfit)} parameters of the encoder, {unfit[0]} first; "
            "name a torchvision file or a checkpoint of the same architecture"
        )
    nn.Module.load_state_dict(encoder, {name: state[name] for name in expected})
