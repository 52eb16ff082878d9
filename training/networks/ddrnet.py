"""DDRNet-23-slim: stem → two branches of different resolution, fused twice → context → head. Written from the paper."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from darkseg_ros.classes import CITYSCAPES
from darkseg_ros.errors import InputError
from training.networks.layers import EncoderDecoder, upsample_bilinear

ENCODER_NAME = "ddrnet_23_slim"
"""Of `DdrNetEncoder`, as ``network.encoder``."""

_BASE_CHANNELS, _CONTEXT_CHANNELS, _HEAD_CHANNELS = 32, 128, 64  # what makes it the slim one
_BOTTLENECK_EXPANSION = 2
_POOLINGS = ((5, 2), (9, 4), (17, 8))  # kernel size, stride


def conv_bn(in_channels: int, out_channels: int, *, kernel_size: int, stride: int = 1) -> nn.Sequential:
    """A convolution that divides the size by its stride, and batch normalisation."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=False),
        nn.BatchNorm2d(out_channels),
    )


def bn_relu_conv(in_channels: int, out_channels: int, *, kernel_size: int) -> nn.Sequential:
    """Batch normalisation, ReLU and a convolution that keeps the size: the order inside context module and head."""
    return nn.Sequential(
        nn.BatchNorm2d(in_channels),
        nn.ReLU(),
        nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False),
    )


class Residual(nn.Module):
    """A body and what goes past it, summed; the ReLU after the sum is left to whoever comes next.

    Args:
        body: of the residual block.
        in_channels: of the body.
        out_channels: of the body.
        stride: of the body.
    """

    def __init__(self, body: nn.Module, in_channels: int, out_channels: int, *, stride: int) -> None:
        super().__init__()
        self.body = body
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or in_channels != out_channels:
            self.shortcut = conv_bn(in_channels, out_channels, kernel_size=1, stride=stride)

    def forward(self, features: Tensor) -> Tensor:
        total: Tensor = self.body(features) + self.shortcut(features)
        return total


def basic_block(in_channels: int, out_channels: int, *, stride: int = 1) -> Residual:
    """Two 3×3 convolutions."""
    body = nn.Sequential(
        conv_bn(in_channels, out_channels, kernel_size=3, stride=stride),
        nn.ReLU(),
        conv_bn(out_channels, out_channels, kernel_size=3),
    )
    return Residual(body, in_channels, out_channels, stride=stride)


def bottleneck_block(channels: int, *, stride: int = 1) -> Residual:
    """1×1, 3×3 and 1×1 convolutions, the last of which widens."""
    out_channels = _BOTTLENECK_EXPANSION * channels
    body = nn.Sequential(
        conv_bn(channels, channels, kernel_size=1),
        nn.ReLU(),
        conv_bn(channels, channels, kernel_size=3, stride=stride),
        nn.ReLU(),
        conv_bn(channels, out_channels, kernel_size=1),
    )
    return Residual(body, channels, out_channels, stride=stride)


def stage(in_channels: int, out_channels: int, *, stride: int = 1) -> nn.Sequential:
    """Two basic blocks; no ReLU after the second."""
    return nn.Sequential(
        basic_block(in_channels, out_channels, stride=stride), nn.ReLU(), basic_block(out_channels, out_channels)
    )


class BilateralFusion(nn.Module):
    """Each branch gets the other's features: the high one through a 1×1 convolution and upsampling, the low one
    through a 3×3 convolution of stride 2 for each halving. The ReLU comes after the sums.

    Args:
        high_channels: of the branch at an eighth of the input's size.
        low_channels: of the deeper branch, for each halving twice those of the one before.
        halvings: between the two.

    Source: Hong et al., as `DdrNet23Slim`: its bilateral fusion.
    """

    def __init__(self, high_channels: int, low_channels: int, *, halvings: int) -> None:
        super().__init__()
        self.to_high = conv_bn(low_channels, high_channels, kernel_size=1)
        widths = [high_channels, *(low_channels >> left for left in reversed(range(halvings)))]
        to_low: list[nn.Module] = []
        for narrow, wide in pairwise(widths):
            to_low += [nn.ReLU(), conv_bn(narrow, wide, kernel_size=3, stride=2)]
        self.to_low = nn.Sequential(*to_low)

    def forward(self, high: Tensor, low: Tensor) -> tuple[Tensor, Tensor]:
        fused_high = high + upsample_bilinear(self.to_high(torch.relu(low)), high.shape[-2:])
        fused_low = low + self.to_low(high)
        return torch.relu(fused_high), torch.relu(fused_low)


class DeepAggregationPyramid(nn.Module):
    """DAPPM: context of five sizes, from the pixel to the whole image, each added to the next larger one's.

    Source: Hong et al., as `DdrNet23Slim`: its deep aggregation pyramid pooling module.
    """

    def __init__(self, in_channels: int, branch_channels: int, out_channels: int) -> None:
        super().__init__()

        def reduce() -> nn.Sequential:
            return bn_relu_conv(in_channels, branch_channels, kernel_size=1)

        self.pixel = reduce()
        self.pooled = nn.ModuleList(
            nn.Sequential(nn.AvgPool2d(kernel_size, stride, padding=kernel_size // 2), reduce())
            for kernel_size, stride in _POOLINGS
        )
        self.pooled.append(nn.Sequential(nn.AdaptiveAvgPool2d(1), reduce()))
        self.processes = nn.ModuleList(
            bn_relu_conv(branch_channels, branch_channels, kernel_size=3) for _ in self.pooled
        )
        self.compression = bn_relu_conv(branch_channels * (1 + len(self.pooled)), out_channels, kernel_size=1)
        self.shortcut = bn_relu_conv(in_channels, out_channels, kernel_size=1)

    def forward(self, features: Tensor) -> Tensor:
        scales = [self.pixel(features)]
        for pool, process in zip(self.pooled, self.processes, strict=True):
            scales.append(process(upsample_bilinear(pool(features), features.shape[-2:]) + scales[-1]))
        context: Tensor = self.compression(torch.cat(scales, 1)) + self.shortcut(features)
        return context


class DdrNetEncoder(nn.Module):
    """Images → the features of both branches, at 1/8 and 1/64 of their size.

    The names of the stages are those of the paper's table of architectures. From conv4 on there are two branches: one
    stays at an eighth of the input's size, the other goes down to 1/64, where it sees context cheaply.
    """

    def __init__(self) -> None:
        super().__init__()
        base = _BASE_CHANNELS
        high = 2 * base
        self.stem = nn.Sequential(
            conv_bn(3, base, kernel_size=3, stride=2),
            nn.ReLU(),
            conv_bn(base, base, kernel_size=3, stride=2),
            nn.ReLU(),
        )
        self.conv2 = stage(base, base)
        self.conv3 = stage(base, 2 * base, stride=2)
        self.conv4_low, self.conv4_high = stage(2 * base, 4 * base, stride=2), stage(2 * base, high)
        self.fusion4 = BilateralFusion(high, 4 * base, halvings=1)
        self.conv5_1_low, self.conv5_1_high = stage(4 * base, 8 * base, stride=2), stage(high, high)
        self.fusion5 = BilateralFusion(high, 8 * base, halvings=2)
        self.conv5_2_low, self.conv5_2_high = bottleneck_block(8 * base, stride=2), bottleneck_block(high)
        self.out_channels = (_BOTTLENECK_EXPANSION * high, _BOTTLENECK_EXPANSION * 8 * base)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        eighth = torch.relu(self.conv3(torch.relu(self.conv2(self.stem(images)))))
        high, low = self.fusion4(self.conv4_high(eighth), self.conv4_low(eighth))
        high, low = self.fusion5(self.conv5_1_high(high), self.conv5_1_low(low))
        return self.conv5_2_high(high), self.conv5_2_low(low)


class DdrNetDecoder(nn.Module):
    """The low branch's features get context and are added to those of the high one."""

    def __init__(self, high_channels: int, low_channels: int) -> None:
        super().__init__()
        self.context = DeepAggregationPyramid(low_channels, _CONTEXT_CHANNELS, high_channels)

    def forward(self, features: tuple[Tensor, Tensor]) -> Tensor:
        high, low = features
        merged: Tensor = high + upsample_bilinear(self.context(low), high.shape[-2:])
        return merged


class DdrNet23Slim(EncoderDecoder):
    """DDRNet-23-slim; its own logits have an eighth of the images' size.

    Args:
        encoder: `ENCODER_NAME`; there is no other.
        num_classes: K.

    Raises:
        InputError: if `encoder` is another.

    Source: Hong et al., "Deep Dual-resolution Networks for Real-time and Accurate Semantic Segmentation of Road
        Scenes", IEEE T-ITS 2023 (arXiv 2101.06085). Its 5.7 M parameters and 36.3 GFLOPs at 1024×2048 are this
        module's too (tests/training/networks/test_ddrnet.py), if a multiplication with its addition counts as one.
    Differs: without the auxiliary head, which is for training alone; without biases before a BatchNorm. Its authors go
        from an eighth to the whole in one bilinear step; here are two, the first of them in the graph. With the larger
        logits that then leave it, this adds up to 7 % to the time (OpenVINO's profile of int8 at 512×1024, two busy
        cores, 2026-11-26).
    """

    def __init__(self, *, encoder: str = ENCODER_NAME, num_classes: int = len(CITYSCAPES)) -> None:
        if encoder != ENCODER_NAME:
            raise InputError(f"network.encoder is {encoder}; ddrnet has its own alone: leave network.encoder out")
        backbone = DdrNetEncoder()
        decoder = DdrNetDecoder(*backbone.out_channels)
        head = nn.Sequential(
            bn_relu_conv(backbone.out_channels[0], _HEAD_CHANNELS, kernel_size=3),
            nn.BatchNorm2d(_HEAD_CHANNELS),
            nn.ReLU(),
            nn.Conv2d(_HEAD_CHANNELS, num_classes, 1),
        )
        super().__init__(backbone, decoder, head)
