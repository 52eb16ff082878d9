"""Checkpoints: the whole state of a run in one file, written so that a half-written one is never taken for whole."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from darkseg_ros.errors import InputError


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write atomically: a temporary file beside the target, flushed to disk, then renamed over it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".partial")
    with temporary.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint of `save_checkpoint` onto the CPU.

    Raises:
        InputError: if the file is missing or no whole checkpoint.
    """
    if not path.is_file():
        raise InputError(f"there is no checkpoint {path}")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a handful of unrelated types for a damaged file
        raise InputError(f"{path} is no whole checkpoint ({error}); remove it or take an earlier one") from error
    if not isinstance(state, dict) or "step" not in state:
        raise InputError(f"{path} is no checkpoint of a darkseg training run")
    return state
