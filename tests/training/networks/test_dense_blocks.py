from __future__ import annotations

import torch
from torch import nn

from training.networks.build import build_network
from training.networks.config import NetworkConfig
from training.networks.dense_blocks import ENCODER_NAME, DenseBlocksMobileNetV2, dense_blocks
from training.networks.dense_stem import DenseStemMobileNetV2, on_pixels


def test_features_have_the_strides_and_widths_of_mobilenet_v2() -> None:
    encoder = DenseBlocksMobileNetV2().eval()
    shapes = [tuple(features.shape) for features in encoder(torch.zeros(1, 3, 64, 96))]
    assert shapes == [(1, 24, 16, 24), (1, 32, 8, 12), (1, 96, 4, 6), (1, 320, 2, 3)]


def test_all_blocks_but_four_are_dense() -> None:
    assert dense_blocks(DenseStemMobileNetV2().features) == (4, 5, 6, 8, 9, 10, 12, 13, 15, 16)
    depthwise = [
        name
        for name, layer in DenseBlocksMobileNetV2().named_modules()
        if isinstance(layer, nn.Conv2d) and layer.groups > 1
    ]
    assert [name.split(".")[1] for name in depthwise] == ["7", "11", "14", "17"]


def test_a_network_of_them_reads_camera_pixels() -> None:
    network = build_network(NetworkConfig(encoder=ENCODER_NAME, options={"channels": 8})).eval()
    assert network(torch.zeros(1, 3, 64, 96)).shape == (1, 19, 16, 24)
    assert on_pixels(network) is not None
