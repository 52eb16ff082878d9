from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from darkseg_ros.errors import InputError
from training.networks.build import build_network
from training.networks.config import NetworkConfig
from training.networks.deconvnet import unpool


def test_values_go_where_pytorchs_pooling_found_its_maxima() -> None:
    generator = torch.Generator().manual_seed(0)
    pooled_from = torch.relu(torch.randn(2, 3, 8, 12, generator=generator))
    pooled_from[0, 0, :4, :4] = 0  # where all four are equal, the first one counts
    values = torch.randn(2, 3, 4, 6, generator=generator)
    _, indices = functional.max_pool2d(pooled_from, 2, return_indices=True)
    assert torch.equal(unpool(values, pooled_from), functional.max_unpool2d(values, indices, 2))


def test_an_encoder_without_poolings_is_refused() -> None:
    with pytest.raises(InputError, match=r"network\.encoder is resnet18; deconvnet undoes the poolings of a VGG"):
        build_network(NetworkConfig(name="deconvnet", encoder="resnet18"))
