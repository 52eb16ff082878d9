"""Which classes a run learns: those that its settings list, or Cityscapes' 19."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from darkseg_ros.classes import CITYSCAPES, ClassTable
from darkseg_ros.errors import InputError


def classes_of(settings: DictConfig | Mapping[str, Any]) -> ClassTable:
    """The class table of a segmenter's settings, in a config or in a checkpoint.

    Args:
        settings: with ``data.classes``, a list of classes as `darkseg_ros.classes.ClassTable.from_json` reads it; where
            that is null, or missing as in older checkpoints, the classes are Cityscapes' 19.

    Raises:
        InputError: if the list is no class table.
    """
    given = settings.get("data", {}).get("classes")
    if given is None:
        return CITYSCAPES
    try:
        return ClassTable.from_json(OmegaConf.to_container(given) if OmegaConf.is_config(given) else given)
    except ValueError as error:
        raise InputError(
            f"data.classes: {error}; write it as in training/configs/segmenter_camvid.yaml, or null for Cityscapes' 19"
        ) from error
