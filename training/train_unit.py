"""Train UNIT to translate between day and night images that have no partners and no labels.

    python -m training.train_unit --config training/configs/unit_mini.yaml [key=value …]

Started again with the same config, a run continues from its last checkpoint as if it had never stopped.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from omegaconf import DictConfig

from darkseg_ros.errors import InputError
from training.data.image_lists import find_domain_images
from training.data.listing import file_digest, files_digest
from training.runs.config import read_command_line
from training.runs.results import one_line_errors
from training.translation.unit.config import LATENT_STRIDE, UnitConfig


def main(arguments: list[str] | None = None) -> None:
    """Run the stage from the command line."""
    with one_line_errors("train_unit"):
        train(read_command_line(UnitConfig, __doc__ or "", arguments))


def train(config: DictConfig) -> None:
    """One whole run, or the rest of one.

    Args:
        config: a resolved `UnitConfig`.

    Raises:
        InputError: on unusable data or settings, or a checkpoint of another configuration.
    """
    # What is wrong with settings and data is told before torch is loaded.
    refuse_unusable(config)
    day_images = find_domain_images(config.data.day, config.data.day_list)
    night_images = find_domain_images(config.data.night, config.data.night_list)
    inputs = {
        "data.day": files_digest(day_images),
        "data.night": files_digest(night_images),
        "perceptual.vgg_weights": file_digest(config.perceptual.vgg_weights if config.weights.perceptual else None),
    }

    import torch
    from lightning_fabric.utilities.seed import seed_everything

    from training.adaptation.teacher import copy_as_teacher, update_teacher
    from training.runs.fabric import load_from, refuse_nan, start_fabric
    from training.runs.loop import TrainingRun
    from training.runs.results import write_picture
    from training.translation.samples import UnpairedSamples
    from training.translation.unit.losses import (
        VggFeatures,
        discriminator_loss,
        split_real_and_fake,
        unit_terms,
        weighted_sum,
    )
    from training.translation.unit.network import DRAWS_PER_PAIR, Discriminators, Unit, build_unit
    from training.translation.unit.optimiser import build_optimiser, set_learning_rate
    from training.translation.unit.sample_sheet import sample_sheet

    fabric = start_fabric(config)
    seed_everything(config.seed, verbose=False)

    # Networks, averaged weights, optimisers.
    unit = build_unit(config.network).to(memory_format=torch.channels_last)
    discriminators = Discriminators(
        channels=config.network.discriminator_channels,
        layers=config.network.discriminator_layers,
        scales=config.network.discriminator_scales,
    ).to(memory_format=torch.channels_last)
    vgg = None
    if config.weights.perceptual:
        vgg = VggFeatures(
            Path(config.perceptual.vgg_weights), layer=config.perceptual.layer, reduction=config.perceptual.reduction
        ).to(memory_format=torch.channels_last)
        fabric.to_device(vgg)
    wrapped_unit, unit_optimiser = fabric.setup(unit, build_optimiser(unit, config))
    wrapped_discriminators, discriminator_optimiser = fabric.setup(
        discriminators, build_optimiser(discriminators, config)
    )
    averaged_unit = copy_as_teacher(unit)
    assert isinstance(averaged_unit, Unit)

    # Data: what is drawn, the latent noise included, depends on (seed, position) only.
    samples = UnpairedSamples(
        day_images,
        night_images,
        view_px=config.view_px,
        crop_px=config.crop_px,
        noise_shape=(DRAWS_PER_PAIR, unit.latent_channels, *2 * (config.crop_px // LATENT_STRIDE,)),
        seed=config.seed,
    )
    parts = {
        "unit": wrapped_unit,
        "averaged_unit": averaged_unit,
        "discriminators": wrapped_discriminators,
        "unit_optimiser": unit_optimiser,
        "discriminator_optimiser": discriminator_optimiser,
    }
    run = TrainingRun(config, fabric, parts, inputs=inputs)
    batches = load_from(
        samples,
        config.batch_size,
        start_step=run.step,
        stop_step=config.steps,
        loader_workers=config.loader_workers,
        fabric=fabric,
    )

    for batch in batches:
        for optimiser in (unit_optimiser, discriminator_optimiser):
            set_learning_rate(optimiser, config, run.step)
        day, night = batch["day"], batch["night"]

        # Encoders and generators. The discriminators get no gradient here, so there is none to wait for.
        images = wrapped_unit(day, night, batch["noise"])
        discriminators.requires_grad_(False)
        with fabric.no_backward_sync(wrapped_discriminators), fabric.autocast():
            terms = unit_terms(day, night, images, wrapped_discriminators, vgg)
        unit_loss = weighted_sum(terms, config.weights)
        refuse_nan(unit_loss, run.step, run.last, fabric=fabric)
        unit_optimiser.zero_grad()
        fabric.backward(unit_loss)
        unit_optimiser.step()
        update_teacher(averaged_unit, unit, step=run.step, decay=config.optimiser.average_decay)

        # Discriminators, on the same translated images.
        discriminators.requires_grad_(True)
        day_logits, night_logits = wrapped_discriminators(
            torch.cat([day, images.fake_day.detach()]), torch.cat([night, images.fake_night.detach()])
        )
        judged = discriminator_loss(*split_real_and_fake(day_logits)) + discriminator_loss(
            *split_real_and_fake(night_logits)
        )
        judged_loss = config.weights.gan * judged
        refuse_nan(judged_loss, run.step, run.last, fabric=fabric)
        discriminator_optimiser.zero_grad()
        fabric.backward(judged_loss)
        discriminator_optimiser.step()

        scalars = {f"loss/{term.name}": getattr(terms, term.name).detach() for term in fields(terms)}
        scalars["loss/discriminators"] = judged.detach()
        scalars["learning_rate"] = torch.tensor(unit_optimiser.param_groups[0]["lr"])
        run.finish_step(scalars)
        if run.board and run.is_due(config.evaluate_every):
            sheet = sample_sheet(averaged_unit, day_images, night_images, view_px=config.view_px)
            write_picture(run.output / "samples" / f"step_{run.step:06d}.png", sheet)
            run.board.add_image("samples", sheet[:, :, ::-1], run.step, dataformats="HWC")
    run.close()


def refuse_unusable(config: DictConfig) -> None:
    """Raise InputError for sizes that cannot be cut out or translated, and a loss without its weights."""
    for name in ("view_px", "crop_px"):
        if config[name] <= 0 or config[name] % LATENT_STRIDE:
            nearest = max(1, round(config[name] / LATENT_STRIDE)) * LATENT_STRIDE
            raise InputError(f"{name} is {config[name]}; expected a multiple of {LATENT_STRIDE}, such as {nearest}")
    if config.crop_px > config.view_px:
        raise InputError(f"crop_px is {config.crop_px}, larger than view_px, {config.view_px}; make it smaller")
    smallest = 2 ** (config.network.discriminator_layers + config.network.discriminator_scales - 1)
    if config.crop_px < smallest:
        raise InputError(
            f"crop_px is {config.crop_px}; discriminators of {config.network.discriminator_layers} layers and "
            f"{config.network.discriminator_scales} scales need {smallest} or more"
        )
    if config.weights.perceptual and not config.perceptual.vgg_weights:
        raise InputError("weights.perceptual is set without perceptual.vgg_weights; name the file, or set it to 0")


if __name__ == "__main__":
    main()
