"""The settings of `training.ablation`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING, DictConfig

from darkseg_ros.errors import InputError

STAGES = ("train_segmenter", "adapt_segmenter")


@dataclass
class Row:
    """One run.

    Attributes:
        name: what the row adds, as the table says it.
        stage: of `STAGES`.
        config: YAML file of the stage; rows of one file share their settings.
        settings: ``key=value`` on top of those of the rows before that have the same file.
        prepare: commands before the run, each the words after ``python -m``; {seed} stands for the folder of the seed.
        aside: a row that no other builds on: those after it add to the last row that does not stand aside.
    """

    name: str = MISSING
    stage: str = MISSING
    config: str = MISSING
    settings: list[str] = field(default_factory=list)
    prepare: list[list[str]] = field(default_factory=list)
    aside: bool = False


@dataclass
class JudgedSet:
    """Labelled images that every row is judged on.

    Attributes:
        source: an entry as in ``data.validation``.
        every: takes each so many-th image.
        merged: classes that the labels hold under another's name, by that name: answers are counted so too.
    """

    source: Any = MISSING
    every: int = 1
    merged: dict[str, list[str]] = field(default_factory=dict)


@dataclass
class AblationConfig:
    """All rows.

    Attributes:
        output: folder of the runs and of table.md.
        rows: in the order in which they add up.
        sets: by name, in the order of the table's columns.
    """

    output: str = MISSING
    rows: list[Row] = field(default_factory=list)
    sets: dict[str, JudgedSet] = field(default_factory=dict)


def refuse_unusable(config: DictConfig, only: Sequence[str]) -> None:
    """Raise InputError for rows that cannot be run, before the first one is."""
    names = [row.name for row in config.rows]
    if len(set(names)) < len(names) or not names or not config.sets:
        raise InputError("an ablation needs rows, each with a name of its own, and sets to judge them by")
    if unknown := [name for name in only if name not in names]:
        raise InputError(f"there is no row {unknown[0]}; rows: {', '.join(names)}")
    if strange := [row.stage for row in config.rows if row.stage not in STAGES]:
        raise InputError(f"there is no stage {strange[0]}; expected one of {', '.join(STAGES)}")
