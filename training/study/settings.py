"""Which runs a study has: every network, and changes of one setting at a time."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from darkseg_ros.errors import InputError

AS_IS = "networks"
"""Group of the runs that change nothing; the others are named after what they change."""


@dataclass
class Sweeps:
    """What is changed, each alone.

    Attributes:
        networks: which of the study's networks it is changed on.
        changes: key=value settings by what they change and by its name.
    """

    networks: list[str] = field(default_factory=list)
    changes: dict[str, dict[str, list[str]]] = field(default_factory=dict)


@dataclass
class StudyConfig:
    """A study.

    Attributes:
        segmenter: YAML of `training.train_segmenter` that all runs begin with.
        output: folder of the runs.
        figures: folder of one JSON file a run, small enough to be committed.
        coarse: folder for coarse labels of the segmenter's first source; made when a run asks for it.
        settings: key=value of all runs.
        networks: key=value of each network by its name.
        coarse_labels: networks that are trained on coarse labels as well.
        sweeps: what is changed on some of them. ``{output}``, ``{network}`` and ``{coarse}`` are filled in.
    """

    segmenter: str = MISSING
    output: str = MISSING
    figures: str = MISSING
    coarse: str = MISSING
    settings: list[str] = field(default_factory=list)
    networks: dict[str, list[str]] = field(default_factory=dict)
    coarse_labels: list[str] = field(default_factory=list)
    sweeps: Sweeps = field(default_factory=Sweeps)


@dataclass(frozen=True)
class StudyRun:
    """One training run.

    Attributes:
        network: a key of the study's networks.
        group: what it changes, or `AS_IS`.
        change: how; empty for `AS_IS`.
        settings: key=value that it begins with.
    """

    network: str
    group: str
    change: str
    settings: tuple[str, ...]

    @property
    def folder(self) -> Path:
        """Of its results, below the study's."""
        return Path(self.network) / _as_name(self.group) / _as_name(self.change or self.network)


def _as_name(text: str) -> str:
    return "".join(character if character.isalnum() else "_" for character in text).strip("_")


def read_study(path: Path) -> StudyConfig:
    """A study from its YAML.

    Raises:
        InputError: if the file is missing, a key is unknown or missing, or a sweep names no network of the study.
    """
    if not path.is_file():
        raise InputError(f"there is no study {path}; see training/configs/study_mini.yaml")
    try:
        merged = OmegaConf.merge(OmegaConf.structured(StudyConfig), OmegaConf.load(path))
        study = OmegaConf.to_object(merged)
    except (OmegaConfBaseException, YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: {str(error).splitlines()[0]}") from error
    assert isinstance(study, StudyConfig)
    unknown = sorted({*study.sweeps.networks, *study.coarse_labels} - set(study.networks))
    if unknown:
        raise InputError(f"{path}: there is no network {unknown[0]} in networks; it has {', '.join(study.networks)}")
    return study


def runs_of(study: StudyConfig) -> list[StudyRun]:
    """Every run, in the order in which they are made: what one starts from comes before it."""

    def run(network: str, group: str, change: str, changed: list[str]) -> StudyRun:
        values: dict[str, Any] = {"output": study.output, "network": network, "coarse": study.coarse}
        own = [f"network.name={network}", *study.settings, *study.networks[network], *changed]
        for name, value in values.items():
            own = [setting.replace(f"{{{name}}}", value) for setting in own]
        return StudyRun(network, group, change, tuple(own))

    runs = [run(network, AS_IS, "", []) for network in study.networks]
    runs += [run(network, "labels", "coarse", ["data.source=[{coarse}]"]) for network in study.coarse_labels]
    runs += [
        run(network, group, change, changed)
        for network in study.sweeps.networks
        for group, changes in study.sweeps.changes.items()
        for change, changed in changes.items()
    ]
    return list({one.folder: one for one in runs}.values())
