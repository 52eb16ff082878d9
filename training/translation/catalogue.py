"""The translators by name.

A new translator is a row here and a folder with its settings (``config.py``), its networks (``network.py``) and its
step (``training.py``, what `training.translation.protocol` asks for).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from darkseg_ros.errors import InputError
from training.translation.cyclegan import config as cyclegan
from training.translation.pix2pix import config as pix2pix
from training.translation.unit import config as unit

if TYPE_CHECKING:
    from training.translation.protocol import Training


@dataclass(frozen=True)
class TranslatorKind:
    """A row of `TRANSLATORS`.

    Attributes:
        title: its name.
        source: its paper.
        schema: dataclass of its settings.
        refuse_unusable: raises InputError for settings that do not fit each other.
        paired: it learns from images with partners of the same name.
    """

    title: str
    source: str
    schema: type
    refuse_unusable: Callable[[DictConfig], None]
    paired: bool = False


TRANSLATORS = {
    "unit": TranslatorKind(
        "UNIT", "Liu, Breuel and Kautz, NeurIPS 2017, arXiv 1703.00848", unit.UnitConfig, unit.refuse_unusable
    ),
    "cyclegan": TranslatorKind(
        "CycleGAN",
        "Zhu, Park, Isola and Efros, ICCV 2017, arXiv 1703.10593",
        cyclegan.CycleGanConfig,
        cyclegan.refuse_unusable,
    ),
    "pix2pix": TranslatorKind(
        "Pix2Pix",
        "Isola, Zhu, Zhou and Efros, CVPR 2017, arXiv 1611.07004",
        pix2pix.Pix2PixConfig,
        pix2pix.refuse_unusable,
        paired=True,
    ),
}


def translator_kind(name: str) -> TranslatorKind:
    """The row of a name.

    Raises:
        InputError: if there is none.
    """
    if name not in TRANSLATORS:
        raise InputError(f"there is no translator {name}; expected one of {', '.join(TRANSLATORS)}")
    return TRANSLATORS[name]


def training_of(name: str) -> Callable[..., Training]:
    """What trains a translator, from (config, fabric, day images, night images, store); loads torch."""
    from training.translation.cyclegan.training import CycleGanTraining
    from training.translation.pix2pix.training import Pix2PixTraining
    from training.translation.unit.training import UnitTraining

    trainings: dict[str, Callable[..., Training]] = {
        "unit": UnitTraining,
        "cyclegan": CycleGanTraining,
        "pix2pix": Pix2PixTraining,
    }
    return trainings[name]


def name_of(settings: Any) -> str:
    """The translator of a run's settings; until 2026-11-28 there was UNIT alone, and none was named."""
    return str(settings.get("translator", "unit"))
