from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from training.adaptation.least_squares import fit_fused, fit_residual
from training.networks.dense_blocks import DenseBlocksMobileNetV2, DenseResidual
from training.networks.dense_stem import DenseStemMobileNetV2


def batches(channels: int, *, side: int = 12) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(4, channels, side, side, generator=generator) for _ in range(3)]


@torch.no_grad()
def test_what_a_convolution_can_make_is_found_again_and_stays_in_training_mode() -> None:
    torch.manual_seed(1)
    inputs, hidden = batches(6), nn.Conv2d(6, 6, 3, padding=1)
    wanted = [x + hidden(x) for x in inputs]
    block = DenseResidual(6).eval()
    fit_residual(block, inputs, wanted)
    for x, y in zip(inputs, wanted, strict=True):
        assert (block(x) - y).square().mean() < 1e-4 * (y - x).var()
    answer = block(torch.cat(inputs))
    torch.testing.assert_close(block.train()(torch.cat(inputs)), answer, rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_a_fused_block_explains_an_inverted_residual_without_the_relu_in_its_middle() -> None:
    torch.manual_seed(2)
    original: Any = DenseStemMobileNetV2().features[0].eval()
    assert original.conv[0][0].weight.shape == (144, 24, 1, 1)
    of_expansion = original.conv[0][1]
    of_expansion.weight.fill_(0.1)
    of_expansion.bias.fill_(3.0)  # ReLU6 passes what is within 0…6
    inputs = batches(24, side=16)
    wanted = [original(x) for x in inputs]
    block = DenseBlocksMobileNetV2().features[0].eval()

    def left() -> float:
        return float(torch.stack([(block(x) - y).var() / y.var() for x, y in zip(inputs, wanted, strict=True)]).mean())

    assert left() > 0.9  # random weights
    fit_fused(block, original, inputs, wanted)
    assert left() < 0.25
