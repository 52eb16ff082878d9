"""The figures of a row of the ladder, short enough for ``dvc metrics show``.

    python -m training.ladder_row RUN_FOLDER

Reads metrics.json and, where the row was trained, config.yaml; writes figures.json and made.json (budget, machine and
date).
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from argparse import ArgumentParser
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from darkseg_ros.errors import DarksegError, InputError
from darkseg_ros.whole_files import write_whole
from training.networks.config import complete, from_flat


@dataclass(frozen=True)
class RowFigures:
    """Figures on the night test set, in percent.

    Attributes:
        accuracy: share of labelled pixels that are right.
        class_accuracy: mean of it over the classes with ground truth.
        miou: mean IoU over the classes with ground truth.
        miou_low: lower end of its 95 % interval.
        miou_high: upper end.
        fwiou: frequency-weighted IoU.
        day_miou: mean IoU on the day validation set; None for rows that only translate the test set.
        day_miou_low: lower end of its 95 % interval.
        day_miou_high: upper end.
    """

    accuracy: float
    class_accuracy: float
    miou: float
    miou_low: float
    miou_high: float
    fwiou: float
    day_miou: float | None
    day_miou_low: float | None
    day_miou_high: float | None


def main(arguments: list[str] | None = None) -> None:
    """Run the stage from the command line."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="folder with metrics.json of the row")
    parsed = parser.parse_args(arguments)
    try:
        write_row(parsed.run)
    except DarksegError as error:
        sys.exit(f"ladder_row: {error}")


def write_row(run: Path) -> None:
    """Write ``figures.json`` and ``made.json`` into the folder of a run.

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
        for name, content in (("figures.json", asdict(figures)), ("made.json", circumstances(run))):
            write_whole(run / name, f"{json.dumps(content, indent=2)}\n".encode())
    except OSError as error:
        raise InputError(f"{run} cannot be written to ({error}); make room and run ladder_row again") from error


def row_figures(metrics: dict[str, Any]) -> RowFigures:
    """Figures in percent from the content of metrics.json.

    Raises:
        KeyError: if a figure is missing.
    """
    night, day = metrics["night"], metrics.get("day")
    return RowFigures(
        accuracy=_percent(night["pixel_accuracy"]),
        class_accuracy=_percent(night["class_accuracy"]),
        miou=_percent(night["miou_present"]),
        miou_low=_percent(night["ci95"]["miou_present"][0]),
        miou_high=_percent(night["ci95"]["miou_present"][1]),
        fwiou=_percent(night["fwiou"]),
        day_miou=_percent(day["miou_present"]) if day else None,
        day_miou_low=_percent(day["ci95"]["miou_present"][0]) if day else None,
        day_miou_high=_percent(day["ci95"]["miou_present"][1]) if day else None,
    )


def _percent(share: float) -> float:
    return round(100 * share, 2)


def circumstances(run: Path) -> dict[str, str]:
    """Budget (where the row was trained), machine and date of a run, in words."""
    made = {"machine": f"{_processor()}, {platform.system()}, PyTorch {version('torch').split('+')[0]}"}
    metrics = run / "metrics.json"
    made["date"] = datetime.fromtimestamp(metrics.stat().st_mtime, timezone.utc).strftime("%Y-%m-%d")
    config_file = run / "config.yaml"
    if config_file.is_file():
        config = OmegaConf.load(config_file)
        images = config.batch_size + config.self_training.batch_size
        made["budget"] = f"{config.steps} steps of {images} images, {config.augmentation.crop_px}² crops"
        network = complete(from_flat(config.network))
        made["network"] = f"{network.name} on {network.encoder}, {network.input_px}² input"
        made["seed"] = str(config.seed)
    return made


def _processor() -> str:
    """Asked without PyTorch: importing it takes longer than all else here."""
    if shutil.which("nvidia-smi"):
        query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        names = subprocess.run(query, capture_output=True, text=True, check=False).stdout.splitlines()
        if names:
            return f"{len(names)} × {names[0].strip()}"
    return f"{os.cpu_count()} CPU cores"


if __name__ == "__main__":
    main()
