"""Checkpoints: the whole state of a run in one file, written so that a half-written one is never taken for whole."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import nn

from darkseg_ros.errors import InputError
from darkseg_ros.whole_files import whole_file
from training.networks.config import NetworkConfig, complete
from training.runs.config import in_todays_form


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint whole, or leave an earlier one as it was.

    Raises:
        InputError: if the disk is full or not writable.
    """
    try:
        with whole_file(path) as unfinished, unfinished.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
    except (OSError, RuntimeError) as error:  # torch raises either for a full disk
        raise InputError(
            f"{path} cannot be written ({error}); make room and start the run again to continue"
        ) from error


def load_averaged_weights(network: nn.Module, path: Path) -> dict[str, Any]:
    """Load the averaged weights of a segmenter's checkpoint into a network; returns the checkpoint.

    Raises:
        InputError: as `load_checkpoint`, or if the checkpoint is of another stage or network.
    """
    state = load_checkpoint(path)
    if "teacher" not in state:
        raise InputError(f"{path} holds no segmenter; expected a checkpoint of training.train_segmenter")
    try:
        network.load_state_dict(state["teacher"])
    except RuntimeError as error:
        raise InputError(
            f"{path} holds another network, encoder or options than asked for; "
            f"set network.* as in its run ({str(error).splitlines()[-1].strip()})"
        ) from error
    return state


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint of `save_checkpoint` onto the CPU; a segmenter's settings come in today's form.

    Raises:
        InputError: if the file is missing, no whole checkpoint, or of a network that this version does not know.
    """
    if not path.is_file():
        raise InputError(f"there is no checkpoint {path}")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a handful of unrelated types for a damaged file
        raise InputError(f"{path} is no whole checkpoint ({error}); remove it or take an earlier one") from error
    if not isinstance(state, dict) or "step" not in state:
        raise InputError(f"{path} is no checkpoint of a darkseg training run")
    if "teacher" in state and "network" in state.get("config", {}):
        try:
            state["config"] = in_todays_form(state["config"])
            network = complete(state["config"]["network"])
        except InputError as error:
            raise InputError(
                f"{path} holds no segmenter that this version knows ({error}); "
                "expected a checkpoint of training.train_segmenter"
            ) from error
        state["config"]["network"] = OmegaConf.to_container(network)
    return state


def start_from(network: nn.Module, config: NetworkConfig) -> list[Any]:
    """Load the averaged weights of ``start_checkpoint``, if it is set.

    Returns:
        The settings of the runs that the weights come from, the encoder's among them, the oldest first: data and terms
        of a model are those of all of them.

    Raises:
        InputError: as `load_averaged_weights`.
    """
    ancestors: list[Any] = []
    if config.encoder_weights:
        ancestors += _lineage(torch.load(config.encoder_weights, map_location="cpu", weights_only=True))
    if config.start_checkpoint:
        ancestors += _lineage(load_averaged_weights(network, Path(config.start_checkpoint)))
    return ancestors


def _lineage(state: dict[str, Any]) -> list[Any]:
    """Settings of a checkpoint's run and those before it; none for weights that are no checkpoint of ours."""
    own = state.get("config", state.get("stem_of"))
    return [*state.get("ancestors", []), *([own] if own else [])]
