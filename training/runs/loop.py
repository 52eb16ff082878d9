"""Where a training run stands: it resumes, counts its steps, saves and reports."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from omegaconf import DictConfig, OmegaConf
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from darkseg_ros.evaluation.metrics import ABSENT_CLASSES, Metrics
from training.data.random_streams import Stream, generator
from training.runs.checkpoints import load_checkpoint, save_checkpoint
from training.runs.config import refuse_other_run
from training.runs.results import write_result
from training.validation import describe

_SCALARS_EVERY = 20


class TrainingRun:
    """The steps of a run, from its last checkpoint on if there is one.

    Args:
        config: of the stage, resolved; a `TrainingSettings`.
        fabric: its processes.
        parts: what has a state, by its name in checkpoints: networks and optimisers.
        inputs: digests of the data and weights it reads, see `training.runs.config.refuse_other_run`.
        ancestors: settings of the runs that its first weights come from, the oldest first.

    Attributes:
        step: of the next step, from 0 on.
        last: the checkpoint that a run continues from.
        ancestors: as given, or as the checkpoint names them.

    Raises:
        InputError: if the last checkpoint is damaged, or of other settings or data.
    """

    def __init__(
        self,
        config: DictConfig,
        fabric: Fabric,
        parts: Mapping[str, Any],
        *,
        inputs: Mapping[str, str],
        ancestors: list[Any] | None = None,
    ) -> None:
        self._config, self._fabric, self._parts, self._inputs = config, fabric, parts, dict(inputs)
        self.output = Path(config.output)
        self.last = self.output / "checkpoints" / "last.pt"
        self.step = 0
        self.ancestors = ancestors or []
        if self.last.is_file():
            state = load_checkpoint(self.last)
            refuse_other_run(self.last, state, config, inputs)
            self.step, self.ancestors = state["step"], state.get("ancestors", [])
            for name, part in parts.items():
                part.load_state_dict(state[name])
        elif fabric.is_global_zero:
            write_result(self.output / "config.yaml", OmegaConf.to_yaml(config))
        self.board = (
            SummaryWriter(str(self.output / "tensorboard"), purge_step=self.step) if fabric.is_global_zero else None
        )
        self._progress = tqdm(
            total=config.steps, initial=self.step, disable=not fabric.is_global_zero, unit="step", mininterval=10
        )

    def seed_dropout(self) -> None:
        """Draw dropout anew: it is the same after a resume, and differs between processes."""
        rng = generator(self._config.seed, Stream.DROPOUT, self.step, self._fabric.global_rank)
        torch.manual_seed(int(rng.integers(2**63)))

    def finish_step(self, scalars: Mapping[str, Tensor]) -> None:
        """Count a step, write its scalars to TensorBoard and save, each where it is due.

        Args:
            scalars: the step's figures by TensorBoard's names; read from their device only where they are written.
        """
        self.step += 1
        self._progress.update()
        if self.board and self.step % _SCALARS_EVERY == 0:
            figures = {name: value.item() for name, value in scalars.items()}
            for name, value in figures.items():
                self.board.add_scalar(name, value, self.step)
            self._progress.set_postfix({name: f"{figures[name]:.3f}" for name in list(figures)[:2]})
        if self.is_due(self._config.save_every):
            self._fabric.barrier()
            if self._fabric.is_global_zero:
                save_checkpoint(self.last, self._state())

    def is_due(self, every: int) -> bool:
        """Whether the steps done are a multiple of `every`, or all."""
        return self.step % every == 0 or self.step == self._config.steps

    def keep(self) -> None:
        """Write a checkpoint that later ones do not replace."""
        save_checkpoint(self.output / "checkpoints" / f"step_{self.step:06d}.pt", self._state())

    def report(self, metrics: Mapping[str, Metrics]) -> None:
        """Print the figures of each validation set and add its means to TensorBoard."""
        for name, values in metrics.items():
            for line in describe(name, values):
                tqdm.write(f"step {self.step} {line}")
            if self.board:
                self.board.add_scalar(f"miou/{name}", values.miou, self.step)
                self.board.add_scalar(f"miou_present/{name}", values.miou_present, self.step)
        tqdm.write(f"absent classes: {ABSENT_CLASSES}")

    def close(self) -> None:
        """End the progress bar and TensorBoard's file."""
        self._progress.close()
        if self.board:
            self.board.close()

    def _state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "config": OmegaConf.to_container(self._config),
            "inputs": self._inputs,
            "ancestors": self.ancestors,
            **{name: part.state_dict() for name, part in self._parts.items()},
        }
