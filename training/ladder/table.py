"""The ladder's page: our rows beside the thesis's, and whether its lessons hold here."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from darkseg_ros.errors import InputError
from darkseg_ros.evaluation.metrics import ABSENT_CLASSES
from training.ladder.rows import (
    LESSONS,
    OWN_ROWS,
    THESIS_DISTANCES,
    THESIS_ROWS,
    OwnRow,
    RowFigures,
    ThesisRow,
)

NOT_RUN: Final = "not yet run"
TWO_SEEDS: Final = ("1.1", "3.1", "7.2", "8.3")
"""Rows that are run with two seeds, since the thesis's lessons rest on them."""


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
    all_rows: list[ThesisRow | OwnRow] = [*THESIS_ROWS, *OWN_ROWS]
    for row in all_rows:
        folder = runs / f"row_{row.row.replace('.', '_')}"
        if (folder / "figures.json").is_file():
            try:
                rows[row.row] = RowFigures(**_read_json(folder / "figures.json"))
            except TypeError as error:
                raise InputError(f"{folder / 'figures.json'}: {error}; run training.ladder_row {folder}") from error
            made[row.row] = _read_json(folder / "made.json")
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


def estimate_of(name: str, rows: dict[str, RowFigures], test_set: str = "night") -> Estimate | None:
    """Mean IoU of a row on a test set; None if it was not run, or not on this one.

    Args:
        name: its ID; "1.1 by day" means the day validation set, whichever test set is asked for.
        rows: figures by ID.
        test_set: night, day, other_weather or dusk.
    """
    row, _, by_day = name.partition(" ")
    if row not in rows:
        return None
    prefix = "day_" if by_day else "" if test_set == "night" else f"{test_set}_"
    value, low, high = (getattr(rows[row], f"{prefix}miou{end}") for end in ("", "_low", "_high"))
    return None if value is None else Estimate(value, low, high)


def page_of(ladder: Ladder, again: Ladder | None = None) -> str:
    """The page in Markdown.

    Args:
        ladder: what was run.
        again: some rows of it with another seed.
    """
    sections = [_HEAD, _circumstances(ladder), _rows_table(ladder)]
    if again is not None:
        sections.append(_second_seed(ladder, again))
    sections += [_distances_table(ladder), _lessons(ladder), _HOW]
    return "\n".join(sections)


_HEAD = f"""<!-- Written by training/ladder_table.py; edit there. -->
# The thesis's ladder, run here

The thesis: Nguyen Thanh Danh and Phan Nguyen, "Semantic image segmentation in the dark with domain adaptation method",
honours bachelor thesis in computer science, University of Information Technology, Vietnam National University Ho Chi
Minh City, 2021.

Each row of its Tables 4.3 to 4.10 beside ours on the mini benchmark: 2975 Cityscapes day images at 256², 1000
BDD100K night images without labels, and 17 labelled ACDC night images as the test set. Ours is another test set, a
lighter network and a far shorter training: the figures are not comparable, the differences between rows are.

All figures in percent. mIoU here is miou_present of metrics.json; absent classes: {ABSENT_CLASSES}. Intervals are 95 %,
by bootstrap over images. "Gain" is counted from the row that the thesis counts from. Images a step, size and seed are
the same for every row. What another seed changes is not in the intervals; four rows were run with two.

- Rows that start from another one go on for fewer steps, with a fresh optimiser at a tenth of the peak learning rate:
  at the full peak, row 5.2 lost a point of its start in an earlier run (2026-11-22).
- Pixels of labelled and pseudo-labelled images are pooled, so that 2 of 10 images are about 20 % of the loss, as in the
  thesis.
- Beside the night, each row is tested on 46 images of other weather (ACDC: fog, rain, snow, clear days) and on 124 of
  dusk (CamVid, sequence 0001TP).
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
        "| row | training | acc. | class acc. | mIoU | gain | FWIoU | day mIoU | other weather mIoU | dusk mIoU "
        "| thesis: acc. | class acc. | mIoU | gain | FWIoU |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    all_rows: list[ThesisRow | OwnRow] = [*THESIS_ROWS, *OWN_ROWS]
    for row in sorted(all_rows, key=lambda row: row.row):
        cells = [row.row, row.what, *_our_cells(row, ladder.rows), *_thesis_cells(row)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _our_cells(row: ThesisRow | OwnRow, rows: dict[str, RowFigures]) -> list[str]:
    ours, base = rows.get(row.row), rows.get(row.gain_over) if row.gain_over else None
    if ours is None:
        return [NOT_RUN, "", "", "", "", "", "", ""]
    others = (estimate_of(row.row, rows, test_set) for test_set in ("day", "other_weather", "dusk"))
    return [
        f"{ours.accuracy:.1f}",
        f"{ours.class_accuracy:.1f}",
        _with_interval(Estimate(ours.miou, ours.miou_low, ours.miou_high)),
        f"{ours.miou - base.miou:+.1f}" if base else "",
        f"{ours.fwiou:.1f}",
        *("" if other is None else _with_interval(other) for other in others),
    ]


def _second_seed(ladder: Ladder, again: Ladder) -> str:
    """What another seed changes, beside the difference that the thesis found between the same rows."""
    twice = [row for row in TWO_SEEDS if row in ladder.rows and row in again.rows]
    lines = [
        "## A second seed\n",
        f"Rows {', '.join(TWO_SEEDS)}, and all that they go on from (translation, parents, pseudo-labels), once more "
        "with another seed. A difference between two rows that is no larger than what the seed changes says nothing.\n",
        "| row | night mIoU | second seed | change | day | second seed | other weather | second seed | dusk "
        "| second seed |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in TWO_SEEDS:
        if row not in twice:
            lines.append(f"| {row} | {NOT_RUN} |  |  |  |  |  |  |  |  |")
            continue
        first, second = ladder.rows[row], again.rows[row]
        cells = [row, f"{first.miou:.1f}", f"{second.miou:.1f}", f"{second.miou - first.miou:+.1f}"]
        for test_set in ("day", "other_weather", "dusk"):
            for rows in (ladder.rows, again.rows):
                estimate = estimate_of(row, rows, test_set)
                cells.append("" if estimate is None else f"{estimate.value:.1f}")
        lines.append(f"| {' | '.join(cells)} |")
    if twice:
        most = max(abs(again.rows[row].miou - ladder.rows[row].miou) for row in twice)
        lines.append(f"\nThe seed changes the night mIoU of a row by up to {most:.1f} points.")
    return "\n".join(lines) + "\n"


def _with_interval(estimate: Estimate) -> str:
    return f"{estimate.value:.1f} ({estimate.low:.1f}–{estimate.high:.1f})"


def _thesis_cells(row: ThesisRow | OwnRow) -> list[str]:
    if isinstance(row, OwnRow):
        return ["–", "–", "–", "–", "–"]
    miou_by_row = {thesis.row: thesis.miou for thesis in THESIS_ROWS}
    return [
        f"{row.accuracy:.1f}",
        f"{row.class_accuracy:.1f}",
        f"{row.miou:.1f}",
        f"{row.miou - miou_by_row[row.gain_over]:+.1f}" if row.gain_over else "",
        f"{row.fwiou:.1f}",
    ]


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
        '"Agrees" and "disagrees" need intervals that do not overlap; with 17 night images they are wide, so a small '
        'true difference shows as "cannot tell". Other weather (46 images) and dusk (124) were not the aim of the '
        "training, but they are more images. Differences are of mIoU.\n",
        "| experiment | lesson | compares | thesis | ours | verdict | other weather | verdict | dusk | verdict |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    thesis_by_row = {thesis.row: thesis for thesis in THESIS_ROWS}
    for lesson in LESSONS:
        both_by_thesis = lesson.better in thesis_by_row and lesson.worse in thesis_by_row
        thesis = (
            f"{thesis_by_row[lesson.better].miou - thesis_by_row[lesson.worse].miou:+.1f}" if both_by_thesis else "–"
        )
        cells = [str(lesson.experiment), lesson.claim, f"{lesson.better} > {lesson.worse}", thesis]
        for test_set in ("night", "other_weather", "dusk"):
            better, worse = (estimate_of(name, ladder.rows, test_set) for name in (lesson.better, lesson.worse))
            run = {lesson.better.split()[0], lesson.worse.split()[0]} <= set(ladder.rows)
            if run and (better is None or worse is None):
                cells += ["–", "–"]  # the test set was not translated
            else:
                cells += [f"{better.value - worse.value:+.1f}" if better and worse else "", verdict(better, worse)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


_HOW = """## How to make it

    dvc repro row_3_1            # one row and all that it needs
    dvc repro                    # everything
    dvc metrics show             # the figures, in a fresh clone too: they are committed, in ladder/mini
    python -m training.ladder_table --runs ladder/mini --second-seed ladder/second_seed/figures --out docs/ladder.md

The stages stand in `dvc.yaml`, the mini benchmark's settings in `params.yaml`. The thesis's own data sets take the same
stages with `ladder/thesis/params.yaml`: `dvc repro ladder/thesis/dvc.yaml:row_3_1`; so does the second seed of the mini
benchmark: `dvc repro ladder/second_seed/dvc.yaml:row_8_3`. Data elsewhere than in
`../shared/data`: set `DARKSEG_DATA`, nothing else. Results stay valid wherever the data move: stages depend on lists of
the files' names and sizes (`ladder/mini/data`).

- DVC runs stages one after the other. Two at a time: `dvc --wait-for-lock repro --single-item ROW` in two shells, once
  the stages before both are done. Set OMP_NUM_THREADS to the cores of each.
- A stage that was killed starts anew under `dvc repro`, which removes its results first. To let it continue, run its
  command by hand (`dvc repro --dry --single-item ROW` prints it; in a thesis-sized run, days matter), then
  `dvc commit ROW`. The same takes over results made elsewhere.
- In a fresh clone `dvc status` names the checkpoints, translations and pseudo-labels as deleted: figures are committed,
  those are not. Where they were made it names the stages `data@…` alone, which always run.
- Stages depend on data, checkpoints and settings, not on code. After a change of code that matters:
  `dvc repro --force --single-item ROW`.

Cost of the mini benchmark in seconds of one core's time, on 2026-11-28: planned before the runs, and measured where
they were made; 40 minutes in all. On a quiet core a row of 1000 steps takes a minute and a half; beside some 20 other
processes it took eight.

| stage | planned | measured |
|---|---|---|
| split, select_histogram | 30 | 7 |
| select_fid | 200 | 235 |
| unit_plain, unit_perceptual, 600 steps each | 120 each | 138, 198 |
| translate, 2975 images | 90 each | 135, 141 |
| pseudo_labels | 15 each | 2 of 146 images, 16 of 1000 |
| 6 rows from random weights, 1000 steps | 90 each | 69–93, evaluation included |
| 14 rows that go on from another, 200 steps | 30 each | 24–35, evaluation included |
| 5 rows on the translated test set | 5 each | 1 |
| fid | 100 each | 333 for all images of both sides, 112 where one side's features were kept |

The thesis's own sizes were not run. [The first run](ladder_first_run.md) has 15 rows of a larger network, with a loss
and a learning rate that were unlike the thesis's. Beyond the thesis: the recipe of the shipped model
(training/configs/README.md; aligned and thresholded pseudo-labels, weighted rare classes, 7400 steps) reaches 24.3
(21.5–28.8) on the same 17 images.
"""
