from __future__ import annotations

import pytest
import torch

from darkseg_ros.errors import InputError
from training.translation.patch_discriminator import PatchDiscriminator, smallest_px
from training.translation.pix2pix.network import UNetGenerator, translator_of
from training.translation.translator import Translator


def tiny() -> UNetGenerator:
    torch.manual_seed(0)
    return UNetGenerator(channels=2, downsamplings=4, dropout=0.5).double()


@pytest.mark.parametrize("side", [16, 48])
def test_images_come_back_in_their_size_between_minus_one_and_one(side: int) -> None:
    image = tiny()(torch.rand(1, 3, side, side, dtype=torch.float64))
    assert image.shape == (1, 3, side, side)
    assert image.abs().max() <= 1


def test_dropout_is_the_noise_of_training_alone() -> None:
    generator, day = tiny(), torch.rand(1, 3, 16, 16, dtype=torch.float64)
    assert not torch.equal(generator(day), generator(day))
    generator.eval()
    assert torch.equal(generator(day), generator(day))


def test_what_does_not_pass_the_bottleneck_reaches_the_image_beside_it() -> None:
    generator = tiny().eval()
    for parameter in generator.down[-1].parameters():
        parameter.data.zero_()
    one, other = torch.rand(2, 1, 3, 16, 16, dtype=torch.float64)
    assert (generator(one) - generator(other)).abs().max() > 0.01


def test_the_discriminator_judges_patches_down_to_its_smallest_image() -> None:
    discriminator = PatchDiscriminator(in_channels=6, channels=2, layers=3)
    assert discriminator(torch.rand(1, 6, smallest_px(3), smallest_px(3))).shape == (1, 1, 1, 1)
    assert discriminator(torch.rand(1, 6, 256, 256)).shape == (1, 1, 30, 30)  # arXiv 1611.07004, 6.1.2


def test_the_learned_direction_alone_is_given() -> None:
    state = {
        "config": {"network": {"channels": 2, "downsamplings": 4, "dropout": 0.5}},
        "averaged_generator": tiny().float().state_dict(),
    }
    translator = translator_of(state, "day_to_night")
    assert isinstance(translator, Translator)
    assert translator.stride == 16
    with pytest.raises(InputError, match="learns one direction"):
        translator_of(state, "night_to_day")
