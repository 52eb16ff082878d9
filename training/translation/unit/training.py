"""The training step of UNIT."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from omegaconf import DictConfig
from torch import Tensor

from training.adaptation.teacher import copy_as_teacher, update_teacher
from training.data.cache import ImageStore
from training.runs.loop import TrainingRun
from training.translation.optimiser import build_optimiser, descend, set_learning_rate
from training.translation.sample_sheet import picture_of, sheet_views
from training.translation.samples import UnpairedSamples
from training.translation.settings import STRIDE
from training.translation.unit.losses import (
    VggFeatures,
    discriminator_loss,
    split_real_and_fake,
    unit_terms,
    weighted_sum,
)
from training.translation.unit.network import DRAWS_PER_PAIR, Discriminators, Unit, build_unit


class UnitTraining:
    """Networks, optimisers and samples of one run; see `training.translation.protocol.Training`."""

    def __init__(
        self, config: DictConfig, fabric: Fabric, day: Sequence[Path], night: Sequence[Path], store: ImageStore
    ) -> None:
        self._config, self._fabric, self._images = config, fabric, (day, night)
        self._unit = build_unit(config.network).to(memory_format=torch.channels_last)
        self._discriminators = Discriminators(
            channels=config.network.discriminator_channels,
            layers=config.network.discriminator_layers,
            scales=config.network.discriminator_scales,
        ).to(memory_format=torch.channels_last)
        self._vgg = None
        if config.weights.perceptual:
            self._vgg = VggFeatures(
                Path(config.perceptual.vgg_weights),
                layer=config.perceptual.layer,
                reduction=config.perceptual.reduction,
            ).to(memory_format=torch.channels_last)
            fabric.to_device(self._vgg)
        self._translate, self._optimiser = fabric.setup(self._unit, build_optimiser(self._unit, config))
        self._judge, self._judges_optimiser = fabric.setup(
            self._discriminators, build_optimiser(self._discriminators, config)
        )
        averaged = copy_as_teacher(self._unit)
        assert isinstance(averaged, Unit)
        self._averaged = averaged
        # What is drawn, the latent noise included, depends on (seed, position) only.
        self.samples = UnpairedSamples(
            list(day),
            list(night),
            view_px=config.view_px,
            crop_px=config.crop_px,
            noise_shape=(DRAWS_PER_PAIR, self._unit.latent_channels, *2 * (config.crop_px // STRIDE,)),
            seed=config.seed,
            store=store,
        )
        self.parts = {
            "unit": self._translate,
            "averaged_unit": self._averaged,
            "discriminators": self._judge,
            "unit_optimiser": self._optimiser,
            "discriminator_optimiser": self._judges_optimiser,
        }

    def step(self, batch: dict[str, Tensor], run: TrainingRun) -> dict[str, Tensor]:
        for optimiser in (self._optimiser, self._judges_optimiser):
            set_learning_rate(optimiser, self._config, run.step)
        day, night = batch["day"], batch["night"]

        # Encoders and generators. The discriminators get no gradient here, so there is none to wait for.
        images = self._translate(day, night, batch["noise"])
        self._discriminators.requires_grad_(False)
        with self._fabric.no_backward_sync(self._judge), self._fabric.autocast():
            terms = unit_terms(day, night, images, self._judge, self._vgg)
        loss = weighted_sum(terms, self._config.weights)
        descend(loss, self._optimiser, run, fabric=self._fabric)
        update_teacher(self._averaged, self._unit, step=run.step, decay=self._config.optimiser.average_decay)

        # Discriminators, on the same translated images.
        self._discriminators.requires_grad_(True)
        day_logits, night_logits = self._judge(
            torch.cat([day, images.fake_day.detach()]), torch.cat([night, images.fake_night.detach()])
        )
        judged = discriminator_loss(*split_real_and_fake(day_logits)) + discriminator_loss(
            *split_real_and_fake(night_logits)
        )
        descend(self._config.weights.gan * judged, self._judges_optimiser, run, fabric=self._fabric)
        return {**{term.name: getattr(terms, term.name) for term in fields(terms)}, "discriminators": judged}

    @torch.no_grad()
    def sheet(self) -> np.ndarray:
        """Rows: day, day → night, day → day, day → night → day, night, night → day; without latent noise."""
        unit = self._averaged
        day, night = sheet_views(*self._images, self._config.view_px, like=unit)
        day_mean = unit.encoder("day")(day)
        fake_night = unit.generator("night")(day_mean)
        return picture_of(
            [
                day,
                fake_night,
                unit.generator("day")(day_mean),
                unit.generator("day")(unit.encoder("night")(fake_night)),
                night,
                unit.generator("day")(unit.encoder("night")(night)),
            ]
        )
