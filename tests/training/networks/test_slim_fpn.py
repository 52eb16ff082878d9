from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from darkseg_ros.classes import CITYSCAPES
from darkseg_ros.errors import InputError
from training.networks.build import build_network
from training.networks.config import NetworkConfig
from training.networks.slim_fpn import SlimFpn, SlimFpnDecoder

ENCODER_CHANNELS = (3, 4, 5, 6)


def features(side: int = 16) -> list[Tensor]:
    """c2…c5 of an image of 4·side pixels."""
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(1, channels, side >> level, side >> level, generator=generator)
        for level, channels in enumerate(ENCODER_CHANNELS)
    ]


@pytest.mark.parametrize("finest_stride", [4, 8])
def test_logits_have_a_quarter_of_the_images_size(finest_stride: int) -> None:
    network = build_network(NetworkConfig(options={"channels": 8, "finest_stride": finest_stride})).eval()
    assert network(torch.zeros(1, 3, 64, 96)).shape == (1, len(CITYSCAPES), 16, 24)


@pytest.mark.parametrize("finest_stride", [4, 8])
def test_every_parameter_learns(finest_stride: int) -> None:
    torch.manual_seed(0)
    network = SlimFpn(channels=8, finest_stride=finest_stride, dropout=0.0).train()
    network(torch.randn(2, 3, 64, 64)).square().sum().backward()
    silent = [name for name, parameter in network.named_parameters() if parameter.grad is None]
    assert silent == []


@pytest.mark.parametrize(("finest_stride", "expected"), [(4, 2), (8, 1)])
def test_a_pyramid_summed_at_stride_8_convolves_only_once_at_the_finest_size(finest_stride: int, expected: int) -> None:
    network = SlimFpn(channels=8, finest_stride=finest_stride).eval()
    sides: list[int] = []
    for part in (network.decoder, network.head):
        for layer in part.modules():
            if isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3):
                layer.register_forward_hook(lambda _, __, output: sides.append(output.shape[-1]))
    network(torch.zeros(1, 3, 64, 64))
    assert sides.count(16) == expected
    assert sorted(set(sides)) == [2, 4, 8, 16]


def test_c2_reaches_a_pyramid_summed_at_stride_8_through_its_lateral_alone() -> None:
    torch.manual_seed(0)
    decoder = SlimFpnDecoder(ENCODER_CHANNELS, channels=7, finest_stride=8).eval()
    c2, c3, c4, c5 = features()
    changed = c2.clone()
    changed[0, :, 5, 9] += torch.tensor([1.0, -2.0, 3.0])
    with torch.no_grad():
        difference = decoder([changed, c3, c4, c5]) - decoder([c2, c3, c4, c5])
        expected = decoder.lateral2.weight[:, :, 0, 0] @ torch.tensor([1.0, -2.0, 3.0])
    torch.testing.assert_close(difference[0, :, 5, 9], expected)
    difference[0, :, 5, 9] = 0
    assert difference.abs().max() < 1e-6


def test_a_pyramid_of_one_value_is_the_sum_of_its_levels() -> None:
    """Without biases, with weights that pass c3, c4 and c5 on: p3 = c3 + c4 + c5, p4 = c4 + c5, p5 = c5, and c2."""
    decoder = SlimFpnDecoder((1, 1, 1, 1), channels=1, finest_stride=8).eval()
    with torch.no_grad():
        for name, parameter in decoder.named_parameters():
            parameter.zero_()
            if name.startswith("lateral") and name.endswith("weight"):
                parameter.fill_(1)
            elif name.startswith("smooth") and name.endswith("1.weight"):
                parameter.fill_((1 + 1e-5) ** 0.5)  # BatchNorm: mean 0, variance 1, eps 1e-5
            elif name.startswith("smooth") and name.endswith("0.weight"):
                parameter[0, 0, 1, 1] = 1
        levels = ((8, 1.0), (4, 10.0), (2, 100.0), (1, 1000.0))
        answer = decoder([torch.full((1, 1, side, side), value) for side, value in levels])
    assert answer.shape == (1, 1, 8, 8)
    torch.testing.assert_close(answer, torch.full_like(answer, 1 + (1110 + 1100 + 1000)))


def test_fewer_channels_reach_the_finest_size_and_the_head() -> None:
    network = build_network(NetworkConfig(options={"channels": 8, "finest_stride": 8, "finest_channels": 4})).eval()
    widths = [
        (layer.in_channels, layer.out_channels) for layer in network.head.modules() if isinstance(layer, nn.Conv2d)
    ]
    assert widths == [(4, 4), (4, len(CITYSCAPES))]
    seen: list[torch.Size] = []
    network.decoder.narrow.register_forward_hook(lambda _, __, output: seen.append(output.shape))
    assert network(torch.zeros(1, 3, 64, 96)).shape == (1, len(CITYSCAPES), 16, 24)
    assert seen == [(1, 4, 8, 12)]  # narrowed before it grows


def test_a_narrow_head_needs_levels_summed_at_stride_8() -> None:
    with pytest.raises(InputError, match=r"network\.options\.finest_channels is 4; expected 8, or finest_stride 8"):
        build_network(NetworkConfig(options={"channels": 8, "finest_channels": 4}))


def test_another_stride_is_refused() -> None:
    with pytest.raises(InputError, match=r"network\.options\.finest_stride is 16; expected 4 or 8"):
        build_network(NetworkConfig(options={"finest_stride": 16}))
