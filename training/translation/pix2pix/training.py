"""The training step of Pix2Pix."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from omegaconf import DictConfig
from torch import Tensor
from torch.nn import functional

from training.adaptation.teacher import copy_as_teacher, update_teacher
from training.data.cache import ImageStore
from training.runs.loop import TrainingRun
from training.translation.optimiser import build_optimiser, descend, set_learning_rate
from training.translation.patch_discriminator import PatchDiscriminator
from training.translation.pix2pix.network import build_generator
from training.translation.sample_sheet import picture_of, sheet_views
from training.translation.samples import PairedSamples


class Pix2PixTraining:
    """Networks, optimisers and samples of one run; see `training.translation.protocol.Training`."""

    def __init__(
        self, config: DictConfig, fabric: Fabric, day: Sequence[Path], night: Sequence[Path], store: ImageStore
    ) -> None:
        self._config, self._fabric, self._images = config, fabric, (day, night)
        self._generator = build_generator(config.network).to(memory_format=torch.channels_last)
        self._discriminator = PatchDiscriminator(
            in_channels=6,
            channels=config.network.discriminator_channels,
            layers=config.network.discriminator_layers,
        ).to(memory_format=torch.channels_last)
        self._translate, self._optimiser = fabric.setup(self._generator, build_optimiser(self._generator, config))
        self._judge, self._judges_optimiser = fabric.setup(
            self._discriminator, build_optimiser(self._discriminator, config)
        )
        self._averaged = copy_as_teacher(self._generator)
        self.samples = PairedSamples(
            list(day), list(night), view_px=config.view_px, crop_px=config.crop_px, seed=config.seed, store=store
        )
        self.parts = {
            "generator": self._translate,
            "averaged_generator": self._averaged,
            "discriminator": self._judge,
            "generator_optimiser": self._optimiser,
            "discriminator_optimiser": self._judges_optimiser,
        }

    def step(self, batch: dict[str, Tensor], run: TrainingRun) -> dict[str, Tensor]:
        for optimiser in (self._optimiser, self._judges_optimiser):
            set_learning_rate(optimiser, self._config, run.step)
        run.seed_dropout()
        day, night = batch["day"], batch["night"]

        # Generator. The discriminator gets no gradient here, so there is none to wait for.
        fake_night = self._translate(day)
        self._discriminator.requires_grad_(False)
        with self._fabric.no_backward_sync(self._judge), self._fabric.autocast():
            fake_logits = self._judge(torch.cat([day, fake_night], dim=1))
        terms = {"gan": functional.softplus(-fake_logits).mean(), "l1": functional.l1_loss(fake_night, night)}
        loss = self._config.weights.gan * terms["gan"] + self._config.weights.l1 * terms["l1"]
        descend(loss, self._optimiser, run, fabric=self._fabric)
        update_teacher(self._averaged, self._generator, step=run.step, decay=self._config.optimiser.average_decay)

        # Discriminator: the real night and the translated one, each beside its day.
        self._discriminator.requires_grad_(True)
        real, fake = (torch.cat([day, images], dim=1) for images in (night, fake_night.detach()))
        judged = discriminator_loss(*self._judge(torch.cat([real, fake])).chunk(2))
        descend(judged, self._judges_optimiser, run, fabric=self._fabric)
        return {**terms, "discriminators": judged}

    def sheet(self) -> np.ndarray:
        """Rows: day, day → night, the real night."""
        day, night = sheet_views(*self._images, self._config.view_px, like=self._averaged)
        with torch.no_grad():
            return picture_of([day, self._averaged(day), night])


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Half of -log D(real) - log(1 - D(fake)), averaged over patches: scalar; the half slows the discriminator down.

    Source: arXiv 1611.07004, equation 1 and section 3.3.
    """
    return (functional.softplus(-real_logits).mean() + functional.softplus(fake_logits).mean()) / 2
