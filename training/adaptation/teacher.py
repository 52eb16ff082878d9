"""The teacher: an exponential moving average of the student's weights."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from darkseg_ros.errors import InputError
from training.data.class_table import classes_of
from training.networks.build import build_network
from training.networks.views import MeanOfViews
from training.runs.checkpoints import load_averaged_weights, load_checkpoint


def copy_as_teacher(student: nn.Module) -> nn.Module:
    """A frozen copy in evaluation mode."""
    return copy.deepcopy(student).eval().requires_grad_(False)


@torch.no_grad()
def update_teacher(teacher: nn.Module, student: nn.Module, *, step: int, decay: float) -> None:
    """Teacher ← α · teacher + (1 − α) · student with α = min(1 − 1/(step + 1), decay); counters are copied.

    Source: Tarvainen and Valpola, "Mean teachers", NeurIPS 2017 (arXiv 1703.01780), section 2.
    """
    alpha = min(1 - 1 / (step + 1), decay)
    student_state = student.state_dict()
    averaged, current = [], []
    for name, value in teacher.state_dict().items():
        if value.is_floating_point():
            averaged.append(value)
            current.append(student_state[name])
        else:
            value.copy_(student_state[name])
    torch._foreach_lerp_(averaged, current, 1 - alpha)


def load_tutor(checkpoint: str | None, fabric: Fabric) -> Callable[[Tensor], Tensor] | None:
    """What another run's averaged network answers, (B, 3, H, W) images → (B, K, H/4, W/4) logits, as constants.

    Args:
        checkpoint: of the other run; None for no tutor.
        fabric: moves it to the device.

    Raises:
        InputError: as `load_teacher`.
    """
    if not checkpoint:
        return None
    network, _ = load_teacher(Path(checkpoint))
    tutor = fabric.to_device(network.to(memory_format=torch.channels_last))

    @torch.no_grad()
    def answers(images: Tensor) -> Tensor:
        logits: Tensor = tutor(images)
        return logits

    return answers


def load_teacher(checkpoint: Path) -> tuple[nn.Module, dict[str, Any]]:
    """The averaged network of a run, in evaluation mode, and the run's checkpoint.

    A checkpoint of `training.average_views` gives that network behind its views.

    Raises:
        InputError: if the file is no checkpoint of `training.train_segmenter`.
    """
    state = load_checkpoint(checkpoint)
    if "network" not in state.get("config", {}):
        raise InputError(f"{checkpoint} holds no segmenter; expected a checkpoint of training.train_segmenter")
    # the encoder's weights are in the checkpoint; their file may be gone
    network = build_network(
        {**state["config"]["network"], "encoder_weights": None}, num_classes=len(classes_of(state["config"]))
    )
    load_averaged_weights(network, checkpoint)
    if "views" in state:
        return MeanOfViews(network, **state["views"]).eval(), state
    return network.eval(), state
