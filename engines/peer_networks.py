"""The networks of the benchmark as their users meet them in torch: normalised images in, full-size logits out; those
that our finish completes, as it meets them: quarter-size logits out.

Weights are random, from one seed: the class maps mean nothing. The latency is that of trained weights as long as the
activations stay in a common range, see `settle`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from darkseg_ros.errors import InputError
from engines.fused_graph import LogitsGraph
from training.networks.build import build_network
from training.networks.config import NetworkConfig
from training.networks.dense_stem import ENCODER_NAME as DENSE_STEM_ENCODER
from training.networks.layers import EncoderDecoder, upsample_bilinear

SHIPPED = NetworkConfig(encoder=DENSE_STEM_ENCODER, options={"channels": 64, "finest_stride": 8, "finest_channels": 32})
"""The shipped bundle's network; a test holds its convolutions against the bundle's."""

_SEED = 0
_SETTLING_SHAPE = (2, 3, 128, 256)


class FullSize(nn.Module):
    """A network and what its user writes after it: images → logits of the images' size, in one bilinear step."""

    def __init__(self, network: EncoderDecoder) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return upsample_bilinear(self.network.native_logits(images), images.shape[-2:])


class ClassMap(nn.Module):
    """A network with the finish that it is published with inside its graph.

    ``frame`` uint8 (N, H, W, 3) BGR → ``class_map`` uint8 (N, H, W): one bilinear step to full-size logits, argmax.
    """

    def __init__(self, network: EncoderDecoder) -> None:
        super().__init__()
        self.logits_graph = LogitsGraph(FullSize(network))

    def forward(self, frame: Tensor) -> Tensor:
        class_map: Tensor = self.logits_graph(frame).argmax(1).float().to(torch.uint8)
        return class_map


def peer_config(name: str) -> NetworkConfig:
    """The settings of a peer.

    Args:
        name: slim_fpn, the shipped one; lraspp; segformer_b0; ddrnet_23_slim; or fpn_ and an encoder's name, such as
            fpn_resnet18.

    Raises:
        InputError: if there is no such network.
    """
    peers = {
        "slim_fpn": SHIPPED,
        "lraspp": NetworkConfig(name="lraspp"),
        "segformer_b0": NetworkConfig(name="segformer", encoder="mit_b0"),
        "ddrnet_23_slim": NetworkConfig(name="ddrnet"),
    }
    if name.startswith("fpn_"):
        return NetworkConfig(name="panoptic_fpn", encoder=name.removeprefix("fpn_"))
    if name not in peers:
        raise InputError(f"there is no network {name}; expected {', '.join(peers)} or fpn_<encoder>")
    return peers[name]


def build_peer(name: str) -> FullSize:
    """A network in inference mode: (B, 3, H, W) float RGB, ImageNet-normalised → (B, 19, H, W) logits.

    Args:
        name: as in `peer_config`.

    Raises:
        InputError: if there is no such network.
    """
    return FullSize(build_quarter_peer(name)).eval()


def build_quarter_peer(name: str) -> EncoderDecoder:
    """As `build_peer`, → (B, 19, H/4, W/4) logits."""
    torch.manual_seed(_SEED)
    return settle(build_network(peer_config(name)))


def build_published_ddrnet() -> ClassMap:
    """DDRNet-23-slim from frames to class maps, in inference mode."""
    return ClassMap(build_quarter_peer("ddrnet_23_slim")).eval()


def settle(network: EncoderDecoder) -> EncoderDecoder:
    """Give every BatchNorm of a network with random weights the statistics of its input; it ends in inference mode.

    Without, activations shrink or grow from layer to layer, towards numbers that a CPU multiplies more slowly and a
    class map of one class: 13 % slower was seen (LR-ASPP at 256×512, one thread, 2026-11-22).
    """
    for layer in network.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.reset_running_stats()
            layer.momentum = None  # the mean of all batches seen: here of the one
    with torch.inference_mode():
        network.train()(torch.randn(_SETTLING_SHAPE, generator=torch.Generator().manual_seed(_SEED)))
    return network.eval()
