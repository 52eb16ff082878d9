"""The training step of CycleGAN."""

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
from training.runs.fabric import all_reduce
from training.runs.loop import TrainingRun
from training.translation.cyclegan.image_pool import ImagePool
from training.translation.cyclegan.network import CycleGan, Discriminators, build_cyclegan
from training.translation.optimiser import build_optimiser, descend, set_learning_rate
from training.translation.sample_sheet import picture_of, sheet_views
from training.translation.samples import UnpairedSamples


class CycleGanTraining:
    """Networks, optimisers, pools and samples of one run; see `training.translation.protocol.Training`."""

    def __init__(
        self, config: DictConfig, fabric: Fabric, day: Sequence[Path], night: Sequence[Path], store: ImageStore
    ) -> None:
        self._config, self._fabric, self._images = config, fabric, (day, night)
        self._cyclegan = build_cyclegan(config.network).to(memory_format=torch.channels_last)
        self._discriminators = Discriminators(
            channels=config.network.discriminator_channels, layers=config.network.discriminator_layers
        ).to(memory_format=torch.channels_last)
        self._translate, self._optimiser = fabric.setup(self._cyclegan, build_optimiser(self._cyclegan, config))
        self._judge, self._judges_optimiser = fabric.setup(
            self._discriminators, build_optimiser(self._discriminators, config)
        )
        averaged = copy_as_teacher(self._cyclegan)
        assert isinstance(averaged, CycleGan)
        self._averaged = averaged
        self._pools = [
            ImagePool(size=config.pool_size, image_px=config.crop_px, seed=config.seed, domain=domain)
            for domain in (0, 1)
        ]
        for pool in self._pools:
            fabric.to_device(pool)
        self.samples = UnpairedSamples(
            list(day), list(night), view_px=config.view_px, crop_px=config.crop_px, seed=config.seed, store=store
        )
        self.parts = {
            "cyclegan": self._translate,
            "averaged_cyclegan": self._averaged,
            "discriminators": self._judge,
            "day_pool": self._pools[0],
            "night_pool": self._pools[1],
            "cyclegan_optimiser": self._optimiser,
            "discriminator_optimiser": self._judges_optimiser,
        }

    def step(self, batch: dict[str, Tensor], run: TrainingRun) -> dict[str, Tensor]:
        for optimiser in (self._optimiser, self._judges_optimiser):
            set_learning_rate(optimiser, self._config, run.step)
        day, night = batch["day"], batch["night"]

        # Generators. The discriminators get no gradient here, so there is none to wait for.
        images = self._translate(day, night)
        self._discriminators.requires_grad_(False)
        with self._fabric.no_backward_sync(self._judge), self._fabric.autocast():
            fake_day_values, fake_night_values = self._judge(images.fake_day, images.fake_night)
        terms = {
            "gan": generator_loss(fake_day_values) + generator_loss(fake_night_values),
            "cycle": functional.l1_loss(images.day_cycled, day) + functional.l1_loss(images.night_cycled, night),
            "identity": functional.l1_loss(images.same_day, day) + functional.l1_loss(images.same_night, night),
        }
        weights = self._config.weights
        loss = weights.gan * terms["gan"] + weights.cycle * terms["cycle"] + weights.identity * terms["identity"]
        descend(loss, self._optimiser, run, fabric=self._fabric)
        update_teacher(self._averaged, self._cyclegan, step=run.step, decay=self._config.optimiser.average_decay)

        # Discriminators, on these and on earlier translations.
        self._discriminators.requires_grad_(True)
        old_day, old_night = (
            self._from_pool(pool, fake, run.step)
            for pool, fake in zip(self._pools, (images.fake_day, images.fake_night), strict=True)
        )
        day_values, night_values = self._judge(torch.cat([day, old_day]), torch.cat([night, old_night]))
        judged = discriminator_loss(*day_values.chunk(2)) + discriminator_loss(*night_values.chunk(2))
        descend(judged, self._judges_optimiser, run, fabric=self._fabric)
        return {**terms, "discriminators": judged}

    def sheet(self) -> np.ndarray:
        """Rows: day, day → night, and back; night, night → day."""
        day, night = sheet_views(*self._images, self._config.view_px, like=self._averaged)
        with torch.no_grad():
            fake_night = self._averaged.to_night(day)
            rows = [day, fake_night, self._averaged.to_day(fake_night), night, self._averaged.to_day(night)]
        return picture_of(rows)

    def _from_pool(self, pool: ImagePool, fake: Tensor, step: int) -> Tensor:
        """This process' share of what the pool gives for the translations of all processes."""
        fake = fake.detach().float()
        if self._fabric.world_size == 1:
            return pool.exchange(fake, step=step)
        together = fake.new_zeros(self._fabric.world_size, *fake.shape)
        together[self._fabric.global_rank] = fake
        together = all_reduce(together, self._fabric, how="sum").flatten(0, 1)
        first = self._fabric.global_rank * len(fake)
        return pool.exchange(together, step=step)[first : first + len(fake)]


def generator_loss(fake_values: Tensor) -> Tensor:
    """Mean of (D(fake) - 1)², over patches: scalar.

    Source: Mao et al., least-squares GAN, ICCV 2017 (arXiv 1611.04076), as arXiv 1703.10593, section 4 takes it.
    """
    return (fake_values - 1).square().mean()


def discriminator_loss(real_values: Tensor, fake_values: Tensor) -> Tensor:
    """Half of the mean of (D(real) - 1)² + D(fake)², over patches: scalar; the half slows the discriminator down."""
    return ((real_values - 1).square().mean() + fake_values.square().mean()) / 2
