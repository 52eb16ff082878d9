from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from darkseg_ros.errors import InputError
from training.runs.checkpoints import load_checkpoint, save_checkpoint
from training.translation.load import load_translator
from training.translation.unit.config import UnitWeights
from training.translation.unit.losses import unit_terms, weighted_sum
from training.translation.unit.network import Discriminators, Unit

TINY = {"channels": 4, "residual_blocks": 2, "shared_blocks": 1, "generator_norm": "layer"}


def tiny_unit(**changes: object) -> Unit:
    torch.manual_seed(0)
    return Unit(**{**TINY, **changes}).double()  # type: ignore[arg-type]


def pair_and_noise(*, side: int = 16) -> tuple[Tensor, Tensor, Tensor]:
    """In double precision: instance normalisation of small images blows rounding up."""
    generator = torch.Generator().manual_seed(1)
    day, night = torch.rand(2, 1, 3, side, side, generator=generator, dtype=torch.float64) * 2 - 1
    return day, night, torch.randn(1, 4, 16, side // 4, side // 4, generator=generator, dtype=torch.float64)


def test_last_encoder_and_first_generator_blocks_of_both_domains_are_the_same_tensors() -> None:
    unit = tiny_unit()
    day_encoder, night_encoder = unit.encoder("day"), unit.encoder("night")
    day_generator, night_generator = unit.generator("day"), unit.generator("night")
    assert day_encoder[-1] is night_encoder[-1]
    assert day_generator[0] is night_generator[0]
    for day_part, night_part in ((day_encoder[-1], night_encoder[-1]), (day_generator[0], night_generator[0])):
        parameters = list(zip(day_part.parameters(), night_part.parameters(), strict=True))
        assert parameters
        assert all(day is night for day, night in parameters)


def test_first_encoder_and_last_generator_layers_belong_to_one_domain_each() -> None:
    unit = tiny_unit()
    for day_part, night_part in (
        (unit.encoder("day")[0], unit.encoder("night")[0]),
        (unit.generator("day")[-1], unit.generator("night")[-1]),
    ):
        day_tensors = {id(parameter) for parameter in day_part.parameters()}
        assert day_tensors.isdisjoint(id(parameter) for parameter in night_part.parameters())


def test_learning_from_night_images_alone_changes_how_day_images_are_encoded() -> None:
    unit = tiny_unit()
    day, night, _ = pair_and_noise()
    before = unit.encoder("day")(day).detach()
    night_again = unit.generator("night")(unit.encoder("night")(night))
    optimiser = torch.optim.SGD(unit.parameters(), lr=0.1)
    (night_again - night).abs().mean().backward()
    optimiser.step()
    assert not torch.equal(unit.encoder("day")(day), before)
    assert next(unit.fronts["day"].parameters()).grad is None


def test_every_parameter_has_one_name() -> None:
    unit = tiny_unit()
    tensors = [value.data_ptr() for value in unit.state_dict().values()]
    assert len(tensors) == len(set(tensors))


def test_one_pass_reconstructs_translates_and_translates_back() -> None:
    unit = tiny_unit()
    day, night, noise = pair_and_noise()
    images = unit(day, night, torch.zeros_like(noise))
    day_code, night_code = unit.encoder("day")(day), unit.encoder("night")(night)
    fake_night, fake_day = unit.generator("night")(day_code), unit.generator("day")(night_code)
    expected = {
        "day_mean": day_code,
        "night_mean": night_code,
        "day_again": unit.generator("day")(day_code),
        "night_again": unit.generator("night")(night_code),
        "fake_night": fake_night,
        "fake_day": fake_day,
        "fake_night_mean": unit.encoder("night")(fake_night),
        "fake_day_mean": unit.encoder("day")(fake_day),
        "day_cycled": unit.generator("day")(unit.encoder("night")(fake_night)),
        "night_cycled": unit.generator("night")(unit.encoder("day")(fake_day)),
    }
    assert set(expected) == set(images._fields)
    for name, value in expected.items():
        torch.testing.assert_close(getattr(images, name), value, rtol=0, atol=1e-8, msg=name)


@pytest.mark.parametrize(
    ("draw", "changed"),
    [
        (0, {"day_again", "fake_night", "fake_night_mean", "day_cycled"}),
        (1, {"night_again", "fake_day", "fake_day_mean", "night_cycled"}),
        (2, {"day_cycled"}),
        (3, {"night_cycled"}),
    ],
)
def test_each_draw_of_noise_reaches_the_images_made_of_its_code_and_no_other(draw: int, changed: set[str]) -> None:
    unit = tiny_unit()
    day, night, noise = pair_and_noise()
    without = noise.clone()
    without[:, draw] = 0
    one, other = unit(day, night, noise), unit(day, night, without)
    differing = {name for name in one._fields if not torch.equal(getattr(one, name), getattr(other, name))}
    assert differing == changed


def test_images_of_a_batch_do_not_touch_each_other() -> None:
    """Normalisation is per image: without it two processes could not equal one."""
    unit = tiny_unit(generator_norm="instance")
    day, night, noise = pair_and_noise()
    alone = unit(day, night, noise)
    beside = unit(torch.cat([day, -night]), torch.cat([night, day]), torch.cat([noise, -noise]))
    for name in alone._fields:
        torch.testing.assert_close(getattr(beside, name)[:1], getattr(alone, name), rtol=0, atol=1e-8, msg=name)


def test_the_encoder_has_instance_normalisation_and_the_generator_the_one_asked_for() -> None:
    for norm in ("instance", "layer"):
        unit = tiny_unit(generator_norm=norm)
        encoder_norms = [m for m in unit.encoder("day").modules() if isinstance(m, nn.GroupNorm)]
        generator_norms = [m for m in unit.generator("day").modules() if isinstance(m, nn.GroupNorm)]
        assert all(m.num_groups == m.num_channels for m in encoder_norms)
        assert all(m.num_groups == (1 if norm == "layer" else m.num_channels) for m in generator_norms)
        assert len(encoder_norms) == 3 + 2 * 2
        assert len(generator_norms) == 2 + 2 * 2


def test_discriminators_judge_patches_at_every_scale() -> None:
    day_logits, night_logits = Discriminators(channels=2, layers=2, scales=3)(
        torch.zeros(2, 3, 32, 32), torch.zeros(1, 3, 32, 32)
    )
    assert [tuple(logits.shape) for logits in day_logits] == [(2, 1, 8, 8), (2, 1, 4, 4), (2, 1, 2, 2)]
    assert [len(logits) for logits in night_logits] == [1, 1, 1]


def test_one_pair_can_be_learnt_by_heart() -> None:
    unit, discriminators = tiny_unit().float(), Discriminators(channels=4, layers=2, scales=1).requires_grad_(False)
    rows = torch.linspace(-1, 1, 32).view(1, 1, 32, 1).expand(1, 3, 32, 32)
    day, night = rows * torch.tensor([0.9, 0.5, -0.6]).view(1, 3, 1, 1), rows.abs() - 1
    optimiser = torch.optim.Adam(unit.parameters(), lr=3e-3, betas=(0.5, 0.999))
    losses = []
    for step in range(100):
        noise = torch.randn(1, 4, 16, 8, 8, generator=torch.Generator().manual_seed(step))
        terms = unit_terms(day, night, unit(day, night, noise), discriminators, None)
        optimiser.zero_grad()
        weighted_sum(terms, UnitWeights()).backward()
        optimiser.step()
        losses.append(terms.reconstruction.item())
    assert losses[-1] < 0.25 * losses[0]


@pytest.mark.parametrize(("height", "width"), [(18, 16), (16, 22)])
def test_a_side_that_is_no_multiple_of_four_is_refused_with_a_cure(height: int, width: int) -> None:
    unit = tiny_unit()
    images = torch.zeros(1, 3, height, width)
    with pytest.raises(InputError, match=rf"image of {width}×{height} .* multiples of 4: resize or pad"):
        unit(images, images, torch.zeros(1, 4, 16, 4, 4))


def test_unusable_network_settings_are_refused() -> None:
    with pytest.raises(InputError, match=r"shared_blocks is 0; expected 1 to"):
        tiny_unit(shared_blocks=0)
    with pytest.raises(InputError, match=r"shared_blocks is 3; expected 1 to .* \(2\)"):
        tiny_unit(shared_blocks=3)
    with pytest.raises(InputError, match="generator_norm is batch; expected instance or layer"):
        tiny_unit(generator_norm="batch")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    unit = tiny_unit().float()
    averaged = {name: value + 0.01 for name, value in unit.state_dict().items()}
    path = tmp_path / "last.pt"
    save_checkpoint(
        path, {"step": 1, "config": {"network": TINY}, "unit": unit.state_dict(), "averaged_unit": averaged}
    )
    return path


@pytest.mark.parametrize(
    ("direction", "start", "end"), [("day_to_night", "day", "night"), ("night_to_day", "night", "day")]
)
def test_a_translator_uses_the_averaged_weights_of_its_direction_without_noise(
    checkpoint: Path, direction: str, start: str, end: str
) -> None:
    translator, config = load_translator(checkpoint, direction)  # type: ignore[arg-type]
    averaged = tiny_unit().float()
    with torch.no_grad():
        for parameter in averaged.parameters():
            parameter += 0.01
    images = pair_and_noise(side=20)[0][:, :, :16].float()
    expected = averaged.generator(end)(averaged.encoder(start)(images))  # type: ignore[arg-type]
    torch.testing.assert_close(translator(images), expected, rtol=0, atol=1e-6)
    assert not translator.training
    assert config["network"] == TINY
    with pytest.raises(InputError, match="multiples of 4"):
        translator(images[:, :, :15])


def test_a_translator_is_refused_from_another_kind_of_run_and_in_an_unknown_direction(
    checkpoint: Path, tmp_path: Path
) -> None:
    other = tmp_path / "segmenter.pt"
    save_checkpoint(other, {"step": 1, "config": {}, "teacher": {}})
    with pytest.raises(
        InputError, match=r"segmenter.pt is of another kind of run; expected one of training.train_unit"
    ):
        load_translator(other)
    state = load_checkpoint(checkpoint)
    state["config"]["network"]["channels"] *= 2
    save_checkpoint(other, state)
    with pytest.raises(InputError, match=r"segmenter\.pt holds a UNIT that this version does not know"):
        load_translator(other)
    with pytest.raises(InputError, match="no direction dusk; expected day_to_night or night_to_day"):
        load_translator(checkpoint, "dusk")  # type: ignore[arg-type]
