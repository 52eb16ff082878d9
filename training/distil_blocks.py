"""Teach a segmenter's dense blocks (`training.networks.dense_blocks`) to answer as the blocks of the shipped one.

    python -m training.distil_blocks --checkpoint TEACHER --day FOLDER … --night FOLDER … --out FILE.pt
        [--block-steps N] [--steps N] [--bf16]

The teacher is a segmenter of training.train_segmenter on mobilenet_v2_dense_stem. In the first steps each dense block
learns by itself what the teacher's block makes of the teacher's features; in the others the whole network learns the
teacher's features behind each block and its logits. Both see the same changed views, half of them by night. No label
takes part. FILE.pt is a checkpoint like the teacher's, to evaluate, to export or to train on
(``network.start_checkpoint``). Started again with the same command, a run continues from the state beside it.

Source: FitNets (arXiv 1412.6550); Beyer et al., "Knowledge distillation: A good teacher is patient and consistent"
(arXiv 2106.05237), on equal views.
"""

from __future__ import annotations

import math
from argparse import ArgumentParser
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.utilities.seed import seed_everything
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
from training.networks import dense_stem
from training.networks.build import batch_norm_layers, build_network
from training.networks.config import exposure_of
from training.networks.dense_blocks import ENCODER_NAME, dense_blocks
from training.networks.dense_stem import KEPT_BLOCKS
from training.runs.checkpoints import load_checkpoint, save_checkpoint
from training.runs.fabric import add_accelerator, pick_device
from training.runs.results import one_line_errors

_IMAGES_OF_EACH = 4
"""By day and by night in a step."""
_BLOCK_LR, _DENSE_LR, _KEPT_LR = 4e-3, 2e-3, 5e-4
_WARMUP_STEPS = 50
_STATISTICS_MOMENTUM = 0.01
_SEED = 0
_REPORT_EVERY = 100


def main(arguments: list[str] | None = None) -> None:
    """Run the stage from the command line."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, help="the teacher, on mobilenet_v2_dense_stem")
    parser.add_argument("--day", type=Path, nargs="+", required=True, help="folders of images")
    parser.add_argument("--night", type=Path, nargs="+", required=True, help="folders of images")
    parser.add_argument("--out", type=Path, required=True, help="checkpoint to write")
    parser.add_argument("--block-steps", type=int, default=600, help="in which the blocks learn by themselves (600)")
    parser.add_argument("--steps", type=int, default=3000, help=f"in all, of {2 * _IMAGES_OF_EACH} images each (3000)")
    parser.add_argument("--bf16", action="store_true", help="bfloat16 in convolutions: for CPUs with AMX, and GPUs")
    add_accelerator(parser)
    parsed = parser.parse_args(arguments)
    with one_line_errors("distil_blocks"):
        left = distil(
            parsed.checkpoint,
            parsed.day,
            parsed.night,
            out=parsed.out,
            block_steps=parsed.block_steps,
            steps=parsed.steps,
            bf16=parsed.bf16,
            accelerator=parsed.accelerator,
        )
        print(f"wrote {parsed.out}; in the last steps {left:.4f} of the loss was left")


def distil(
    checkpoint: Path,
    day: Sequence[Path],
    night: Sequence[Path],
    *,
    out: Path,
    block_steps: int,
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
        block_steps: 0…`steps`, in which each block learns by itself.
        steps: at least 1.
        bf16: compute convolutions in bfloat16.
        accelerator: auto, cpu or gpu.

    Returns:
        Loss of the last steps, the mean.

    Raises:
        InputError: if the numbers of steps do not fit, the checkpoint is none or of another encoder, the images cannot
            be used, or `out` cannot be written.
    """
    if not 0 <= block_steps <= steps or steps < 1:
        raise InputError(f"--steps is {steps} and --block-steps {block_steps}; expected 1 or more, and 0 to --steps")
    device = pick_device(accelerator)
    seed_everything(_SEED, verbose=False)
    teacher_network, state = load_teacher(checkpoint)
    teacher: Any = teacher_network.to(memory_format=torch.channels_last).to(device).requires_grad_(False)
    student, config = student_of(teacher, state["config"], checkpoint)
    student.to(memory_format=torch.channels_last).to(device)
    optimiser = _optimiser_of(student)
    state_path = out.with_name(f"{out.name}.state")
    first_step = _continue(state_path, student, optimiser) if state_path.exists() else 0
    exposure = exposure_of(config["network"])
    batches = zip(
        *(_batches(folders, exposure, first_step, steps) for folders in (day, night)),
        strict=True,
    )
    losses: list[float] = []
    progress = tqdm(batches, initial=first_step, total=steps, unit="step", mininterval=10)
    for step, of_both in enumerate(progress, first_step):
        alone = step < block_steps
        _set_rates(optimiser, step, block_steps=block_steps, steps=steps)
        images = torch.cat([each["strong"] for each in of_both]).to(device, memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            terms = block_terms(student, teacher, images) if alone else network_terms(student, teacher, images)
        loss = torch.stack(list(terms.values())).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
        if (step + 1) % _REPORT_EVERY == 0 or step + 1 == steps:
            figures = ", ".join(f"{name} {term.item():.3f}" for name, term in terms.items())
            tqdm.write(f"step {step + 1} {'blocks' if alone else 'network'} {_mean_of_last(losses):.4f}: {figures}")
            kept = {"network": student.state_dict(), "optimiser": optimiser.state_dict()}
            save_checkpoint(state_path, {"step": step + 1, **kept})
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
    student.eval()  # dropout, and BatchNorm of the kept parts, whose statistics are the teacher's
    for index in dense_blocks(teacher.encoder.features):
        block = getattr(student.encoder.features, str(index)).train()
        batch_norms: list[Any] = batch_norm_layers(block)
        for layer in batch_norms:
            layer.momentum = _STATISTICS_MOMENTUM
    return student, {**config, "network": settings}


def block_terms(student: Any, teacher: Any, images: Tensor) -> dict[str, Tensor]:
    """For each dense block, the share of the variance of the teacher's features that it leaves unexplained.

    Each is given the teacher's features of before the block.
    """
    with torch.no_grad():
        features = features_of(teacher, images)
    return {
        str(index): unexplained_variance(
            getattr(student.encoder.features, str(index))(features[index - 1]).float(), features[index].float()
        )
        for index in dense_blocks(teacher.encoder.features)
    }


def network_terms(student: Any, teacher: Any, images: Tensor) -> dict[str, Tensor]:
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


def _batches(folders: Sequence[Path], exposure: Any, first_step: int, steps: int) -> Iterable[dict[str, Tensor]]:
    samples = NightSamples(
        [image for folder in folders for image in find_images(folder)],
        augmentation=Augmentation(),
        strong=StrongAugmentation(),
        exposure=exposure,
        boxes={},
        score_min=0.0,
        answers=None,
        seed=_SEED,
    )
    positions = range(first_step * _IMAGES_OF_EACH, steps * _IMAGES_OF_EACH)
    return DataLoader(samples, _IMAGES_OF_EACH, sampler=positions, num_workers=1)


def _optimiser_of(student: Any) -> torch.optim.Optimizer:
    dense = [parameter for block in student.encoder.features if block.training for parameter in block.parameters()]
    others = {id(parameter) for parameter in dense}
    kept = [parameter for parameter in student.parameters() if id(parameter) not in others]
    return torch.optim.AdamW([{"params": dense}, {"params": kept}])


def _set_rates(optimiser: torch.optim.Optimizer, step: int, *, block_steps: int, steps: int) -> None:
    """A cosine over each of the two parts of a run, after a short rise."""
    alone = step < block_steps
    done, length = (step, block_steps) if alone else (step - block_steps, steps - block_steps)
    share = min(1, (done + 1) / _WARMUP_STEPS) * (1 + math.cos(math.pi * done / length)) / 2
    for group, peak in zip(optimiser.param_groups, (_BLOCK_LR if alone else _DENSE_LR, _KEPT_LR), strict=True):
        group["lr"] = share * peak


def _continue(state_path: Path, student: nn.Module, optimiser: torch.optim.Optimizer) -> int:
    state = load_checkpoint(state_path)
    student.load_state_dict(state["network"])
    optimiser.load_state_dict(state["optimiser"])
    step: int = state["step"]
    return step


def _mean_of_last(values: list[float]) -> float:
    last = values[-_REPORT_EVERY:]
    return sum(last) / len(last)


if __name__ == "__main__":
    main()
