from __future__ import annotations

import torch
from torch import Tensor, nn

from training.networks.input_size import side_at
from training.networks.layers import upsample_bilinear
from training.networks.views import MeanOfViews


class LeftIsBright(nn.Module):
    """Two classes, told by the brightness and by the column, so that the mirror image is answered otherwise."""

    def forward(self, images: Tensor) -> Tensor:
        quarter = images[:, :1, ::4, ::4]
        columns = torch.linspace(-1, 1, quarter.shape[-1]).expand_as(quarter)
        return torch.cat([quarter + columns, -quarter], 1)


def images_of(side: int) -> Tensor:
    return torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))


def test_one_view_answers_as_the_network_does() -> None:
    images = images_of(64)
    answer = MeanOfViews(LeftIsBright(), scales=[1.0], mirrored=False)(images)
    torch.testing.assert_close(answer, LeftIsBright()(images).log_softmax(1))


def test_a_mirrored_frame_gets_the_mirrored_answer() -> None:
    network = MeanOfViews(LeftIsBright(), scales=[1.0, 0.5], mirrored=True)
    images = images_of(64)
    torch.testing.assert_close(network(images.flip(-1)), network(images).flip(-1))
    alone = MeanOfViews(LeftIsBright(), scales=[1.0, 0.5], mirrored=False)
    assert not torch.allclose(alone(images.flip(-1)), alone(images).flip(-1))


def test_the_answer_is_the_mean_of_the_probabilities_at_all_scales() -> None:
    images = images_of(128)
    smaller = LeftIsBright()(upsample_bilinear(images, (64, 64))).softmax(1)
    expected = (LeftIsBright()(images).softmax(1) + upsample_bilinear(smaller, (32, 32))) / 2
    answer = MeanOfViews(LeftIsBright(), scales=[1.0, 0.5], mirrored=False)(images)
    torch.testing.assert_close(answer.exp(), expected)


def test_sides_are_what_networks_take() -> None:
    assert [side_at(512, scale) for scale in (1.0, 0.75, 0.7, 0.01)] == [512, 384, 352, 32]
