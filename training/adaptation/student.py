"""A segmenter that learns, with the average of its weights (the teacher) and the optimiser."""

from __future__ import annotations

from typing import Any

from lightning_fabric import Fabric
from omegaconf import DictConfig
from torch import Tensor, nn

from training.adaptation.teacher import copy_as_teacher, update_teacher
from training.networks.build import set_to_training
from training.optimiser import build_optimiser, set_learning_rate
from training.runs.checkpoints import start_from


class Student:
    """What a stage trains: images in, logits out.

    Args:
        network: with the first weights of its encoder; those of ``network.start_checkpoint`` are loaded here.
        config: of the stage, with ``network``, ``optimiser`` and ``steps``.
        fabric: its processes.

    Attributes:
        teacher: the averaged network, in evaluation mode.
        optimiser: as Fabric wraps it.
        ancestors: see `training.runs.checkpoints.start_from`.
        parts: what has a state, by its name in checkpoints.

    Raises:
        InputError: as `start_from`.
    """

    def __init__(self, network: nn.Module, config: DictConfig, fabric: Fabric) -> None:
        self._network, self._config, self._fabric = network, config, fabric
        self.ancestors = start_from(network, config.network)
        self.teacher = fabric.to_device(copy_as_teacher(network))
        self._module: Any
        self._module, self.optimiser = fabric.setup(network, build_optimiser(network, config))
        set_to_training(self._module, config.network)
        self.parts = {"student": self._module, "teacher": self.teacher, "optimiser": self.optimiser}

    def __call__(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) float → (B, K, H/4, W/4) logits."""
        logits: Tensor = self._module(images)
        return logits

    def learn(self, loss: Tensor, *, step: int) -> None:
        """One step of the optimiser down the loss, then of the average."""
        settings = self._config.optimiser
        set_learning_rate(self.optimiser, self._config, step)
        self.optimiser.zero_grad()
        self._fabric.backward(loss)
        self._fabric.clip_gradients(self._module, self.optimiser, max_norm=settings.gradient_clip)
        self.optimiser.step()
        update_teacher(self.teacher, self._network, step=step, decay=settings.average_decay)
