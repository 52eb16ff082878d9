"""The ladder's page: our rows beside the thesis's, and whether its lessons hold here."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from darkseg_ros.errors import InputError
from darkseg_ros.evaluation.metrics import ABSENT_CLASSES
from training.ladder.rows import LESSONS, THESIS_DISTANCES, THESIS_ROWS, RowFigures

NOT_RUN: Final = "not yet run"


Verdict = Literal["agrees", "disagrees", "cannot tell (intervals overlap)", "not yet run"]


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Ladder:
    """What was run.

    Attributes:
        rows: figures by row ID.
        made: the content of made.json by row ID.
        distances: FID by key.
    """

    rows: dict[str, RowFigures]
    made: dict[str, dict[str, str]]
    distances: dict[str, float]


def read_ladder(runs: Path) -> Ladder:
    """Figures of all rows and distances that there are.

    Raises:
        InputError: if `runs` is no folder, or a file in it is not what its stage writes.
    """
    if not runs.is_dir():
        raise InputError(f"{runs} is not a folder; expected the runs of a params.yaml, `dvc repro row_1_1` makes them")
    rows, made, distances = {}, {}, {}
    for thesis in THESIS_ROWS:
        folder = runs / f"row_{thesis.row.replace('.', '_')}"
        if (folder / "figures.json").is_file():
            try:
                rows[thesis.row] = RowFigures(**_read_json(folder / "figures.json"))
            except TypeError as error:
                raise InputError(f"{folder / 'figures.json'}: {error}; run training.ladder_row {folder}") from error
            made[thesis.row] = _read_json(folder / "made.json")
    for distance in THESIS_DISTANCES:
        path = runs / "fid" / f"{distance.key}.json"
        if path.is_file():
            distances[distance.key] = float(_read_json(path)["fid"])
    return Ladder(rows, made, distances)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}); run its stage again") from error
    assert isinstance(content, dict)
    return content


def verdict(better: Estimate | None, worse: Estimate | None) -> Verdict:
    """Whether our figures say that one is above the other.

    Args:
        better: what the thesis found higher; None if not run.
        worse: what it found lower.
    """
    if better is None or worse is None:
        return NOT_RUN
    if better.low > worse.high:
        return "agrees"
    if better.high < worse.low:
        return "disagrees"
    return "cannot tell (intervals overlap)"


def estimate_of(name: str, rows: dict[str, RowFigures]) -> Estimate | None:
    """Mean IoU of a row, or of "1.1 by day" on the day validation set; None if it was not run."""
    row, _, by_day = name.partition(" ")
    figures = rows.get(row)
    if figures is None:
        return None
    if not by_day:
        return Estimate(figures.miou, figures.miou_low, figures.miou_high)
    if figures.day_miou is None or figures.day_miou_low is None or figures.day_miou_high is None:
        return None
    return Estimate(figures.day_miou, figures.day_miou_low, figures.day_miou_high)


def page_of(ladder: Ladder) -> str:
    """The page in Markdown."""
    sections = [_HEAD, _circumstances(ladder), _rows_table(ladder), _distances_table(ladder), _lessons(ladder), _HOW]
    return "\n".join(sections)


_HEAD = f"""<!-- Written by training/ladder_table.py; edit there. -->
# The thesis's ladder, run here

Each row of the thesis's Tables 4.3 to 4.10 beside ours on the mini benchmark: 2975 Cityscapes day images at 256², 1000
BDD100K night images without labels, and 17 labelled ACDC night images as the test set. Ours is another test set, a
lighter network and a far shorter training: the figures are not comparable, the differences between rows are.

All figures in percent. mIoU here is miou_present of metrics.json; absent classes: {ABSENT_CLASSES}. Intervals are 95 %,
by bootstrap over images. "Gain" is counted from the row that the thesis counts from. Every row has the same budget:
steps, images a step, size, seed. One seed: what another would change is not in the intervals.
"""


def _circumstances(ladder: Ladder) -> str:
    rows_by_line: dict[str, list[str]] = {}
    for row, made in ladder.made.items():
        if "budget" in made:
            line = f"{made['network']}; {made['budget']}, seed {made['seed']}; {made['machine']}; {made['date']}"
            rows_by_line.setdefault(line, []).append(row)
    if not rows_by_line:
        return "No row was run yet.\n"
    return "\n".join(f"- {', '.join(rows)}: {line}" for line, rows in rows_by_line.items()) + "\n"


def _rows_table(ladder: Ladder) -> str:
    lines = [
        "## Rows\n",
        "| row | training | acc. | class acc. | mIoU | gain | FWIoU | day mIoU "
        "| thesis: acc. | class acc. | mIoU | gain | FWIoU |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    thesis_by_row = {thesis.row: thesis for thesis in THESIS_ROWS}
    for thesis in THESIS_ROWS:
        base = thesis.gain_over
        ours, our_base = ladder.rows.get(thesis.row), ladder.rows.get(base) if base else None
        if ours is None:
            cells = [NOT_RUN, "", "", "", "", ""]
        else:
            cells = [
                f"{ours.accuracy:.1f}",
                f"{ours.class_accuracy:.1f}",
                f"{ours.miou:.1f} ({ours.miou_low:.1f}–{ours.miou_high:.1f})",
                f"{ours.miou - our_base.miou:+.1f}" if our_base else "",
                f"{ours.fwiou:.1f}",
                "" if ours.day_miou is None else f"{ours.day_miou:.1f}",
            ]
        thesis_cells = [
            f"{thesis.accuracy:.1f}",
            f"{thesis.class_accuracy:.1f}",
            f"{thesis.miou:.1f}",
            f"{thesis.miou - thesis_by_row[base].miou:+.1f}" if base else "",
            f"{thesis.fwiou:.1f}",
        ]
        lines.append(f"| {' | '.join([thesis.row, thesis.what, *cells, *thesis_cells])} |")
    return "\n".join(lines) + "\n"


def _distances_table(ladder: Ladder) -> str:
    lines = [
        "## Translation: Fréchet Inception distance (Table 4.2)\n",
        "Lower is nearer. Ours: the translated Cityscapes validation images against all night images and against "
        "themselves untranslated.\n",
        "| | ours | thesis |",
        "|---|---|---|",
    ]
    for distance in THESIS_DISTANCES:
        ours = ladder.distances.get(distance.key)
        our_cell = NOT_RUN if ours is None else f"{ours:.1f}"
        thesis_cell = "–" if distance.thesis is None else f"{distance.thesis:.2f}"
        lines.append(f"| {distance.what} | {our_cell} | {thesis_cell} |")
    before = ladder.distances.get("day_to_night")
    for key, how in (("plain_to_night", "without"), ("perceptual_to_night", "with")):
        after = ladder.distances.get(key)
        if before is not None and after is not None:
            direction = "nearer to" if after < before else "no nearer to"
            lines.append(
                f"\nTranslated {how} perceptual loss, day images are {direction} real night than untranslated "
                f"({after:.1f}, {before:.1f})."
            )
    return "\n".join(lines) + "\n"


def _lessons(ladder: Ladder) -> str:
    lines = [
        "## Does each lesson hold here? (thesis, 4.4.3)\n",
        '"Agrees" and "disagrees" need intervals that do not overlap; with 17 images they are wide, so a small true '
        'difference shows as "cannot tell". Differences are of mIoU.\n',
        "| experiment | lesson | compares | ours | thesis | verdict |",
        "|---|---|---|---|---|---|",
    ]
    thesis_by_row = {thesis.row: thesis for thesis in THESIS_ROWS}
    for lesson in LESSONS:
        better, worse = (estimate_of(name, ladder.rows) for name in (lesson.better, lesson.worse))
        ours = f"{better.value - worse.value:+.1f}" if better and worse else ""
        both_by_thesis = lesson.better in thesis_by_row and lesson.worse in thesis_by_row
        thesis = (
            f"{thesis_by_row[lesson.better].miou - thesis_by_row[lesson.worse].miou:+.1f}" if both_by_thesis else "–"
        )
        lines.append(
            f"| {lesson.experiment} | {lesson.claim} | {lesson.better} > {lesson.worse} | {ours} | {thesis} | "
            f"{verdict(better, worse)} |"
        )
    return "\n".join(lines) + "\n"


_HOW = """## How to make it

    dvc repro row_3_1            # one row and all that it needs
    dvc repro                    # everything
    dvc metrics show             # the rows made so far
    python -m training.ladder_table --runs runs/ladder/mini --out docs/ladder.md

The stages stand in `dvc.yaml`, the mini benchmark's settings in `params.yaml`. The thesis's own data sets take the same
stages with `ladder/thesis/params.yaml`: `dvc repro ladder/thesis/dvc.yaml:row_3_1`. Data elsewhere than in
`../shared/data`: `sed -i "s#\\.\\./shared/data#$DARKSEG_DATA#" params.yaml`.

- DVC runs stages one after the other. Two at a time: `dvc --wait-for-lock repro --single-item ROW` in two shells, once
  the stages before both are done. Set OMP_NUM_THREADS to the cores of each.
- A stage that was killed starts anew under `dvc repro`, which removes its results first. To let it continue, run its
  command by hand (`dvc repro --dry --single-item ROW` prints it; in a thesis-sized run, days matter), then
  `dvc commit ROW`. The same takes over results made elsewhere.
- Stages depend on data, checkpoints and settings, not on code. After a change of code that matters:
  `dvc repro --force --single-item ROW`.

| stage of the mini benchmark | cost on one CPU core |
|---|---|
| split, selections | 1 minute; `select_fid` 3 minutes more, once, for features |
| unit_plain, unit_perceptual | 1 hour each |
| translate, train and validation | 5 minutes a UNIT |
| fid | 2 minutes each |
| pseudo_labels | 1 minute each |
| rows | 4 to 10 minutes each |

The thesis's own sizes were not run. Beyond the thesis: the recipe of the shipped model (training/configs/README.md;
aligned and thresholded pseudo-labels, weighted rare classes, 7400 steps) reaches 24.3 (21.5–28.8) on the same 17
images.
"""
