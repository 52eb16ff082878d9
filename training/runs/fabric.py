"""Devices and processes of a stage, and its batches by position in the run."""

from __future__ import annotations

import os
import signal
from argparse import ArgumentParser
from pathlib import Path
from typing import Any, Literal

import cv2
import torch
from lightning_fabric import Fabric
from lightning_fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from darkseg_ros.errors import InputError
from training.data.draws import PositionSampler
from training.runs.config import RunSettings


def start_fabric(config: Any) -> Fabric:
    """Devices and processes of a stage, launched; under ``fabric run`` they are those of its command line.

    Args:
        config: a `RunSettings`, or a stage's config, which holds its keys.

    Raises:
        InputError: if this machine has no such device, or ``fabric run`` asks for a precision other than the
            config's, which the checkpoints name.
    """
    precision = os.environ.get("LT_PRECISION", config.precision)
    if precision != config.precision:
        raise InputError(
            f"fabric run says --precision {precision}, the config {config.precision}; "
            f"leave --precision out and give precision={precision}"
        )
    # Fabric refuses arguments that differ from those of `fabric run`, which reach it as LT_… in the environment
    accelerator = os.environ.get("LT_ACCELERATOR", config.accelerator)
    try:
        fabric = Fabric(
            accelerator=accelerator,
            devices=os.environ.get("LT_DEVICES", config.devices),
            num_nodes=int(os.environ.get("LT_NUM_NODES", config.num_nodes)),
            precision=config.precision,
        )
    except (RuntimeError, ValueError, MisconfigurationException) as error:
        raise InputError(
            f"accelerator {accelerator} cannot be used here ({error}); auto takes what there is"
        ) from error
    if "LT_CLI_USED" not in os.environ:  # `fabric run` has launched the processes itself
        fabric.launch()
    return fabric


def add_accelerator(parser: ArgumentParser) -> None:
    """Give a stage without a config the argument for `start_fabric` or `pick_device`."""
    parser.add_argument("--accelerator", choices=("auto", "cpu", "gpu"), default="auto", help="where it runs (auto)")


def pick_device(accelerator: str) -> torch.device:
    """The device of a stage that runs in one process.

    Raises:
        InputError: as `start_fabric`, or if ``fabric run`` started several processes.
    """
    fabric = start_fabric(RunSettings(accelerator=accelerator))
    if fabric.world_size > 1:
        raise InputError(f"fabric run started {fabric.world_size} processes; this stage runs in one: start it without")
    return fabric.device


def load_from(
    samples: Dataset[dict[str, Tensor]],
    batch_size: int,
    *,
    start_step: int,
    stop_step: int,
    loader_workers: int,
    fabric: Fabric,
) -> Any:
    """This process' batches of one data set, from one step of the run to another.

    Args:
        samples: item i is the sample at position i of the run.
        batch_size: images a step, over all processes.
        start_step: first step.
        stop_step: one past the last.
        loader_workers: loading processes; 0 loads in this one.
        fabric: moves the batches to the device.

    Raises:
        InputError: if the batch does not split over the processes.
    """
    sampler = PositionSampler(
        start_step=start_step,
        stop_step=stop_step,
        batch_size=batch_size,
        rank=fabric.global_rank,
        world_size=fabric.world_size,
    )
    loader: DataLoader[dict[str, Tensor]] = DataLoader(
        samples,
        batch_size=batch_size // fabric.world_size,
        sampler=sampler,
        num_workers=loader_workers,
        worker_init_fn=_start_worker,
        prefetch_factor=4 if loader_workers else None,
        generator=torch.Generator(),  # of its own: drawing from the global one would change the dropout after a resume
    )
    return fabric.setup_dataloaders(loader, use_distributed_sampler=False)


def _start_worker(_worker: int) -> None:
    cv2.setNumThreads(0)  # loader processes share the cores with the training, OpenCV's threads would fight over them
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the training ends them, and is the one to speak


def all_reduce(value: Tensor, fabric: Fabric, *, how: Literal["sum", "mean"]) -> Tensor:
    """Sum or mean of a tensor over the processes, which stays as it was."""
    reduced = fabric.all_reduce(value.clone(), reduce_op=how)
    assert isinstance(reduced, Tensor)
    return reduced


def refuse_nan(loss: Tensor, step: int, last: Path, *, fabric: Fabric) -> None:
    """Raise InputError at a loss that is no number, before it reaches the weights.

    Args:
        loss: scalar, of this process.
        step: named in the message.
        last: the checkpoint that stays.
        fabric: asks all processes: one that stopped alone would leave the others waiting.
    """
    loss = all_reduce(loss.detach(), fabric, how="mean")
    if not torch.isfinite(loss):
        raise InputError(
            f"the loss is {loss.item()} at step {step}; the last good state stays in {last}: "
            "lower the learning rate or look at the images of this step"
        )
