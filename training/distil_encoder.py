"""First stage of a two-stage distillation: an encoder learns a teacher's features of unlabelled day and night images.

    python -m training.distil_encoder --checkpoint TEACHER --images DAY_FOLDER NIGHT_FOLDER --encoder NAME \
        --encoder-weights FILE --out FILE.pt [--steps N]

No label and no task takes part. The teacher sees an image, the student a changed view of the same pixels; 1×1
convolutions, dropped afterwards, bring the student's features to the teacher's channels. The second stage is a run of
training.train_segmenter or training.adapt_segmenter with ``network.encoder_weights=FILE.pt``. A killed run starts from
the beginning; it takes minutes.

Source: the two stages of GKD (CVPR 2026); the hints of FitNets (arXiv 1412.6550).
"""

from __future__ import annotations

import math
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.utilities.seed import seed_everything
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from darkseg_ros.errors import InputError
from training.adaptation.night_samples import NightSamples
from training.adaptation.settings import StrongAugmentation
from training.adaptation.teacher import load_teacher
from training.data.augmentation import Augmentation
from training.data.pairs import find_images
from training.distil_stem import unexplained_variance
from training.networks.build import build_network
from training.networks.config import NetworkConfig, exposure_of
from training.networks.layers import upsample_bilinear
from training.runs.checkpoints import save_checkpoint
from training.runs.fabric import add_accelerator, pick_device
from training.runs.results import one_line_errors

_LEVELS = slice(-3, None)
"""Features of strides 8, 16 and 32."""
_WARMUP_STEPS = 50
_SEED = 0


def main(arguments: list[str] | None = None) -> None:
    """Run the stage from the command line."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, help="the teacher, of training.train_segmenter")
    parser.add_argument("--images", type=Path, nargs="+", required=True, help="folders of unlabelled images")
    parser.add_argument("--encoder", required=True, help="the student's, as network.encoder")
    parser.add_argument("--encoder-weights", type=Path, help="that it starts from, as network.encoder_weights")
    parser.add_argument("--out", type=Path, required=True, help="checkpoint to write")
    parser.add_argument("--steps", type=int, default=1000, help="(1000)")
    parser.add_argument("--batch-size", type=int, default=12, help="images a step (12)")
    parser.add_argument("--crop-px", type=int, default=256, help="height of the crops (256)")
    parser.add_argument("--lr", type=float, default=1e-3, help="peak learning rate (0.001)")
    add_accelerator(parser)
    parsed = parser.parse_args(arguments)
    with one_line_errors("distil_encoder"):
        left = distil(
            parsed.checkpoint,
            parsed.images,
            encoder=parsed.encoder,
            encoder_weights=parsed.encoder_weights,
            out=parsed.out,
            steps=parsed.steps,
            batch_size=parsed.batch_size,
            crop_px=parsed.crop_px,
            peak_lr=parsed.lr,
            accelerator=parsed.accelerator,
        )
        print(f"wrote {parsed.out}; in the last steps it explains {1 - left:.3f} of the features' variance")


def distil(
    checkpoint: Path,
    folders: Sequence[Path],
    *,
    encoder: str,
    encoder_weights: Path | None,
    out: Path,
    steps: int,
    batch_size: int = 12,
    crop_px: int = 256,
    peak_lr: float = 1e-3,
    accelerator: str = "auto",
) -> float:
    """Train the encoder and write it.

    Args:
        checkpoint: of `training.train_segmenter`; the encoder of its averaged weights is the teacher.
        folders: of unlabelled images, by day and by night, drawn from as one pool.
        encoder: a name of `training.networks.encoders`.
        encoder_weights: that it starts from; None for random ones.
        out: checkpoint to write, for `training.networks.encoders.load_encoder_weights`.
        steps: at least 1.
        batch_size: images a step.
        crop_px: height of the crops, a multiple of 32; they have the shape of the teacher's input.
        peak_lr: of AdamW, after a linear rise and before a cosine down.
        accelerator: auto, cpu or gpu.

    Returns:
        Share of the teacher's variance that is left unexplained, the mean over the last tenth of the steps.

    Raises:
        InputError: if the checkpoint is none, an encoder or its weights do not fit, or `out` cannot be written.
    """
    if steps < 1 or batch_size < 1 or crop_px % 32 or crop_px < 64:
        raise InputError(
            f"--steps is {steps}, --batch-size {batch_size}, --crop-px {crop_px}; expected at least 1, at least 1, "
            "and a multiple of 32 from 64 on"
        )
    device = pick_device(accelerator)
    seed_everything(_SEED, verbose=False)
    network, state = load_teacher(checkpoint)
    teacher: Any = network.encoder.to(device).eval()  # type: ignore[union-attr]
    settings = OmegaConf.create(state["config"]["network"])
    student: Any = build_network(
        NetworkConfig(encoder=encoder, encoder_weights=str(encoder_weights) if encoder_weights else None)
    ).encoder.to(device)
    images = [image for folder in folders for image in find_images(folder)]
    samples = NightSamples(
        images,
        augmentation=Augmentation(view_px=crop_px, crop_px=crop_px, width_over_height=settings.width_over_height),
        strong=StrongAugmentation(),
        exposure=exposure_of(settings),
        boxes={},
        score_min=0.0,
        answers=None,
        seed=_SEED,
    )
    batches = DataLoader(samples, batch_size, sampler=range(steps * batch_size), num_workers=1)
    projections = nn.ModuleList(
        nn.Conv2d(mine, wanted, 1)
        for mine, wanted in zip(student.out_channels[_LEVELS], teacher.out_channels[_LEVELS], strict=True)
    ).to(device)
    optimiser = torch.optim.AdamW([*student.parameters(), *projections.parameters()], lr=peak_lr)
    student.train()
    left: list[float] = []
    for step, batch in enumerate(tqdm(batches, unit="step", mininterval=10)):
        for group in optimiser.param_groups:
            group["lr"] = peak_lr * min(1, (step + 1) / _WARMUP_STEPS) * (1 + math.cos(math.pi * step / steps)) / 2
        with torch.no_grad():
            wanted = teacher(batch["calm"].to(device))[_LEVELS]
        loss = feature_loss(student(batch["strong"].to(device))[_LEVELS], wanted, projections)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        left.append(loss.item())
    weights = {f"encoder.{name}": value for name, value in student.cpu().state_dict().items()}
    save_checkpoint(out, {"step": steps, "teacher": weights, "encoder_of": state["config"]})
    last = left[-max(steps // 10, 1) :]
    return sum(last) / len(last)


def feature_loss(features: Sequence[Tensor], wanted: Sequence[Tensor], projections: nn.ModuleList) -> Tensor:
    """Share of the variance of the wanted features that is not explained, the mean over levels and channels.

    Args:
        features: of the student, (B, c, h, w) each.
        wanted: of the teacher, (B, C, H, W) each; features of another size are resized to theirs.
        projections: one for each level, c → C channels.
    """
    return torch.stack(
        [
            unexplained_variance(upsample_bilinear(projection(mine), theirs.shape[-2:]), theirs)
            for mine, theirs, projection in zip(features, wanted, projections, strict=True)
        ]
    ).mean()


if __name__ == "__main__":
    main()
