"""A trained translator from its checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from darkseg_ros.errors import InputError
from training.runs.checkpoints import load_checkpoint
from training.translation.catalogue import name_of, translator_kind
from training.translation.cyclegan import network as cyclegan
from training.translation.pix2pix import network as pix2pix
from training.translation.translator import Direction, Translator
from training.translation.unit import network as unit

_TRANSLATOR_OF = {
    "unit": unit.translator_of,
    "cyclegan": cyclegan.translator_of,
    "pix2pix": pix2pix.translator_of,
}


def load_translator(checkpoint: Path, direction: Direction = "day_to_night") -> tuple[Translator, dict[str, Any]]:
    """The averaged weights of a run of `training.train_translator`, in evaluation mode, and the run's settings.

    Raises:
        InputError: if the file is no checkpoint of a translator, or it does not know the direction.
    """
    if direction not in ("day_to_night", "night_to_day"):
        raise InputError(f"there is no direction {direction}; expected day_to_night or night_to_day")
    state = load_checkpoint(checkpoint)
    if "teacher" in state or not any(name.startswith("averaged_") for name in state):
        raise InputError(
            f"{checkpoint} is of another kind of run; expected one of training.train_unit or training.train_translator"
        )
    name = name_of(state["config"])
    kind = translator_kind(name)
    try:
        translator = _TRANSLATOR_OF[name](state, direction)
    except (KeyError, RuntimeError) as error:
        raise InputError(
            f"{checkpoint} holds a {kind.title} that this version does not know ({error}); "
            "train it anew or take its version"
        ) from error
    return translator.eval().requires_grad_(False), state["config"]
