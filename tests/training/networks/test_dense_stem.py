from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from darkseg_ros.errors import InputError
from engines.fused_graph import LogitsGraph
from training.data.network_input import network_input
from training.networks.build import build_network
from training.networks.config import NetworkConfig
from training.networks.dense_stem import ENCODER_NAME, DenseStemMobileNetV2, on_pixels

CONFIG = NetworkConfig(encoder=ENCODER_NAME, options={"channels": 8, "finest_stride": 8, "finest_channels": 4})


@pytest.fixture
def frame() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)


def test_features_have_the_strides_and_widths_of_mobilenet_v2() -> None:
    encoder = DenseStemMobileNetV2().eval()
    shapes = [tuple(features.shape) for features in encoder(torch.zeros(1, 3, 64, 96))]
    assert shapes == [(1, 24, 16, 24), (1, 32, 8, 12), (1, 96, 4, 6), (1, 320, 2, 3)]
    assert encoder.out_channels == (24, 32, 96, 320)


def test_no_layer_with_a_kernel_of_its_own_for_each_channel_runs_at_half_or_a_quarter_of_the_size() -> None:
    encoder = DenseStemMobileNetV2()
    assert [conv.groups for conv in encoder.stem.modules() if isinstance(conv, nn.Conv2d)] == [1, 1, 1]


def test_what_is_read_from_pixels_is_what_is_read_from_normalised_images(frame: np.ndarray) -> None:
    torch.manual_seed(0)
    network = build_network(CONFIG).eval()
    of_pixels = on_pixels(network)
    assert of_pixels is not None
    with torch.no_grad():
        expected = network(network_input(frame)[None])
        answer = of_pixels(torch.from_numpy(frame).permute(2, 0, 1)[None].float())
        torch.testing.assert_close(answer, expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(network(network_input(frame)[None]), expected)  # it was left as it was


def test_outside_of_the_picture_lies_black() -> None:
    """A black picture's border is no border: every output of the first convolution is the same."""
    stem = DenseStemMobileNetV2().stem.eval()
    black = network_input(np.zeros((32, 32, 3), np.uint8))[None]
    with torch.no_grad():
        first = stem.layers[0](stem.pixels(black))
    torch.testing.assert_close(first, first[:, :, :1, :1].expand_as(first), rtol=0, atol=1e-4)


def test_a_graph_of_such_a_network_normalises_nothing(frame: np.ndarray) -> None:
    torch.manual_seed(0)
    network = build_network(CONFIG).eval()
    graph = LogitsGraph(network).eval()
    assert isinstance(graph.normalise, nn.Identity)
    with torch.no_grad():
        torch.testing.assert_close(
            graph(torch.from_numpy(frame[None])), network(network_input(frame)[None]), rtol=1e-4, atol=1e-5
        )


def test_another_network_is_normalised_as_before(frame: np.ndarray) -> None:
    torch.manual_seed(0)
    network = build_network(NetworkConfig(options={"channels": 8})).eval()
    assert on_pixels(network) is None
    with torch.no_grad():
        answer = LogitsGraph(network).eval()(torch.from_numpy(frame[None]))
        torch.testing.assert_close(answer, network(network_input(frame)[None]), rtol=1e-4, atol=1e-4)


def test_every_parameter_learns() -> None:
    torch.manual_seed(0)
    network = build_network(CONFIG).train()
    network(torch.randn(2, 3, 64, 64)).square().sum().backward()
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == []


def test_panoptic_fpn_does_not_take_it() -> None:
    with pytest.raises(InputError, match=r"network\.encoder is mobilenet_v2_dense_stem; expected a name of segm"):
        build_network(NetworkConfig(name="panoptic_fpn", encoder=ENCODER_NAME))
