"""Teach a segmenter's dense blocks (`training.networks.dense_blocks`) to answer as the blocks of the shipped one.

    python -m training.distil_blocks --checkpoint TEACHER --day FOLDER … --night FOLDER … --out FILE.pt
        [--fit-images N] [--steps N] [--bf16]

The teacher is a segmenter of training.train_segmenter on mobilenet_v2_dense_stem. First each dense block is fitted by
least squares, one after the other, so that it makes the teacher's features of the student's; that takes seconds. Then
the whole network learns the teacher's features behind each block and its logits. Both see the same changed views, half
of them by night. No label takes part. FILE.pt is a checkpoint like the teacher's, to evaluate, to export or to train on
(``network.start_checkpoint``). Started again with the same command, a run continues from the state beside it.

Source: FitNets (arXiv 1412.6550); Beyer et al., "Knowledge distillation: A good teacher is patient and consistent"
(arXiv 2106.05237), on equal views; least squares block by block: He et al., "Channel pruning" (arXiv 1707.06168).
"""

from __future__ import annotations

import math
from argparse import ArgumentParser
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.utilities.seed import seed_everything
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from darkseg_ros.errors import InputError
from darkseg_ros.whole_files import sha256_of
from training.adaptation.least_squares import fit_fused, fit_residual
from training.adaptation.night_samples import NightSamples
from training.adaptation.settings import StrongAugmentation
from training.adaptation.teacher import load_teacher
from training.data.augmentation import Augmentation
from training.data.listing import files_digest
from training.data.pairs import find_images
from training.distil_stem import unexplained_variance
from training.networks import dense_stem
from training.networks.build import build_network
from training.networks.config import complete, exposure_of
from training.networks.dense_blocks import ENCODER_NAME, FUSED_BLOCK, dense_blocks
from training.networks.dense_stem import KEPT_BLOCKS
from training.runs.checkpoints import load_checkpoint, save_checkpoint
from training.runs.fabric import add_accelerator, pick_device
from training.runs.results import one_line_errors

_IMAGES_OF_EACH = 4
"""By day and by night in a step."""
_PEAK_LR = 1e-3
_WARMUP_STEPS = 50
_SEED = 0
_REPORT_EVERY = 100
_LOADER_WORKERS = 1


def main(arguments: list[str] | None = None) -> None:
    """Run the stage from the command line."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, help="the teacher, on mobilenet_v2_dense_stem")
    parser.add_argument("--day", type=Path, nargs="+", required=True, help="folders of images")
    parser.add_argument("--night", type=Path, nargs="+", required=True, help="folders of images")
    parser.add_argument("--out", type=Path, required=True, help="checkpoint to write")
    parser.add_argument("--fit-images", type=int, default=192, help="that the blocks are fitted to (192)")
    parser.add_argument("--steps", type=int, default=3000, help=f"of {2 * _IMAGES_OF_EACH} images each (3000)")
    parser.add_argument("--bf16", action="store_true", help="bfloat16 in convolutions: for CPUs with AMX, and GPUs")
    add_accelerator(parser)
    parsed = parser.parse_args(arguments)
    with one_line_errors("distil_blocks"):
        left = distil(
            parsed.checkpoint,
            parsed.day,
            parsed.night,
            out=parsed.out,
            fit_images=parsed.fit_images,
            steps=parsed.steps,
            bf16=parsed.bf16,
            accelerator=parsed.accelerator,
        )
        print(f"wrote {parsed.out}; the loss of the last steps was {left:.4f}")


def distil(
    checkpoint: Path,
    day: Sequence[Path],
    night: Sequence[Path],
    *,
    out: Path,
    fit_images: int,
    steps: int,
    bf16: bool = False,
    accelerator: str = "auto",
) -> float:
    """Train the student and write its checkpoint.

    Args:
        checkpoint: of `training.train_segmenter`; its averaged weights are the teacher.
        day: folders of images.
        night: folders of images.
        out: checkpoint to write; ``<out>.state`` beside it is what a run continues from.
        fit_images: that the blocks are fitted to, at least 8.
        steps: of the whole network's training; 0 leaves the fitted blocks as they are.
        bf16: compute convolutions in bfloat16.
        accelerator: auto, cpu or gpu.

    Returns:
        Loss of the last steps, the mean; NaN where there were none.

    Raises:
        InputError: if the numbers of images and steps do not fit, the checkpoint is none or of another encoder, the
            images cannot be used, the state beside `out` is of another run, or `out` cannot be written.
    """
    if fit_images < 2 * _IMAGES_OF_EACH or steps < 0:
        raise InputError(
            f"--fit-images is {fit_images} and --steps {steps}; expected at least {2 * _IMAGES_OF_EACH} and 0"
        )
    device = pick_device(accelerator)
    seed_everything(_SEED, verbose=False)
    teacher_network, state = load_teacher(checkpoint)
    teacher: Any = teacher_network.to(memory_format=torch.channels_last).to(device).requires_grad_(False)
    student, config = student_of(teacher, state["config"], checkpoint)
    student.to(memory_format=torch.channels_last).to(device)
    optimiser = torch.optim.AdamW(student.parameters(), lr=_PEAK_LR)
    state_path = out.with_name(f"{out.name}.state")
    settings = complete(config["network"])
    fit_steps = fit_images // (2 * _IMAGES_OF_EACH)
    of_run = {
        "checkpoint": sha256_of(checkpoint),
        "day": files_digest([image for folder in day for image in find_images(folder)]),
        "night": files_digest([image for folder in night for image in find_images(folder)]),
        "fit-images": fit_images,
        "steps": steps,
        "bf16": bf16,
    }
    first_step = _continue(state_path, student, optimiser, of_run) if state_path.exists() else 0

    def batches_of(start: int, stop: int) -> Iterator[Tensor]:
        both = (_batches(folders, settings, start, stop) for folders in (day, night))
        for each in zip(*both, strict=True):
            images = torch.cat([batch["strong"] for batch in each])
            yield images.to(device).contiguous(memory_format=torch.channels_last)

    if first_step == 0:
        fit_blocks(student, teacher, list(batches_of(0, fit_steps)))
    losses: list[float] = []
    batches = batches_of(fit_steps + first_step, fit_steps + steps)
    for step, images in enumerate(
        tqdm(batches, initial=first_step, total=steps, unit="step", mininterval=10), first_step
    ):
        for group in optimiser.param_groups:
            group["lr"] = _PEAK_LR * min(1, (step + 1) / _WARMUP_STEPS) * (1 + math.cos(math.pi * step / steps)) / 2
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            terms = unexplained(student, teacher, images)
        loss = torch.stack(list(terms.values())).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
        if (step + 1) % _REPORT_EVERY == 0 or step + 1 == steps:
            figures = ", ".join(f"{name} {term.item():.3f}" for name, term in terms.items())
            tqdm.write(f"step {step + 1} loss {_mean_of_last(losses):.4f}: {figures}")
            kept = {"network": student.state_dict(), "optimiser": optimiser.state_dict()}
            save_checkpoint(state_path, {"step": step + 1, "of_run": of_run, **kept})
    weights = student.cpu().state_dict()
    ancestors = [*state.get("ancestors", []), state["config"]]
    save_checkpoint(out, {"step": steps, "config": config, "teacher": weights, "ancestors": ancestors})
    state_path.unlink(missing_ok=True)
    return _mean_of_last(losses)


def student_of(teacher: Any, config: dict[str, Any], checkpoint: Path) -> tuple[Any, dict[str, Any]]:
    """A network with fresh dense blocks among the teacher's other parts, and the settings of its run.

    Raises:
        InputError: naming `checkpoint`, the teacher's, if its encoder is another.
    """
    if config["network"]["encoder"] != dense_stem.ENCODER_NAME:
        raise InputError(
            f"the encoder of {checkpoint} is {config['network']['encoder']}; "
            f"take a run of network.encoder={dense_stem.ENCODER_NAME}"
        )
    settings = {**config["network"], "encoder": ENCODER_NAME, "encoder_weights": None, "start_checkpoint": None}
    student: Any = build_network(settings, num_classes=teacher.head[-1].out_channels)
    own = student.state_dict()
    fresh = tuple(f"encoder.features.{index}." for index in dense_blocks(teacher.encoder.features))
    kept = {name: value for name, value in teacher.state_dict().items() if not name.startswith(fresh)}
    student.load_state_dict({**own, **kept})
    return student.eval(), {**config, "network": settings}  # no dropout; statistics of BatchNorm stay as they are


@torch.no_grad()
def fit_blocks(student: Any, teacher: Any, batches: Sequence[Tensor]) -> None:
    """Fit the student's dense blocks, each to make the teacher's features behind it of the student's before it.

    Args:
        student: of `student_of`, changed in place.
        teacher: the network it is made from.
        batches: of images.
    """
    dense = dense_blocks(teacher.encoder.features)
    theirs = [teacher.encoder.stem(images) for images in batches]
    mine = theirs
    for index, original in zip(KEPT_BLOCKS, teacher.encoder.features, strict=True):
        theirs = [original(features) for features in theirs]
        block = getattr(student.encoder.features, str(index))
        if index == FUSED_BLOCK:
            fit_fused(block, original, mine, theirs)
        elif index in dense:
            fit_residual(block, mine, theirs)
        mine = [block(features) for features in mine]


def unexplained(student: Any, teacher: Any, images: Tensor) -> dict[str, Tensor]:
    """What the whole student leaves unexplained of the teacher's features, the mean over the blocks, and of its answer.

    The answer's term is the Kullback-Leibler divergence of the student's class probabilities from the teacher's, the
    mean over the pixels.
    """
    with torch.no_grad():
        wanted = features_of(teacher, images)
        answer = _logits(teacher, wanted).float().log_softmax(1)
    features = features_of(student, images)
    logits = _logits(student, features).float().log_softmax(1)
    divergence = nn.functional.kl_div(logits, answer, reduction="none", log_target=True).sum(1).mean()
    unexplained = torch.stack(
        [unexplained_variance(features[index].float(), wanted[index].float()) for index in KEPT_BLOCKS]
    )
    return {"features": unexplained.mean(), "answer": divergence}


def features_of(network: Any, images: Tensor) -> dict[int, Tensor]:
    """Features behind each of MobileNetV2's blocks from the stem on, by the block's index."""
    features = {KEPT_BLOCKS[0] - 1: network.encoder.stem(images)}
    for index, block in zip(KEPT_BLOCKS, network.encoder.features, strict=True):
        features[index] = block(features[index - 1])
    return features


def _logits(network: Any, features: dict[int, Tensor]) -> Tensor:
    logits: Tensor = network.head(network.decoder([features[index] for index in dense_stem.LEVEL_BLOCKS]))
    return logits


def _batches(folders: Sequence[Path], settings: DictConfig, start: int, stop: int) -> Iterable[dict[str, Tensor]]:
    samples = NightSamples(
        [image for folder in folders for image in find_images(folder)],
        augmentation=Augmentation(width_over_height=settings.width_over_height),
        strong=StrongAugmentation(),
        exposure=exposure_of(settings),
        boxes={},
        score_min=0.0,
        answers=None,
        seed=_SEED,
    )
    positions = range(start * _IMAGES_OF_EACH, stop * _IMAGES_OF_EACH)
    return DataLoader(samples, _IMAGES_OF_EACH, sampler=positions, num_workers=_LOADER_WORKERS)


def _continue(state_path: Path, student: nn.Module, optimiser: torch.optim.Optimizer, of_run: dict[str, Any]) -> int:
    state = load_checkpoint(state_path)
    before = state.get("of_run", {})
    if changed := [name for name, value in of_run.items() if before.get(name) != value]:
        raise InputError(
            f"{state_path} is of a run with another {', '.join(changed)}; remove it, or choose another --out"
        )
    student.load_state_dict(state["network"])
    optimiser.load_state_dict(state["optimiser"])
    step: int = state["step"]
    return step


def _mean_of_last(values: list[float]) -> float:
    last = values[-_REPORT_EVERY:]
    return sum(last) / len(last) if last else math.nan


if __name__ == "__main__":
    main()
