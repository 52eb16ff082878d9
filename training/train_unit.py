"""Train UNIT to translate between day and night images that have no partners and no labels.

    python -m training.train_unit --config training/configs/unit_mini.yaml [key=value …]

Started again with the same config, a run continues from its last checkpoint as if it had never stopped.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from lightning_fabric.utilities.seed import seed_everything
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn
from torch.utils.data import Dataset
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from darkseg_ros.errors import InputError
from darkseg_ros.frames.source import read_image
from training.adaptation.teacher import copy_as_teacher, update_teacher
from training.data.draws import draw_evenly
from training.data.image_lists import read_image_list
from training.data.pairs import find_images
from training.runs.checkpoints import load_checkpoint, save_checkpoint
from training.runs.config import FREE_KEYS, read_command_line, refuse_other_config
from training.runs.fabric import load_from, refuse_nan, start_fabric
from training.runs.results import one_line_errors, write_picture, write_result
from training.translation.unit.config import UnitConfig
from training.translation.unit.losses import UnitTerms, VggFeatures, discriminator_loss, unit_terms, weighted_sum
from training.translation.unit.network import DRAWS_PER_PAIR, LATENT_STRIDE, Discriminators, Unit, build_unit

SHEET_COLUMNS = 6


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
    refuse_unusable_sizes(config)
    output = Path(config.output)
    fabric = start_fabric(config)
    seed_everything(config.seed, verbose=False)

    # Networks, averaged weights, optimisers.
    unit = build_unit(config.network).to(memory_format=torch.channels_last)
    discriminators = Discriminators(
        channels=config.network.discriminator_channels,
        layers=config.network.discriminator_layers,
        scales=config.network.discriminator_scales,
    ).to(memory_format=torch.channels_last)
    vgg = read_vgg(config) if config.weights.perceptual else None
    if vgg is not None:
        fabric.to_device(vgg)
    wrapped_unit, unit_optimiser = fabric.setup(unit, build_optimiser(unit, config))
    wrapped_discriminators, discriminator_optimiser = fabric.setup(
        discriminators, build_optimiser(discriminators, config)
    )
    averaged_unit = copy_as_teacher(unit)
    assert isinstance(averaged_unit, Unit)

    # Data: what is drawn, the latent noise included, depends on (seed, position) only.
    day_images = find_domain_images(config.data.day, config.data.day_list)
    night_images = find_domain_images(config.data.night, config.data.night_list)
    samples = UnpairedSamples(
        day_images,
        night_images,
        view_px=config.view_px,
        crop_px=config.crop_px,
        latent_channels=unit.latent_channels,
        seed=config.seed,
    )

    # Where the run stands.
    last = output / "checkpoints" / "last.pt"
    step = 0
    if last.is_file():
        state = load_checkpoint(last)
        refuse_other_config(last, state["config"], config, free=FREE_KEYS)
        step = state["step"]
        wrapped_unit.load_state_dict(state["unit"])
        averaged_unit.load_state_dict(state["averaged_unit"])
        wrapped_discriminators.load_state_dict(state["discriminators"])
        unit_optimiser.load_state_dict(state["unit_optimiser"])
        discriminator_optimiser.load_state_dict(state["discriminator_optimiser"])
    elif fabric.is_global_zero:
        write_result(output / "config.yaml", OmegaConf.to_yaml(config))

    def whole_state() -> dict[str, Any]:
        return {
            "step": step,
            "config": OmegaConf.to_container(config),
            "unit": wrapped_unit.state_dict(),
            "averaged_unit": averaged_unit.state_dict(),
            "discriminators": wrapped_discriminators.state_dict(),
            "unit_optimiser": unit_optimiser.state_dict(),
            "discriminator_optimiser": discriminator_optimiser.state_dict(),
        }

    batches = load_from(
        samples,
        config.batch_size,
        start_step=step,
        stop_step=config.steps,
        loader_workers=config.loader_workers,
        fabric=fabric,
    )
    board = SummaryWriter(str(output / "tensorboard"), purge_step=step) if fabric.is_global_zero else None
    progress = tqdm(total=config.steps, initial=step, disable=not fabric.is_global_zero, unit="step", mininterval=10)

    for batch in batches:
        for optimiser in (unit_optimiser, discriminator_optimiser):
            set_learning_rate(optimiser, config, step)
        day, night = batch["day"], batch["night"]

        # Encoders and generators. The discriminators get no gradient here, so there is none to wait for.
        images = wrapped_unit(day, night, batch["noise"])
        discriminators.requires_grad_(False)
        with fabric.no_backward_sync(wrapped_discriminators), fabric.autocast():
            terms = unit_terms(day, night, images, wrapped_discriminators, vgg)
        unit_loss = weighted_sum(terms, config.weights)
        refuse_nan(unit_loss, step, last, fabric=fabric)
        unit_optimiser.zero_grad()
        fabric.backward(unit_loss)
        unit_optimiser.step()
        update_teacher(averaged_unit, unit, step=step, decay=config.optimiser.average_decay)

        # Discriminators, on the same translated images.
        discriminators.requires_grad_(True)
        day_logits, night_logits = wrapped_discriminators(
            torch.cat([day, images.fake_day.detach()]), torch.cat([night, images.fake_night.detach()])
        )
        judged_loss = config.weights.gan * (
            discriminator_loss(*split_real_and_fake(day_logits))
            + discriminator_loss(*split_real_and_fake(night_logits))
        )
        refuse_nan(judged_loss, step, last, fabric=fabric)
        discriminator_optimiser.zero_grad()
        fabric.backward(judged_loss)
        discriminator_optimiser.step()
        step += 1
        progress.update()

        if board and step % 20 == 0:
            report(terms, judged_loss / config.weights.gan, step, board)
            board.add_scalar("learning_rate", unit_optimiser.param_groups[0]["lr"], step)
            progress.set_postfix(unit=f"{unit_loss.item():.2f}", discriminators=f"{judged_loss.item():.2f}")
        if step % config.save_every == 0 or step == config.steps:
            fabric.barrier()
            if fabric.is_global_zero:
                save_checkpoint(last, whole_state())
        if board and (step % config.evaluate_every == 0 or step == config.steps):
            sheet = sample_sheet(averaged_unit, day_images, night_images, view_px=config.view_px)
            write_picture(output / "samples" / f"step_{step:06d}.png", sheet)
            board.add_image("samples", sheet[:, :, ::-1], step, dataformats="HWC")

    progress.close()
    if board:
        board.close()


def refuse_unusable_sizes(config: DictConfig) -> None:
    """Raise InputError for sizes that cannot be cut out or translated."""
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


def find_domain_images(folders: list[str], image_list: str | None) -> list[Path]:
    """The images of one domain.

    Raises:
        InputError: if there is no folder, one holds no image, or the list does not fit.
    """
    if not folders:
        raise InputError("data.day and data.night need a folder each")
    if image_list is None:
        return [image for folder in folders for image in find_images(Path(folder))]
    if len(folders) > 1:
        raise InputError(f"{image_list} lists images of one folder, got {len(folders)}: {', '.join(folders)}")
    return read_image_list(Path(image_list), Path(folders[0]))


def read_vgg(config: DictConfig) -> VggFeatures:
    """The network of the perceptual term."""
    if not config.perceptual.vgg_weights:
        raise InputError("weights.perceptual is set without perceptual.vgg_weights; name the file, or set it to 0")
    return VggFeatures(
        Path(config.perceptual.vgg_weights), layer=config.perceptual.layer, reduction=config.perceptual.reduction
    ).to(memory_format=torch.channels_last)


def build_optimiser(network: nn.Module, config: DictConfig) -> torch.optim.Optimizer:
    """Adam as in arXiv 1703.00848, section 5."""
    return torch.optim.Adam(network.parameters(), lr=config.optimiser.lr, betas=(0.5, 0.999))


def set_learning_rate(optimiser: Any, config: DictConfig, step: int) -> None:
    """Constant, from the middle of the run on linearly down to 0 at its end; a function of the step alone."""
    for group in optimiser.param_groups:
        group["lr"] = config.optimiser.lr * min(1.0, 2 * (1 - step / config.steps))


def split_real_and_fake(logits: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Halves of the batch, for each scale."""
    return [scale.chunk(2)[0] for scale in logits], [scale.chunk(2)[1] for scale in logits]


class UnpairedSamples(Dataset[dict[str, Tensor]]):
    """A day image, a night image and latent noise at each position of a run.

    Item: ``day`` and ``night`` (3, S, S) float RGB in [-1, 1]; ``noise`` (4, C, S/4, S/4) draws of N(0, 1): drawn here,
    by position, because a generator's state would depend on the number of processes.
    """

    def __init__(
        self,
        day_images: list[Path],
        night_images: list[Path],
        *,
        view_px: int,
        crop_px: int,
        latent_channels: int,
        seed: int,
    ) -> None:
        self._day_images, self._night_images = day_images, night_images
        self._draw_day = draw_evenly(len(day_images), seed=seed)
        # Another seed: domains of equal size would otherwise always meet in the same pairs.
        self._draw_night = draw_evenly(len(night_images), seed=seed + 1)
        self._view_px, self._crop_px, self._seed = view_px, crop_px, seed
        self._noise_shape = (DRAWS_PER_PAIR, latent_channels, crop_px // LATENT_STRIDE, crop_px // LATENT_STRIDE)

    def __getitem__(self, position: int) -> dict[str, Tensor]:
        rng = np.random.default_rng((self._seed, 7, position))
        return {
            "day": self._crop(self._day_images[self._draw_day(position)], rng),
            "night": self._crop(self._night_images[self._draw_night(position)], rng),
            "noise": torch.from_numpy(rng.standard_normal(self._noise_shape, dtype=np.float32)),
        }

    def _crop(self, path: Path, rng: np.random.Generator) -> Tensor:
        view_bgr = read_view(path, self._view_px)
        top, left = rng.integers(self._view_px - self._crop_px + 1, size=2)
        crop_bgr = view_bgr[top : top + self._crop_px, left : left + self._crop_px]
        return unit_input(crop_bgr[:, ::-1] if rng.random() < 0.5 else crop_bgr)


def read_view(path: Path, view_px: int) -> np.ndarray:
    """An image squeezed into a square, (S, S, 3) uint8 BGR.

    Raises:
        InputError: naming the file, if it cannot be read.
    """
    return cv2.resize(read_image(path), (view_px, view_px), interpolation=cv2.INTER_AREA)


def unit_input(bgr: np.ndarray) -> Tensor:
    """(H, W, 3) uint8 BGR → (3, H, W) float RGB in [-1, 1]."""
    rgb = torch.from_numpy(np.ascontiguousarray(bgr[:, :, ::-1])).permute(2, 0, 1)
    return rgb.float().div_(127.5).sub_(1)


def bgr_of(rgb: Tensor) -> np.ndarray:
    """(3, H, W) float RGB, clipped to [-1, 1] → (H, W, 3) uint8 BGR."""
    levels = rgb.clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)
    return np.ascontiguousarray(levels.permute(1, 2, 0).cpu().numpy()[:, :, ::-1])


@torch.no_grad()
def sample_sheet(unit: Unit, day_images: list[Path], night_images: list[Path], *, view_px: int) -> np.ndarray:
    """Rows: day, day → night, day → day, day → night → day, night, night → day; without latent noise.

    Args:
        unit: in evaluation mode.
        day_images: of which a few, evenly spaced, are shown.
        night_images: the same.
        view_px: side of one image.

    Returns:
        (6 · view_px, columns · view_px, 3) uint8 BGR.
    """
    columns = min(SHEET_COLUMNS, len(day_images), len(night_images))
    day, night = (
        torch.stack([unit_input(read_view(images[i * len(images) // columns], view_px)) for i in range(columns)])
        for images in (day_images, night_images)
    )
    weight = next(unit.parameters())  # where and how precise
    day, night = day.to(weight), night.to(weight)
    day_mean = unit.encoder("day")(day)
    fake_night = unit.generator("night")(day_mean)
    rows = [
        day,
        fake_night,
        unit.generator("day")(day_mean),
        unit.generator("day")(unit.encoder("night")(fake_night)),
        night,
        unit.generator("day")(unit.encoder("night")(night)),
    ]
    return bgr_of(torch.cat([torch.cat(list(row), dim=2) for row in rows], dim=1))


def report(terms: UnitTerms, judged: Tensor, step: int, board: SummaryWriter) -> None:
    """Add the terms of the loss, unweighted, to TensorBoard."""
    for term in fields(terms):
        board.add_scalar(f"loss/{term.name}", getattr(terms, term.name).item(), step)
    board.add_scalar("loss/discriminators", judged.item(), step)


if __name__ == "__main__":
    main()
