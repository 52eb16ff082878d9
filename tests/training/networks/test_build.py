from __future__ import annotations

import pytest
import torch
from torch import nn

from training.networks.build import batch_norm_layers, build_network, set_to_training
from training.networks.config import NetworkConfig


def test_the_number_of_classes_is_the_callers() -> None:
    network = build_network(NetworkConfig(options={"channels": 8}), num_classes=11).eval()
    assert network(torch.zeros(1, 3, 64, 96)).shape == (1, 11, 16, 24)


def test_a_size_that_is_no_multiple_of_32_is_refused() -> None:
    with pytest.raises(ValueError, match=r"48×64.*multiples of 32"):
        build_network(NetworkConfig(options={"channels": 8}))(torch.zeros(1, 3, 48, 64))


def test_frozen_batch_norm_stays_as_it_started() -> None:
    config = NetworkConfig(
        name="panoptic_fpn",
        encoder="resnet18",
        freeze_batch_norm=True,
        options={"pyramid_channels": 16, "segmentation_channels": 32, "dropout": 0.0},
    )
    network = build_network(config)
    set_to_training(network, config)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-2)
    network(torch.randn(2, 3, 64, 64)).square().mean().backward()
    optimiser.step()
    after = network.state_dict()
    frozen = {
        f"{name}.{part}"
        for name, layer in network.named_modules()
        if isinstance(layer, nn.BatchNorm2d)
        for part in layer.state_dict()
    }
    assert len(batch_norm_layers(network)) == 20  # ResNet-18's
    assert {name for name in before if not torch.equal(before[name], after[name])} == before.keys() - frozen
