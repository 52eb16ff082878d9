from __future__ import annotations

from torch import nn

from training.networks.build import build_network
from training.networks.config import NetworkConfig


def test_the_panoptic_pyramid_goes_down_to_a_quarter_in_as_many_steps_as_the_paper_draws() -> None:
    """Figure 3 of arXiv 1901.02446: 3, 2, 1 times upsampling from p5, p4, p3, and one convolution at p2."""
    network = build_network(NetworkConfig(name="panoptic_fpn", encoder="resnet18"))
    convolutions = [
        sum(isinstance(layer, nn.Conv2d) for layer in branch.modules()) for branch in network.decoder.seg_blocks
    ]
    assert convolutions == [3, 2, 1, 1]
    assert all(isinstance(layer, nn.GroupNorm) for layer in network.decoder.modules() if "Norm" in type(layer).__name__)
