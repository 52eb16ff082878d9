"""The teacher: an exponential moving average of the student's weights."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import nn

from training.checkpoints import load_averaged_weights, load_checkpoint
from training.slim_fpn import SlimFpn


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


def load_teacher(checkpoint: Path) -> tuple[nn.Module, dict[str, Any]]:
    """The averaged network of a run, in evaluation mode, and the run's checkpoint.

    Raises:
        InputError: if the file is no checkpoint of `training.train_segmenter`.
    """
    settings = load_checkpoint(checkpoint)["config"]["network"]
    network = SlimFpn(encoder=settings["encoder"], channels=settings["channels"])
    state = load_averaged_weights(network, checkpoint)
    return network.eval(), state
