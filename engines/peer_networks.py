"""The networks of the benchmark as their users meet them in torch: normalised images in, full-size logits out; those
that our finish completes, as it meets them: quarter-size logits out.

Weights are random, from one seed: the class maps mean nothing. The latency is that of trained weights as long as the
activations stay in a common range, see `settle`.
"""

from __future__ import annotations

import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn
from torchvision.models.segmentation import lraspp_mobilenet_v3_large

from darkseg_ros.classes import NUM_CLASSES
from darkseg_ros.errors import InputError
from darkseg_ros.model.bundle import LOGITS_STRIDE
from engines.fused_graph import LogitsGraph
from training.networks.ddrnet import DdrNet23Slim
from training.networks.dense_stem import ENCODER_NAME as DENSE_STEM_ENCODER
from training.networks.layers import upsample_bilinear
from training.networks.panoptic_fpn import PanopticFpn
from training.networks.slim_fpn import SlimFpn

_SEED = 0
_SETTLING_SHAPE = (2, 3, 128, 256)


class FullSize(nn.Module):
    """A network with smaller logits and what its user writes after it: images → logits of the images' size."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return upsample_bilinear(self.network(images), images.shape[-2:])


class QuarterSize(nn.Module):
    """A network with logits at an eighth of the images' size, doubled for our finish, which takes quarter-size ones.

    Differs: its authors go from an eighth to the whole in one bilinear step. Here are two, the first of them in the
        graph. With the larger logits that then leave it, this adds up to 7 % to DDRNet's time (OpenVINO's profile of
        int8 at 512×1024, two busy cores, 2026-11-26).
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        return upsample_bilinear(self.network(images), (height // LOGITS_STRIDE, width // LOGITS_STRIDE))


class ClassMap(nn.Module):
    """A network with the finish that it is published with inside its graph.

    ``frame`` uint8 (N, H, W, 3) BGR → ``class_map`` uint8 (N, H, W): one bilinear step to full-size logits, argmax.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.logits_graph = LogitsGraph(FullSize(network))

    def forward(self, frame: Tensor) -> Tensor:
        class_map: Tensor = self.logits_graph(frame).argmax(1).float().to(torch.uint8)
        return class_map


class LrAspp(nn.Module):
    """torchvision's LR-ASPP on MobileNetV3-Large without the dictionary around its answer.

    Source: Howard et al., "Searching for MobileNetV3", ICCV 2019 (arXiv 1905.02244), section 6.4.
    """

    def __init__(self) -> None:
        super().__init__()
        self.network = lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=NUM_CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images)["out"]
        return logits


def shipped_network() -> SlimFpn:
    """The shipped bundle's network, with random weights.

    The only place that says which one it is; a test holds its convolutions against the bundle's.
    """
    return SlimFpn(encoder=DENSE_STEM_ENCODER, channels=64, finest_stride=8, finest_channels=32)


def build_peer(name: str) -> nn.Module:
    """A network in inference mode: (B, 3, H, W) float RGB, ImageNet-normalised → (B, 19, H, W) logits.

    Args:
        name: slim_fpn, lraspp, segformer_b0, or fpn_ and an encoder's name, such as fpn_resnet18.

    Raises:
        InputError: if there is no such network.
    """
    torch.manual_seed(_SEED)
    network: nn.Module
    if name == "slim_fpn":
        network = FullSize(shipped_network())
    elif name == "lraspp":
        network = LrAspp()
    elif name == "segformer_b0":
        network = smp.Segformer("mit_b0", encoder_weights=None, classes=NUM_CLASSES)
    elif name.startswith("fpn_"):
        network = smp.FPN(name.removeprefix("fpn_"), encoder_weights=None, classes=NUM_CLASSES)
    else:
        raise InputError(f"there is no network {name}; expected slim_fpn, lraspp, segformer_b0 or fpn_<encoder>")
    return settle(network)


def build_quarter_peer(name: str) -> nn.Module:
    """A network in inference mode: (B, 3, H, W) float RGB, ImageNet-normalised → (B, 19, H/4, W/4) logits.

    Args:
        name: ddrnet_23_slim, or an encoder's name for training.networks.panoptic_fpn, such as resnet101.
    """
    torch.manual_seed(_SEED)
    return settle(QuarterSize(DdrNet23Slim()) if name == "ddrnet_23_slim" else PanopticFpn(encoder=name))


def build_published_ddrnet() -> ClassMap:
    """DDRNet-23-slim from frames to class maps, in inference mode."""
    torch.manual_seed(_SEED)
    return ClassMap(settle(DdrNet23Slim())).eval()


def settle(network: nn.Module) -> nn.Module:
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
