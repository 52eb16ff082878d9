"""Settings of a training stage: structured defaults ← YAML file ← ``key=value``; an unknown key is an error."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from darkseg_ros.errors import InputError
from training.networks.config import NetworkConfig, complete, from_flat


def read_command_line(
    schema: type | Callable[[Path], type], description: str, arguments: list[str] | None = None
) -> DictConfig:
    """Parse ``--config FILE [key=value …]`` of a stage.

    Args:
        schema: dataclass of the stage's settings, or what tells it from the file.
        description: shown by ``--help``.
        arguments: the command line; None takes the process'.

    Raises:
        InputError: if the file is missing, or a key or value does not fit `schema`.
    """
    parser = ArgumentParser(description=description)
    parser.add_argument("--config", type=Path, required=True, help="YAML file of the run")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings that replace the file's")
    parsed = parser.parse_args(sys.argv[1:] if arguments is None else arguments)
    settings = schema if isinstance(schema, type) else schema(parsed.config)
    return load_config(settings, parsed.config, parsed.overrides)


def load_config(schema: type, path: Path, overrides: list[str]) -> DictConfig:
    """Defaults ← YAML file ← overrides, resolved and complete; raises as `read_command_line`."""
    if not path.is_file():
        raise InputError(f"there is no config {path}; see training/configs/")
    try:
        defaults = OmegaConf.structured(schema)
        of_segmenter = "network" in defaults and OmegaConf.get_type(defaults, "network") is NetworkConfig
        given = [OmegaConf.load(path), OmegaConf.from_dotlist(overrides)]
        if of_segmenter:
            # interpolations are resolved later, in the whole
            given = [
                OmegaConf.create(in_todays_form(plain))
                for settings in given
                if isinstance(plain := OmegaConf.to_container(settings), dict)
            ]
        config = OmegaConf.merge(defaults, *given)
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


def in_todays_form(settings: Mapping[Any, Any]) -> dict[str, Any]:
    """Settings of a segmenter's run in the form that they have today, whenever they were written.

    Until 2026-11-28 the options of networks lay beside ``encoder`` (see `training.networks.config.from_flat`), there
    were the two validation sets data.day_validation and data.night_validation, and once one source.
    """
    renewed = {str(key): value for key, value in settings.items()}
    if isinstance(renewed.get("network"), Mapping):
        renewed["network"] = from_flat(renewed["network"])
    if isinstance(renewed.get("data"), Mapping):
        data = dict(renewed["data"])
        for name in ("day", "night"):
            if (folder := data.pop(f"{name}_validation", None)) is not None:
                data["validation"] = {**(data.get("validation") or {}), name: folder}
        if isinstance(data.get("source"), str) and not data["source"].startswith("${"):
            data["source"] = [data["source"]]
        renewed["data"] = data
    return renewed


def refuse_other_run(checkpoint: Path, state: dict[str, Any], config: DictConfig, inputs: Mapping[str, str]) -> None:
    """Raise InputError if a checkpoint belongs to other settings or other data than those asked for.

    Settings that the checkpoint does not know yet count as their defaults. Data and weights are told by their content,
    not by their paths: they may have moved.

    Args:
        checkpoint: named in the message.
        state: its content; one without ``inputs``, from before they were noted, is taken for the same data.
        config: the settings asked for, of the stage's dataclass.
        inputs: what `training.data.listing` says of the content of each setting that names files, by its dotted key.
    """
    asked, saved = (_leaves(OmegaConf.to_container(config)), _leaves(state["config"]))
    saved = _leaves(OmegaConf.to_container(OmegaConf.structured(OmegaConf.get_type(config)))) | saved
    changed = {
        key
        for key, value in asked.items()
        if key.split(".")[0] not in FREE_KEYS and key not in inputs and value != saved.get(key)
    }
    known = state.get("inputs", inputs)
    changed |= {f"the content of {key}" for key, content in inputs.items() if known.get(key, content) != content}
    if changed:
        raise InputError(
            f"{checkpoint} was made with other settings of {', '.join(sorted(changed))}; "
            "choose another output folder or remove this one"
        )


def _leaves(settings: Any, prefix: str = "") -> dict[str, Any]:
    """Values by their dotted keys; lists are values."""
    if not isinstance(settings, Mapping):
        return {prefix.removesuffix("."): settings}
    return {key: leaf for name, value in settings.items() for key, leaf in _leaves(value, f"{prefix}{name}.").items()}


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


@dataclass
class TrainingSettings(RunSettings):
    """What every training has.

    Attributes:
        output: folder of the run: checkpoints, TensorBoard events, samples or metrics.json.
        seed: of all that is drawn at random.
        steps: optimiser steps in all.
        batch_size: images, or pairs of them, a step, over all processes.
    """

    output: str = MISSING
    seed: int = 0
    steps: int = MISSING
    batch_size: int = MISSING


FREE_KEYS = {"output", "data", "accelerator", "devices", "num_nodes", "loader_workers", "save_every", "evaluate_every"}
"""Settings that may change between the parts of one run: they change where or how fast it goes and what it reports.
The content of training data may not, see `refuse_other_run`."""
