from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from darkseg_ros.errors import InputError
from training.translation.unit.config import UnitWeights
from training.translation.unit.losses import (
    UnitTerms,
    VggFeatures,
    discriminator_loss,
    generator_loss,
    kl_loss,
    perceptual_loss,
    reconstruction_loss,
    unit_terms,
    weighted_sum,
)
from training.translation.unit.network import UnitImages

LN4, LN3 = math.log(4), math.log(3)


def test_kl_of_a_unit_gaussian_is_half_its_squared_mean() -> None:
    assert kl_loss(torch.tensor([1.0, 3.0])).item() == pytest.approx((0.5 + 4.5) / 2)
    mean = torch.randn(5, generator=torch.Generator().manual_seed(0))
    expected = kl_divergence(Normal(mean, torch.ones(5)), Normal(torch.zeros(5), torch.ones(5))).mean()
    torch.testing.assert_close(kl_loss(mean), expected)


def test_reconstruction_loss_is_the_mean_absolute_difference() -> None:
    loss = reconstruction_loss(torch.tensor([0.5, -1.0]), torch.tensor([0.0, 1.0]))
    assert loss.item() == pytest.approx((0.5 + 2.0) / 2)


def test_generator_loss_is_the_negative_logarithm_of_being_taken_for_real() -> None:
    """D = 1/2 at logit 0, 4/5 at ln 4; scales are summed, patches averaged."""
    assert generator_loss([torch.zeros(1, 1, 2, 2)]).item() == pytest.approx(math.log(2))
    logits = torch.tensor([0.0, LN4]).view(1, 1, 1, 2)
    assert generator_loss([logits]).item() == pytest.approx((math.log(2) - math.log(0.8)) / 2)
    assert generator_loss([logits, logits]).item() == pytest.approx(math.log(2) - math.log(0.8))


def test_discriminator_loss_is_the_negated_gan_objective() -> None:
    """D(real) = 4/5 and D(fake) = 1/4: -ln 0.8 - ln 0.75."""
    real, fake = torch.full((1, 1, 2, 2), LN4), torch.full((1, 1, 2, 2), -LN3)
    assert discriminator_loss([real], [fake]).item() == pytest.approx(0.2231436 + 0.2876821, abs=1e-6)
    assert discriminator_loss([real, real], [fake, fake]).item() == pytest.approx(2 * 0.5108256, abs=1e-6)


def test_the_weighted_sum_has_the_weights_of_the_thesis() -> None:
    terms = UnitTerms(
        kl=torch.tensor(1.0),
        reconstruction=torch.tensor(2.0),
        gan=torch.tensor(3.0),
        cycle_kl=torch.tensor(4.0),
        cycle_reconstruction=torch.tensor(5.0),
        perceptual=torch.tensor(6.0),
    )
    # 0.1 · 1 + 100 · 2 + 10 · 3 + 0.1 · 4 + 100 · 5 + 1 · 6
    assert weighted_sum(terms, UnitWeights()).item() == pytest.approx(736.5)


def test_each_term_compares_what_its_equation_names() -> None:
    def constant(value: float) -> Tensor:
        return torch.full((1, 3, 4, 4), value)

    images = UnitImages(
        day_mean=constant(1.0),
        night_mean=constant(2.0),
        day_again=constant(0.1),
        night_again=constant(0.3),
        fake_night=constant(0.7),
        fake_day=constant(-0.7),
        fake_night_mean=constant(3.0),
        fake_day_mean=constant(4.0),
        day_cycled=constant(0.4),
        night_cycled=constant(-0.5),
    )

    def judge(day: Tensor, night: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        assert day is images.fake_day
        assert night is images.fake_night
        return [torch.zeros(1)], [torch.tensor([LN4])]

    terms = unit_terms(constant(0.0), constant(0.5), images, judge, None)  # type: ignore[arg-type]
    assert terms.kl.item() == pytest.approx(0.5 + 2)
    assert terms.reconstruction.item() == pytest.approx(0.1 + 0.2)
    assert terms.gan.item() == pytest.approx(math.log(2) - math.log(0.8))
    assert terms.cycle_kl.item() == pytest.approx(0.5 + 2 + 4.5 + 8)  # 3.5 and 3.6 have two each
    assert terms.cycle_reconstruction.item() == pytest.approx(0.4 + 1.0)
    assert terms.perceptual.item() == 0


def vgg_file(folder: Path, width: int = 2) -> Path:
    """Weights in VGG-16's layout with few channels; the first layer passes the red channel on, raised by 100."""
    generator = torch.Generator().manual_seed(0)
    state = {}
    for number, index in enumerate((0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)):
        kernel = torch.randn(width, 3 if number == 0 else width, 3, 3, generator=generator)
        state[f"features.{index}.weight"], state[f"features.{index}.bias"] = kernel.half(), torch.zeros(width).half()
    first = torch.zeros(width, 3, 3, 3)
    first[:, 0, 1, 1] = 1
    state["features.0.weight"], state["features.0.bias"] = first.half(), torch.full((width,), 100.0).half()
    path = folder / "vgg16.pth"
    torch.save(state, path)
    return path


def test_perceptual_loss_ignores_contrast_and_brightness_but_not_where_things_are(tmp_path: Path) -> None:
    vgg = VggFeatures(vgg_file(tmp_path), layer="relu1_1", reduction=1)
    images = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)) - 0.5
    assert perceptual_loss(vgg, images, 0.5 * images - 0.4).item() == pytest.approx(0, abs=1e-3)
    # Normalised features of the negative are the negated ones: mean of (f - (-f))² = 4 · variance = 4.
    assert perceptual_loss(vgg, images, -images).item() == pytest.approx(4, abs=1e-2)


def test_perceptual_loss_teaches_the_translated_image_only(tmp_path: Path) -> None:
    vgg = VggFeatures(vgg_file(tmp_path), layer="relu2_2", reduction=1)
    images, translated = torch.rand(2, 1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    images, translated = images.requires_grad_(), translated.requires_grad_()
    perceptual_loss(vgg, images, translated).backward()
    assert images.grad is None
    assert translated.grad is not None
    assert translated.grad.abs().sum() > 0
    assert all(not parameter.requires_grad for parameter in vgg.parameters())


def test_images_are_averaged_over_squares_and_normalised_as_on_imagenet(tmp_path: Path) -> None:
    vgg = VggFeatures(vgg_file(tmp_path), layer="relu1_1", reduction=2)
    images = torch.tensor([[1.0, -1.0], [1.0, -1.0]]).expand(1, 3, 2, 2)  # grey on average: 0.5
    assert vgg(images).flatten().tolist() == pytest.approx([100 + (0.5 - 0.485) / 0.229] * 2)


def test_layers_are_those_of_torchvision(tmp_path: Path) -> None:
    torchvision = pytest.importorskip("torchvision", reason="torchvision is the independent implementation")
    torch.manual_seed(0)
    reference = torchvision.models.vgg16(weights=None, init_weights=False).features
    torch.save({f"features.{name}": value for name, value in reference.state_dict().items()}, tmp_path / "vgg.pth")
    rgb = torch.rand(1, 3, 32, 32)
    normalised = torchvision.transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))(rgb)
    for layer, layers in (("relu3_3", 16), ("relu4_3", 23), ("relu5_3", 30)):
        vgg = VggFeatures(tmp_path / "vgg.pth", layer=layer, reduction=1)
        torch.testing.assert_close(vgg(rgb * 2 - 1), reference[:layers](normalised), rtol=1e-4, atol=1e-6, msg=layer)


def test_missing_wrong_or_unknown_vgg_weights_are_clear_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no VGG-16 weights .*absent.pth; set perceptual.vgg_weights, or"):
        VggFeatures(tmp_path / "absent.pth", layer="relu4_3", reduction=1)
    with pytest.raises(InputError, match=r"no layer relu6_1; expected one of relu1_1, .*relu5_3"):
        VggFeatures(vgg_file(tmp_path), layer="relu6_1", reduction=1)
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "resnet.pth")
    (tmp_path / "text.pth").write_text("not weights")
    for name in ("resnet.pth", "text.pth"):
        with pytest.raises(InputError, match=rf"{name} does not hold the convolutions of VGG-16"):
            VggFeatures(tmp_path / name, layer="relu4_3", reduction=1)


def images_of(day: Tensor, night: Tensor, *, fake_night: Tensor, fake_day: Tensor) -> UnitImages:
    code = torch.zeros(1, 1, 1, 1)
    return UnitImages(code, code, day, night, fake_night, fake_day, code, code, day, night)


def test_images_are_compared_with_their_own_translations() -> None:
    """Nothing is lost where each image has kept its content, much where the other image took its place."""
    generator = torch.Generator().manual_seed(0)
    day, night = (torch.randn(1, 3, 8, 8, generator=generator) for _ in range(2))

    def judge(*_: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        return [torch.zeros(1)], [torch.zeros(1)]

    def term(**fakes: Tensor) -> float:
        images = images_of(day, night, **fakes)
        return unit_terms(day, night, images, judge, torch.nn.Identity()).perceptual.item()  # type: ignore[arg-type]

    assert term(fake_night=day, fake_day=night) == 0
    assert term(fake_night=night, fake_day=day) > 1
    assert term(fake_night=day, fake_day=day) > 0.5
    assert term(fake_night=night, fake_day=night) > 0.5


def test_each_weight_scales_its_own_term() -> None:
    names = ("kl", "reconstruction", "gan", "cycle_kl", "cycle_reconstruction", "perceptual")
    terms = UnitTerms(**{name: torch.tensor(10.0**power) for power, name in enumerate(names)})
    weights = UnitWeights(**{name: factor for factor, name in enumerate(names, start=2)})
    assert weighted_sum(terms, weights).item() == pytest.approx(765_432)
