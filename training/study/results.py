"""The figures of a study's runs, small enough to be committed."""

from __future__ import annotations

import json
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from darkseg_ros.errors import InputError
from training.networks.config import input_hw_of
from training.runs.results import write_result
from training.study.settings import StudyConfig, StudyRun

TEST_SETS = ("day", "night", "other_weather")
_TIMED_IMAGES = 9


@dataclass(frozen=True)
class RunFigures:
    """What a run came to.

    Attributes:
        miou: mean IoU in percent by test set, over the classes with ground truth.
        low: lower end of its 95 % interval, by bootstrap over images.
        high: upper end.
        steps: of the training.
        parameters: of the network.
        latency_ms: median of one image through the float network in torch, in the process that trained it.
    """

    miou: dict[str, float]
    low: dict[str, float]
    high: dict[str, float]
    steps: int
    parameters: int
    latency_ms: float


def figures_file(study: StudyConfig, run: StudyRun) -> Path:
    """Where the figures of a run are."""
    return Path(study.figures) / run.folder.with_suffix(".json")


def measure(study: StudyConfig, run: StudyRun, config: Any) -> None:
    """Write the figures of a run that is done.

    Args:
        study: says where the figures go.
        run: which it is.
        config: its resolved `SegmenterConfig`; `config.output` holds metrics.json and the checkpoint.

    Raises:
        InputError: if there are no metrics or no checkpoint, or the figures cannot be written.
    """
    import torch

    from training.adaptation.teacher import load_teacher

    output = Path(config.output)
    metrics = _read_json(output / "metrics.json")
    network, _state = load_teacher(output / "checkpoints" / "last.pt")
    image = torch.zeros(1, 3, *input_hw_of(config.network))
    times_ms = []
    with torch.inference_mode():
        for _ in range(_TIMED_IMAGES):
            started = time.perf_counter()
            network(image)
            times_ms.append(1000 * (time.perf_counter() - started))

    def percent(pick: Any) -> dict[str, float]:
        return {name: round(100 * pick(metrics[name]), 2) for name in TEST_SETS if name in metrics}

    figures = RunFigures(
        miou=percent(lambda one: one["miou_present"]),
        low=percent(lambda one: one["ci95"]["miou_present"][0]),
        high=percent(lambda one: one["ci95"]["miou_present"][1]),
        steps=config.steps,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        latency_ms=round(statistics.median(times_ms), 1),
    )
    write_result(figures_file(study, run), f"{json.dumps(asdict(figures), indent=2)}\n")


def read_results(study: StudyConfig, runs: list[StudyRun]) -> dict[StudyRun, RunFigures]:
    """The figures of all runs that have any.

    Raises:
        InputError: naming the file that holds something else.
    """
    results = {}
    for run in runs:
        path = figures_file(study, run)
        if path.is_file():
            try:
                results[run] = RunFigures(**_read_json(path))
            except TypeError as error:
                raise InputError(f"{path} holds other figures ({error}); delete it and run the study again") from error
    return results


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}); delete it and run the study again") from error
    assert isinstance(content, dict)
    return content
