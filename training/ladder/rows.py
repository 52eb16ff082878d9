"""Rows of the thesis's ladder: what it found, and the figures of a row that was run here."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from training.networks.config import complete, from_flat, input_hw_of
from training.networks.input_size import rectangle_hw


@dataclass(frozen=True)
class RowFigures:
    """Figures of a row in percent; those on the night test set unless named after another.

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
        other_weather_miou: mean IoU on fog, rain, snow and clear days; None as for the day.
        other_weather_miou_low: lower end of its 95 % interval.
        other_weather_miou_high: upper end.
        dusk_miou: mean IoU on a dusk drive; None as for the day.
        dusk_miou_low: lower end of its 95 % interval.
        dusk_miou_high: upper end.
    """

    accuracy: float
    class_accuracy: float
    miou: float
    miou_low: float
    miou_high: float
    fwiou: float
    day_miou: float | None = None
    day_miou_low: float | None = None
    day_miou_high: float | None = None
    other_weather_miou: float | None = None
    other_weather_miou_low: float | None = None
    other_weather_miou_high: float | None = None
    dusk_miou: float | None = None
    dusk_miou_low: float | None = None
    dusk_miou_high: float | None = None


def row_figures(metrics: dict[str, Any]) -> RowFigures:
    """Figures in percent from the content of metrics.json.

    Raises:
        KeyError: if a figure is missing.
    """
    night = metrics["night"]
    others: dict[str, float] = {}
    for name in ("day", "other_weather", "dusk"):
        if name in metrics:
            low, high = metrics[name]["ci95"]["miou_present"]
            others[f"{name}_miou"] = _percent(metrics[name]["miou_present"])
            others[f"{name}_miou_low"], others[f"{name}_miou_high"] = _percent(low), _percent(high)
    return RowFigures(
        accuracy=_percent(night["pixel_accuracy"]),
        class_accuracy=_percent(night["class_accuracy"]),
        miou=_percent(night["miou_present"]),
        miou_low=_percent(night["ci95"]["miou_present"][0]),
        miou_high=_percent(night["ci95"]["miou_present"][1]),
        fwiou=_percent(night["fwiou"]),
        **others,
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
        network = complete(from_flat(config.network))
        crop_hw = rectangle_hw(config.augmentation.crop_px, network.width_over_height)
        made["budget"] = f"{config.steps} steps of {images} images, {_told(crop_hw)} crops"
        made["network"] = f"{network.name} on {network.encoder}, {_told(input_hw_of(network))} input"
        made["seed"] = str(config.seed)
    return made


def _told(size_hw: tuple[int, int]) -> str:
    height, width = size_hw
    return f"{height}²" if height == width else f"{height}×{width}"


def _processor() -> str:
    """Asked without PyTorch: importing it takes longer than all else here."""
    if shutil.which("nvidia-smi"):
        query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        names = subprocess.run(query, capture_output=True, text=True, check=False).stdout.splitlines()
        if names:
            return f"{len(names)} × {names[0].strip()}"
    return f"{os.cpu_count()} CPU cores"


@dataclass(frozen=True)
class ThesisRow:
    """A row of Tables 4.3 to 4.10, in percent.

    Attributes:
        row: its ID.
        what: what it was trained on.
        table: where its figures stand.
        accuracy: of pixels.
        class_accuracy: mean over the classes.
        miou: mean intersection over union.
        fwiou: frequency-weighted IoU.
        gain_over: the row that the gain in brackets is counted from; None where there is none.
    """

    row: str
    what: str
    table: str
    accuracy: float
    class_accuracy: float
    miou: float
    fwiou: float
    gain_over: str | None = None


THESIS_ROWS = (
    ThesisRow("1.1", "day", "4.3", 73.6, 45.4, 27.5, 59.0),
    ThesisRow("1.2", "day, self-training by day from scratch", "4.3", 76.3, 43.9, 27.1, 62.3, "1.1"),
    ThesisRow("1.3", "day, self-training by day from 1.1", "4.3", 76.8, 44.0, 29.0, 62.7, "1.1"),
    ThesisRow("2.1", "day and translated night", "4.4", 79.2, 49.5, 31.5, 66.5),
    ThesisRow("2.2", "2.1, self-training on all night images", "4.4", 78.1, 41.5, 28.8, 63.8, "2.1"),
    ThesisRow("2.3", "2.1 on the test set translated to day", "4.4", 74.1, 42.5, 25.2, 60.7),
    ThesisRow("2.4", "2.2 on the test set translated to day", "4.4", 73.2, 42.1, 24.7, 58.8, "2.3"),
    ThesisRow("3.1", "day and night translated with perceptual loss", "4.5", 78.0, 51.3, 33.9, 66.0),
    ThesisRow("3.2", "3.1, self-training on all night images", "4.5", 81.5, 43.0, 32.1, 69.0, "3.1"),
    ThesisRow("3.3", "3.1 on the test set translated to day", "4.5", 75.2, 46.1, 29.3, 62.7),
    ThesisRow("3.4", "3.2 on the test set translated to day", "4.5", 79.6, 42.5, 28.4, 66.8, "3.3"),
    ThesisRow("4.1", "3.1, self-training, histogram selection", "4.6", 80.4, 49.7, 34.2, 68.2, "3.1"),
    ThesisRow("4.2", "4.1 on the test set translated to day", "4.6", 77.6, 46.1, 29.8, 64.0, "3.3"),
    ThesisRow("5.1", "translated night only", "4.7", 76.3, 46.0, 29.6, 62.4),
    ThesisRow("5.2", "3.1, more translated night", "4.7", 81.2, 48.8, 34.7, 68.7, "3.1"),
    ThesisRow("5.3", "5.1, self-training, histogram selection", "4.7", 78.3, 41.6, 29.8, 64.2, "5.1"),
    ThesisRow("5.4", "5.2, self-training, histogram selection", "4.7", 81.3, 46.0, 33.3, 68.3, "5.2"),
    ThesisRow("6.1", "as 3.1, focal loss", "4.8", 74.4, 40.9, 26.9, 60.0),
    ThesisRow("6.2", "6.1, self-training, histogram selection, focal loss", "4.8", 76.0, 43.3, 28.3, 61.8, "6.1"),
    ThesisRow("7.1", "3.1, self-training, FID selection", "4.9", 84.3, 49.5, 38.8, 73.4, "3.1"),
    ThesisRow("7.2", "3.1, self-training, FID selection, combined loss", "4.9", 83.8, 50.5, 39.3, 72.4, "3.1"),
    ThesisRow("7.3", "3.1, self-training, histogram selection, combined loss", "4.9", 81.5, 45.2, 33.1, 68.5, "3.1"),
    ThesisRow("8.1", "5.2, self-training, histogram selection, day and night", "4.10", 83.2, 48.9, 37.8, 71.2, "3.1"),
    ThesisRow("8.2", "8.1, self-training, FID selection", "4.10", 83.4, 49.1, 39.5, 71.4, "3.1"),
    ThesisRow("8.3", "8.1, self-training, FID selection, combined loss", "4.10", 83.7, 51.1, 40.7, 71.9, "3.1"),
)
"""Tables 4.3 to 4.10 of the thesis. On the night test set; 2.3, 2.4, 3.3, 3.4 and 4.2 on the same translated to day."""


@dataclass(frozen=True)
class OwnRow:
    """A row that the thesis proposes or that we add: it has no figures to stand beside.

    Attributes:
        row: its ID, which no row of the thesis has.
        what: what it was trained on.
        gain_over: the row that its gain is counted from.
    """

    row: str
    what: str
    gain_over: str


OWN_ROWS = (OwnRow("4.3", "4.1 with sure pseudo-labels only (thesis's future work, 5.2.2)", "3.1"),)


@dataclass(frozen=True)
class ThesisDistance:
    """A figure of Table 4.2; `thesis` is None where the thesis gives none."""

    key: str
    what: str
    thesis: float | None


THESIS_DISTANCES = (
    ThesisDistance("day_to_night", "day images as they are ↔ real night", None),
    ThesisDistance("plain_to_night", "translated without perceptual loss ↔ real night", 98.39),
    ThesisDistance("plain_to_day", "translated without perceptual loss ↔ real day", 74.45),
    ThesisDistance("perceptual_to_night", "translated with perceptual loss ↔ real night", 97.68),
    ThesisDistance("perceptual_to_day", "translated with perceptual loss ↔ real day", 81.92),
)


@dataclass(frozen=True)
class Lesson:
    """One lesson of the thesis (4.4.3, or its future work): the first figure is above the second.

    Attributes:
        experiment: its number.
        claim: the lesson.
        better: row that has the higher mIoU.
        worse: row that has the lower; "1.1 by day" names figures on the day validation set.
    """

    experiment: int
    claim: str
    better: str
    worse: str


LESSONS = (
    Lesson(1, "trained by day, a network is poor at night", "1.1 by day", "1.1"),
    Lesson(1, "self-training is better from a checkpoint than from scratch", "1.3", "1.2"),
    Lesson(2, "translated night in the training set helps", "2.1", "1.1"),
    Lesson(2, "self-training does not help when unlabelled images dominate", "2.1", "2.2"),
    Lesson(3, "perceptual loss in the translation helps the segmenter", "3.1", "2.1"),
    Lesson(3, "a test set translated to day is no better than the night itself", "3.1", "3.3"),
    Lesson(4, "self-training on a suitable number of images helps", "4.1", "3.1"),
    Lesson(4, "pseudo-labels with a threshold of confidence are better (5.2.2)", "4.3", "4.1"),
    Lesson(5, "more training on the target domain helps", "5.2", "3.1"),
    Lesson(6, "focal loss does no better than cross-entropy", "3.1", "6.1"),
    Lesson(7, "selection by FID is better than by histogram", "7.1", "4.1"),
    Lesson(7, "the combined loss is better than cross-entropy", "7.2", "7.1"),
    Lesson(8, "all together are better than day and night alone", "8.3", "3.1"),
    Lesson(8, "all together are better than day alone", "8.3", "1.1"),
)
