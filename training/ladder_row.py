"""The figures of a row of the ladder, short enough for ``dvc metrics show``.

    python -m training.ladder_row RUN_FOLDER [--out FOLDER]

Reads metrics.json and, where the row was trained, config.yaml; writes figures.json and made.json (budget, machine and
date) into the run's folder, or another.
"""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from dataclasses import asdict
from pathlib import Path

from darkseg_ros.errors import DarksegError, InputError
from darkseg_ros.whole_files import write_whole
from training.ladder.rows import circumstances, row_figures


def main(arguments: list[str] | None = None) -> None:
    """Run the stage from the command line."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="folder with metrics.json of the row")
    parser.add_argument("--out", type=Path, help="folder for figures.json and made.json (that of the run)")
    parsed = parser.parse_args(arguments)
    try:
        write_row(parsed.run, parsed.out or parsed.run)
    except DarksegError as error:
        sys.exit(f"ladder_row: {error}")


def write_row(run: Path, out: Path) -> None:
    """Write ``figures.json`` and ``made.json`` of a run into a folder.

    Raises:
        InputError: if there is no metrics.json of `training.train_segmenter` or `training.evaluate_checkpoint`, or the
            disk is full.
    """
    path = run / "metrics.json"
    try:
        figures = row_figures(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, json.JSONDecodeError, KeyError) as error:
        raise InputError(f"{path} holds no figures of a night test set ({error!r}); evaluate the row again") from error
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, content in (("figures.json", asdict(figures)), ("made.json", circumstances(run))):
            write_whole(out / name, f"{json.dumps(content, indent=2)}\n".encode())
    except OSError as error:
        raise InputError(f"{out} cannot be written to ({error}); make room and run ladder_row again") from error


if __name__ == "__main__":
    main()
