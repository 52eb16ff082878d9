"""Train UNIT to translate between day and night images that have no partners and no labels.

    python -m training.train_unit --config training/configs/unit_mini.yaml [key=value …]

The stage of `training.train_translator` for configs of UNIT. Started again with the same config, a run continues from
its last checkpoint as if it had never stopped.
"""

from __future__ import annotations

from training.runs.config import read_command_line
from training.runs.results import one_line_errors
from training.train_translator import train
from training.translation.unit.config import UnitConfig


def main(arguments: list[str] | None = None) -> None:
    """Run the stage from the command line."""
    with one_line_errors("train_unit"):
        train(read_command_line(UnitConfig, __doc__ or "", arguments))


if __name__ == "__main__":
    main()
