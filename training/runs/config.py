"""Settings of a training stage: structured defaults ← YAML file ← ``key=value``; an unknown key is an error."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from darkseg_ros.errors import InputError
from training.networks.config import NetworkConfig, complete, from_flat


def read_command_line(schema: type, description: str, arguments: list[str] | None = None) -> DictConfig:
    """Parse ``--config FILE [key=value …]`` of a stage.

    Args:
        schema: dataclass of the stage's settings.
        description: shown by ``--help``.
        arguments: the command line; None takes the process'.

    Raises:
        InputError: if the file is missing, or a key or value does not fit `schema`.
    """
    parser = ArgumentParser(description=description)
    parser.add_argument("--config", type=Path, required=True, help="YAML file of the run")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings that replace the file's")
    parsed = parser.parse_args(sys.argv[1:] if arguments is None else arguments)
    return load_config(schema, parsed.config, parsed.overrides)


def load_config(schema: type, path: Path, overrides: list[str]) -> DictConfig:
    """Defaults ← YAML file ← overrides, resolved and complete; raises as `read_command_line`."""
    if not path.is_file():
        raise InputError(f"there is no config {path}; see training/configs/")
    try:
        defaults, file = OmegaConf.structured(schema), OmegaConf.load(path)
        of_segmenter = "network" in defaults and OmegaConf.get_type(defaults, "network") is NetworkConfig
        if of_segmenter and isinstance(file, DictConfig) and isinstance(file.get("network"), DictConfig):
            file.network = from_flat(OmegaConf.masked_copy(file, "network").network)
        config = OmegaConf.merge(defaults, file, OmegaConf.from_dotlist(overrides))
        OmegaConf.resolve(config)
    except (OmegaConfBaseException, YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} with {overrides or 'no overrides'}: {error}") from error
    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        raise InputError(f"{path} leaves {', '.join(missing)} open; set them in the file or as key=value")
    assert isinstance(config, DictConfig)
    if of_segmenter:
        config.network = complete(config.network)
    return config


def refuse_other_config(checkpoint: Path, saved: dict[str, Any], config: DictConfig, *, free: set[str]) -> None:
    """Raise InputError if a checkpoint belongs to other settings than those asked for.

    Args:
        checkpoint: named in the message.
        saved: the checkpoint's settings.
        config: the settings asked for.
        free: top-level keys that may differ: they change where or how fast a run goes, not its result.
    """
    asked = OmegaConf.to_container(config)
    assert isinstance(asked, dict)
    changed = sorted(str(key) for key in asked.keys() - free if asked[key] != saved.get(str(key)))
    if changed:
        raise InputError(
            f"{checkpoint} was made with other settings of {', '.join(changed)}; "
            "choose another output folder or remove this one"
        )


@dataclass
class RunSettings:
    """Where a stage runs and how often it saves: none of these changes its result, rounding and `precision` apart.

    Attributes:
        accelerator: Fabric's name of it: auto, cpu, gpu.
        devices: processes on each machine.
        num_nodes: machines.
        precision: Fabric's name of it: 32-true, bf16-mixed, 16-mixed.
        loader_workers: image-loading processes.
        save_every: steps between checkpoints.
        evaluate_every: steps between evaluations or sample sheets.
    """

    accelerator: str = "auto"
    devices: int = 1
    num_nodes: int = 1
    precision: str = "32-true"
    loader_workers: int = 1
    save_every: int = 200
    evaluate_every: int = 1000


FREE_KEYS = {"output", "data", "accelerator", "devices", "num_nodes", "loader_workers", "save_every", "evaluate_every"}
"""Settings that may change between the parts of one run; see `stage_config.refuse_other_config`."""
