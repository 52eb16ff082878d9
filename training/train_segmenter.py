"""Train a segmenter on labelled day images, darkened day images and, if asked, pseudo-labelled night images.

    python -m training.train_segmenter --config training/configs/segmenter_slim.yaml [key=value …]

Started again with the same config, a run continues from its last checkpoint as if it had never stopped.
"""

from __future__ import annotations

import json
import math
import sys
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.utilities.seed import seed_everything
from omegaconf import DictConfig, OmegaConf
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from darkseg_ros.classes import IGNORE_INDEX
from darkseg_ros.errors import DarksegError, InputError
from darkseg_ros.evaluation import Metrics
from training.averaging import copy_as_teacher, update_teacher
from training.cheap_night import CheapNight
from training.checkpoints import load_averaged_weights, load_checkpoint, save_checkpoint
from training.class_mix import mix_classes
from training.datasets import (
    LabelledSamples,
    PositionSampler,
    RareClassDraw,
    class_shares,
    class_weights,
    draw_evenly,
    find_images,
    find_labelled_images,
    find_pseudo_labelled_images,
)
from training.segmenter_config import read_command_line
from training.slim_fpn import SlimFpn, upsample_bilinear
from training.validation import evaluate_network


@dataclass(frozen=True)
class LossTerms:
    """The two terms of the loss; each is a scalar."""

    labelled: Tensor
    pseudo_labelled: Tensor


def main(arguments: list[str] | None = None) -> None:
    """Run the stage from the command line."""
    try:
        train(read_command_line(__doc__ or "", arguments))
    except DarksegError as error:
        sys.exit(f"train_segmenter: {error}")


def train(config: DictConfig) -> dict[str, Metrics]:
    """One whole run, or the rest of one.

    Args:
        config: a resolved `SegmenterConfig`.

    Returns:
        The final metrics of the averaged weights by validation set ("day", "night").

    Raises:
        InputError: on unusable data, or a checkpoint of another configuration.
    """
    output = Path(config.output)
    fabric = Fabric(
        accelerator=config.accelerator,
        devices=config.devices,
        num_nodes=config.num_nodes,
        precision=config.precision,
    )
    fabric.launch()
    seed_everything(config.seed, verbose=False)

    # Data: draws depend on (seed, position) only.
    pairs = find_labelled_images(Path(config.data.source))
    validation_sets = {
        "day": find_labelled_images(Path(config.data.day_validation)),
        "night": find_labelled_images(Path(config.data.night_validation)),
    }
    shares = class_shares(pairs)
    weights = torch.tensor(class_weights(shares, exponent=config.class_weight_exponent), dtype=torch.float32)
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

    # Network, teacher, optimiser.
    network = SlimFpn(
        encoder=config.network.encoder,
        channels=config.network.channels,
        encoder_weights=Path(config.network.encoder_weights) if config.network.encoder_weights else None,
    ).to(memory_format=torch.channels_last)
    if config.network.start_checkpoint:
        load_averaged_weights(network, Path(config.network.start_checkpoint))
    teacher = fabric.to_device(copy_as_teacher(network))
    loss_of = partial(segmentation_loss, weights=fabric.to_device(weights), stride=config.loss_stride)
    student, optimiser = fabric.setup(network, build_optimiser(network, config))

    # Where the run stands.
    last = output / "checkpoints" / "last.pt"
    step, torch_rng, cuda_rng = 0, torch.get_rng_state(), torch.cuda.get_rng_state_all()
    if last.is_file():
        state = load_checkpoint(last)
        refuse_other_config(last, state["config"], config)
        step, torch_rng, cuda_rng = state["step"], state["torch_rng"], state["cuda_rng"]
        student.load_state_dict(state["student"])
        teacher.load_state_dict(state["teacher"])
        optimiser.load_state_dict(state["optimiser"])
    elif fabric.is_global_zero:
        output.mkdir(parents=True, exist_ok=True)
        (output / "config.yaml").write_text(OmegaConf.to_yaml(config))

    def whole_state() -> dict[str, Any]:
        return {
            "step": step,
            "config": OmegaConf.to_container(config),
            "student": student.state_dict(),
            "teacher": teacher.state_dict(),
            "optimiser": optimiser.state_dict(),
            "torch_rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state_all(),
        }

    labelled_batches = iter(load_from(labelled_samples, config.batch_size, step, config, fabric))
    night_batches = (
        iter(load_from(night_samples, self_training.batch_size, step, config, fabric)) if night_samples else None
    )
    torch.set_rng_state(torch_rng)
    torch.cuda.set_rng_state_all(cuda_rng)
    board = SummaryWriter(str(output / "tensorboard"), purge_step=step) if fabric.is_global_zero else None
    progress = tqdm(total=config.steps, initial=step, disable=not fabric.is_global_zero, unit="step", mininterval=10)

    while step < config.steps:
        set_learning_rate(optimiser, config, step)
        labelled = next(labelled_batches)
        student.train()
        if night_batches is None:
            logits = student(labelled["images"])
            terms = LossTerms(
                labelled=loss_of(logits, labelled["labels"]),
                pseudo_labelled=logits.new_zeros(()),
            )
        else:
            night = next(night_batches)
            night_images, night_labels = night["images"], night["labels"]
            if np.random.default_rng((config.seed, 6, step)).random() < self_training.mix_share:
                night_images, night_labels = mix_classes(
                    labelled["images"],
                    labelled["labels"],
                    night_images,
                    night_labels,
                    seed=(config.seed, 5, step),
                )
            logits = student(torch.cat([labelled["images"], night_images]))
            labelled_logits, night_logits = logits.split([len(labelled["images"]), len(night_images)])
            terms = LossTerms(
                labelled=loss_of(labelled_logits, labelled["labels"]),
                pseudo_labelled=loss_of(night_logits, night_labels),
            )
        loss = terms.labelled + self_training.weight * terms.pseudo_labelled
        refuse_nan(loss, step, last)

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
            board.add_scalar("learning_rate/decoder", optimiser.param_groups[-1]["lr"], step)
            progress.set_postfix(loss=f"{loss.item():.3f}")
        if step % config.save_every == 0 or step == config.steps:
            fabric.barrier()
            if fabric.is_global_zero:
                save_checkpoint(last, whole_state())
        if board and step % config.evaluate_every == 0 and step < config.steps:
            metrics = evaluate_network(teacher, validation_sets, input_px=config.network.input_px)
            report(metrics, step, board)
            save_checkpoint(output / "checkpoints" / f"step_{step:06d}.pt", whole_state())

    progress.close()
    metrics = evaluate_network(teacher, validation_sets, input_px=config.network.input_px)
    if board:
        report(metrics, step, board)
        (output / "metrics.json").write_text(json.dumps({name: asdict(m) for name, m in metrics.items()}, indent=2))
        board.close()
    return metrics


def read_night_samples(config: DictConfig) -> LabelledSamples:
    """The pseudo-labelled night images, drawn evenly and not darkened any further."""
    if not config.data.pseudo_labels:
        raise InputError("self_training.batch_size is set without data.pseudo_labels; run training.pseudo_label first")
    pairs = find_pseudo_labelled_images(Path(config.data.night), Path(config.data.pseudo_labels))
    return LabelledSamples(
        pairs,
        [],
        draw=draw_evenly(len(pairs), seed=config.seed),
        augmentation=config.augmentation,
        cheap_night=CheapNight(share=0.0),
        seed=config.seed,
    )


def build_optimiser(network: SlimFpn, config: DictConfig) -> torch.optim.Optimizer:
    """AdamW with a learning rate of its own for the pretrained encoder."""
    encoder = list(network.encoder.parameters())
    rest = [*network.decoder.parameters(), *network.head.parameters()]
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


def segmentation_loss(logits: Tensor, labels: Tensor, *, weights: Tensor, stride: int) -> Tensor:
    """Weighted mean cross-entropy over the labelled pixels, taken at 1/`stride` of the labels' size.

    Args:
        logits: (B, 19, H/4, W/4) float.
        labels: (B, H, W) int64 train ids, IGNORE_INDEX = not counted.
        weights: (19,) weight of each class.
        stride: 1 compares at full size, 2 at half: a quarter of the time.

    Returns:
        Scalar; 0 where no pixel is labelled.
    """
    labels = labels[:, stride // 2 :: stride, stride // 2 :: stride]  # the centre pixel: averaging would invent classes
    logits = upsample_bilinear(logits, labels.shape[-2:])
    total = functional.cross_entropy(logits, labels, weight=weights, ignore_index=IGNORE_INDEX, reduction="sum")
    labelled = labels[labels != IGNORE_INDEX]
    return total / weights[labelled].sum().clamp(min=1e-6)


def load_from(
    samples: Dataset[dict[str, Tensor]], batch_size: int, step: int, config: DictConfig, fabric: Fabric
) -> Any:
    """Batches of one data set from `step` to the end of the run."""
    sampler = PositionSampler(
        start_step=step,
        stop_step=config.steps,
        batch_size=batch_size,
        rank=fabric.global_rank,
        world_size=fabric.world_size,
    )
    loader: DataLoader[dict[str, Tensor]] = DataLoader(
        samples,
        batch_size=batch_size // fabric.world_size,
        sampler=sampler,
        num_workers=config.loader_workers,
        worker_init_fn=use_one_thread,
        prefetch_factor=4 if config.loader_workers else None,
        generator=torch.Generator(),  # of its own: drawing from the global one would change the dropout after a resume
    )
    return fabric.setup_dataloaders(loader, use_distributed_sampler=False)


def use_one_thread(_worker: int) -> None:
    """Loader processes share the cores with the training; OpenCV's own threads would only fight over them."""
    cv2.setNumThreads(0)


def refuse_other_config(checkpoint: Path, saved: dict[str, Any], config: DictConfig) -> None:
    """Raise InputError if a checkpoint belongs to other settings than those asked for."""
    asked = OmegaConf.to_container(config)
    assert isinstance(asked, dict)
    free = {
        "output",
        "data",
        "devices",
        "num_nodes",
        "accelerator",
        "loader_workers",
        "save_every",
        "evaluate_every",
    }
    changed = sorted(str(key) for key in asked.keys() - free if asked[key] != saved.get(str(key)))
    if changed:
        raise InputError(
            f"{checkpoint} was made with other settings of {', '.join(changed)}; "
            "choose another output folder, or start from it with network.start_checkpoint="
        )


def refuse_nan(loss: Tensor, step: int, last: Path) -> None:
    """Raise InputError at a loss that is no number, before it reaches the weights."""
    if not torch.isfinite(loss):
        raise InputError(
            f"the loss is {loss.item()} at step {step}; the last good state stays in {last}: "
            "lower the learning rate or look at the images of this step"
        )


def report(metrics: dict[str, Metrics], step: int, board: SummaryWriter) -> None:
    """Print one line a validation set and add it to TensorBoard."""
    for name, values in metrics.items():
        low, high = values.ci95["miou_present"]
        tqdm.write(
            f"step {step} {name}: miou {values.miou:.4f}, present {values.miou_present:.4f} [{low:.4f}, {high:.4f}], "
            f"pixel accuracy {values.pixel_accuracy:.4f}"
        )
        tqdm.write("  " + ", ".join(f"{c} {v:.2f}" for c, v in values.iou.items() if v is not None))
        board.add_scalar(f"miou/{name}", values.miou, step)
        board.add_scalar(f"miou_present/{name}", values.miou_present, step)


if __name__ == "__main__":
    main()
