"""Train a segmenter on labelled images, some of them darkened, and, if asked, pseudo-labelled night images.

    python -m training.train_segmenter --config training/configs/segmenter_slim.yaml [key=value …]
    fabric run --devices 4 --num-nodes 2 … training/train_segmenter.py --config … [key=value …]

Started again with the same config, a run continues from its last checkpoint as if it had never stopped. Several
processes share every batch and end where one process would, rounding, dropout and BatchNorm apart: dropout is drawn by
step and process, and the batch statistics are each process' own (network.freeze_batch_norm does without them).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.utilities.seed import seed_everything
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from darkseg_ros.errors import InputError
from darkseg_ros.evaluation.metrics import ABSENT_CLASSES, Metrics
from darkseg_ros.night.cheap_night import CheapNight
from training.adaptation.class_mix import mix_classes
from training.adaptation.teacher import copy_as_teacher, load_teacher, update_teacher
from training.data.class_balance import class_shares, class_weights
from training.data.draws import RareClassDraw, draw_evenly
from training.data.pairs import find_images, find_labelled_images, find_labelled_pool, find_pseudo_labelled_images
from training.data.samples import LabelledSamples
from training.losses import SummedLoss, distillation_loss, segmentation_loss
from training.networks.build import build_network, set_to_training
from training.runs.checkpoints import load_averaged_weights, load_checkpoint, save_checkpoint
from training.runs.config import FREE_KEYS, read_command_line, refuse_other_config
from training.runs.fabric import all_reduce, load_from, refuse_nan, start_fabric
from training.runs.results import one_line_errors, write_result
from training.segmenter_config import SegmenterConfig
from training.validation import describe, evaluate_network, write_metrics


@dataclass(frozen=True)
class LossTerms:
    """The terms of the loss; each is a scalar whose mean over the processes is that of the whole batch."""

    labelled: Tensor
    pseudo_labelled: Tensor
    distilled: Tensor


def main(arguments: list[str] | None = None) -> None:
    """Run the stage from the command line."""
    with one_line_errors("train_segmenter"):
        train(read_command_line(SegmenterConfig, __doc__ or "", arguments))


def train(config: DictConfig) -> None:
    """One whole run, or the rest of one: checkpoints, TensorBoard events and metrics.json in `config.output`.

    Args:
        config: a resolved `SegmenterConfig`.

    Raises:
        InputError: on unusable data, a checkpoint of another configuration, a loss that is no number, a full disk.
    """
    output = Path(config.output)
    fabric = start_fabric(config)
    seed_everything(config.seed, verbose=False)

    # Data: draws depend on (seed, position) only.
    pairs = find_labelled_pool([Path(folder) for folder in config.data.source])
    validation_sets = {
        "day": find_labelled_images(Path(config.data.day_validation)),
        "night": find_labelled_images(Path(config.data.night_validation)),
    }
    shares = class_shares(pairs)
    weights = torch.tensor(class_weights(shares, exponent=config.loss.class_weight_exponent), dtype=torch.float32)
    draw = RareClassDraw(
        shares, seed=config.seed, share=config.rare_class_share, temperature=config.rare_class_temperature
    )
    labelled_samples = LabelledSamples(
        pairs,
        find_images(Path(config.data.night)),
        draw=draw,
        augmentation=config.augmentation,
        cheap_night=config.cheap_night,
        seed=config.seed,
    )
    self_training = config.self_training
    night_samples = read_night_samples(config) if self_training.batch_size else None
    tutor = read_tutor(config, fabric)

    # Network, teacher, optimiser.
    network = build_network(config.network).to(memory_format=torch.channels_last)
    if config.network.start_checkpoint:
        load_averaged_weights(network, Path(config.network.start_checkpoint))
    teacher = fabric.to_device(copy_as_teacher(network))
    loss_of = partial(segmentation_loss, config=config.loss, class_weights=fabric.to_device(weights))
    student, optimiser = fabric.setup(network, build_optimiser(network, config))
    set_to_training(student, config.network)

    # Where the run stands.
    last = output / "checkpoints" / "last.pt"
    step = 0
    if last.is_file():
        state = load_checkpoint(last)
        refuse_other_config(last, state["config"], config, free=FREE_KEYS)
        step = state["step"]
        student.load_state_dict(state["student"])
        teacher.load_state_dict(state["teacher"])
        optimiser.load_state_dict(state["optimiser"])
    elif fabric.is_global_zero:
        write_result(output / "config.yaml", OmegaConf.to_yaml(config))

    def whole_state() -> dict[str, Any]:
        return {
            "step": step,
            "config": OmegaConf.to_container(config),
            "student": student.state_dict(),
            "teacher": teacher.state_dict(),
            "optimiser": optimiser.state_dict(),
        }

    batches_of = partial(
        load_from, start_step=step, stop_step=config.steps, loader_workers=config.loader_workers, fabric=fabric
    )
    labelled_batches = iter(batches_of(labelled_samples, config.batch_size))
    night_batches = iter(batches_of(night_samples, self_training.batch_size)) if night_samples else None
    board = SummaryWriter(str(output / "tensorboard"), purge_step=step) if fabric.is_global_zero else None
    progress = tqdm(total=config.steps, initial=step, disable=not fabric.is_global_zero, unit="step", mininterval=10)

    while step < config.steps:
        set_learning_rate(optimiser, config, step)
        # drawn anew at every step, dropout is the same after a resume, and differs between processes
        torch.manual_seed(int(np.random.default_rng((config.seed, 7, step, fabric.global_rank)).integers(2**63)))
        labelled = next(labelled_batches)
        if night_batches is None:
            logits = student(labelled["images"])
            labelled_loss, pseudo_loss, distilled_loss = loss_of(logits, labelled["labels"]), None, None
        else:
            night = next(night_batches)
            night_images, night_labels = night["images"], night["labels"]
            if np.random.default_rng((config.seed, 6, step)).random() < self_training.mix_share:
                # every n-th labelled image, so that the pairs are the same in any number of processes
                every = max(config.batch_size // self_training.batch_size, 1)
                night_images, night_labels = mix_classes(
                    labelled["images"][::every],
                    labelled["labels"][::every],
                    night_images,
                    night_labels,
                    seed=(config.seed, 5, step),
                    first_position=fabric.global_rank * len(night_images),
                )
            logits = student(torch.cat([labelled["images"], night_images]))
            labelled_logits, night_logits = logits.split([len(labelled["images"]), len(night_images)])
            labelled_loss = loss_of(labelled_logits, labelled["labels"])
            pseudo_loss = loss_of(night_logits, night_labels)
            distilled_loss = distillation_loss(night_logits, answers_of(tutor, night_images)) if tutor else None
        terms = LossTerms(
            labelled=mean_over_processes(labelled_loss, fabric),
            pseudo_labelled=mean_over_processes(pseudo_loss, fabric) if pseudo_loss else logits.new_zeros(()),
            distilled=mean_over_processes(distilled_loss, fabric) if distilled_loss else logits.new_zeros(()),
        )
        loss = (
            terms.labelled + self_training.weight * terms.pseudo_labelled + config.distillation.weight * terms.distilled
        )
        refuse_nan(loss, step, last, fabric=fabric)

        optimiser.zero_grad()
        fabric.backward(loss)
        fabric.clip_gradients(student, optimiser, max_norm=config.optimiser.gradient_clip)
        optimiser.step()
        update_teacher(teacher, network, step=step, decay=config.optimiser.average_decay)
        step += 1
        progress.update()

        if board and step % 20 == 0:
            board.add_scalar("loss/labelled", terms.labelled.item(), step)
            board.add_scalar("loss/pseudo_labelled", terms.pseudo_labelled.item(), step)
            board.add_scalar("loss/distilled", terms.distilled.item(), step)
            board.add_scalar("learning_rate/decoder", optimiser.param_groups[-1]["lr"], step)
            progress.set_postfix(loss=f"{loss.item():.3f}")
        if step % config.save_every == 0 or step == config.steps:
            fabric.barrier()
            if fabric.is_global_zero:
                save_checkpoint(last, whole_state())
        if step % config.evaluate_every == 0 and step < config.steps:
            if board:
                report(evaluate_network(teacher, validation_sets, input_px=config.network.input_px), step, board)
                save_checkpoint(output / "checkpoints" / f"step_{step:06d}.pt", whole_state())
            fabric.barrier()

    progress.close()
    if board:
        metrics = evaluate_network(teacher, validation_sets, input_px=config.network.input_px)
        report(metrics, step, board)
        write_metrics(output / "metrics.json", metrics)
        board.close()
    fabric.barrier()


def mean_over_processes(loss: SummedLoss, fabric: Fabric) -> Tensor:
    """This process' part of a loss's mean over the whole batch, times the number of processes.

    Gradients are averaged over the processes; dividing by what each labelled itself would give the pixels of a process
    with few labels more weight than they have in one process.
    """
    weight = all_reduce(loss.weight, fabric, how="sum")
    return fabric.world_size * loss.total / weight.clamp(min=1e-6)


def read_night_samples(config: DictConfig) -> LabelledSamples:
    """The pseudo-labelled night images, drawn evenly and not darkened any further."""
    if not config.data.pseudo_labels:
        raise InputError("self_training.batch_size is set without data.pseudo_labels; run training.pseudo_label first")
    if config.self_training.mix_share and config.self_training.batch_size > config.batch_size:
        raise InputError(
            f"batch_size {config.batch_size} labels fewer images than self_training.batch_size "
            f"{config.self_training.batch_size}; choose a smaller one, or self_training.mix_share=0"
        )
    pairs = find_pseudo_labelled_images(Path(config.data.night), Path(config.data.pseudo_labels))
    return LabelledSamples(
        pairs,
        [],
        draw=draw_evenly(len(pairs), seed=config.seed),
        augmentation=config.augmentation,
        cheap_night=CheapNight(share=0.0),
        seed=config.seed,
    )


def read_tutor(config: DictConfig, fabric: Fabric) -> nn.Module | None:
    """The network that `config.distillation` names, in evaluation mode; None without distillation."""
    checkpoint = config.distillation.checkpoint
    if not checkpoint:
        return None
    if not config.self_training.batch_size:
        raise InputError(
            "distillation.checkpoint is set without night images to answer; set self_training.batch_size too"
        )
    tutor, _ = load_teacher(Path(checkpoint))
    return fabric.to_device(tutor.to(memory_format=torch.channels_last))


def answers_of(tutor: nn.Module, images: Tensor) -> Tensor:
    """Its logits, (B, 19, H/4, W/4), as constants."""
    with torch.no_grad():
        answers: Tensor = tutor(images)
    return answers


def build_optimiser(network: nn.Module, config: DictConfig) -> torch.optim.Optimizer:
    """AdamW with a learning rate of its own for the pretrained encoder."""
    named = list(network.named_parameters())
    encoder = [parameter for name, parameter in named if name.startswith("encoder.")]
    rest = [parameter for name, parameter in named if not name.startswith("encoder.")]
    settings = config.optimiser
    groups = [
        {"params": encoder, "peak_lr": settings.encoder_lr},
        {"params": rest, "peak_lr": settings.decoder_lr},
    ]
    return torch.optim.AdamW(groups, lr=settings.decoder_lr, weight_decay=settings.weight_decay)


def set_learning_rate(optimiser: Any, config: DictConfig, step: int) -> None:
    """Linear warm-up, then a cosine from the peak down to `final_factor` of it; a function of the step alone."""
    settings = config.optimiser
    warmup = min(1.0, (step + 1) / max(settings.warmup_steps, 1))
    cosine = 0.5 * (1 + math.cos(math.pi * step / config.steps))
    factor = warmup * (settings.final_factor + (1 - settings.final_factor) * cosine)
    for group in optimiser.param_groups:
        group["lr"] = group["peak_lr"] * factor


def report(metrics: dict[str, Metrics], step: int, board: SummaryWriter) -> None:
    """Print the figures of each validation set and add its means to TensorBoard."""
    for name, values in metrics.items():
        for line in describe(name, values):
            tqdm.write(f"step {step} {line}")
        board.add_scalar(f"miou/{name}", values.miou, step)
        board.add_scalar(f"miou_present/{name}", values.miou_present, step)
    tqdm.write(f"absent classes: {ABSENT_CLASSES}")


if __name__ == "__main__":
    main()
