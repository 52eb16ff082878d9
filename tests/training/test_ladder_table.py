from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from training.ladder.rows import THESIS_DISTANCES, THESIS_ROWS, RowFigures, row_figures
from training.ladder.table import Estimate, Ladder, page_of, verdict
from training.ladder_row import main as write_row
from training.ladder_table import main

# Typed off Tables 4.3 to 4.10: ID, accuracy, class accuracy, mIoU, FWIoU, gain in brackets.
PRINTED = """
1.1 73.6 45.4 27.5 59.0
1.2 76.3 43.9 27.1 62.3 -0.4
1.3 76.8 44.0 29.0 62.7 +1.5
2.1 79.2 49.5 31.5 66.5
2.2 78.1 41.5 28.8 63.8 -2.7
2.3 74.1 42.5 25.2 60.7
2.4 73.2 42.1 24.7 58.8 -0.5
3.1 78.0 51.3 33.9 66.0
3.2 81.5 43.0 32.1 69.0 -1.8
3.3 75.2 46.1 29.3 62.7
3.4 79.6 42.5 28.4 66.8 -0.9
4.1 80.4 49.7 34.2 68.2 +0.3
4.2 77.6 46.1 29.8 64.0 +0.5
5.1 76.3 46.0 29.6 62.4
5.2 81.2 48.8 34.7 68.7 +0.8
5.3 78.3 41.6 29.8 64.2 +0.2
5.4 81.3 46.0 33.3 68.3 -1.4
6.1 74.4 40.9 26.9 60.0
6.2 76.0 43.3 28.3 61.8 +1.4
7.1 84.3 49.5 38.8 73.4 +4.9
7.2 83.8 50.5 39.3 72.4 +5.4
7.3 81.5 45.2 33.1 68.5 -0.8
8.1 83.2 48.9 37.8 71.2 +3.9
8.2 83.4 49.1 39.5 71.4 +5.6
8.3 83.7 51.1 40.7 71.9 +6.8
"""


def figures(miou: float, *, spread: float = 1.0, day_miou: float | None = 45.0) -> RowFigures:
    return RowFigures(
        accuracy=70.0,
        class_accuracy=40.0,
        miou=miou,
        miou_low=miou - spread,
        miou_high=miou + spread,
        fwiou=60.0,
        day_miou=day_miou,
        day_miou_low=None if day_miou is None else day_miou - 1,
        day_miou_high=None if day_miou is None else day_miou + 1,
    )


def line_of(page: str, start: str) -> str:
    (line,) = [line for line in page.splitlines() if line.startswith(start)]
    return line


def test_the_thesis_figures_are_those_it_prints() -> None:
    printed = [line.split() for line in PRINTED.strip().splitlines()]
    assert [row.row for row in THESIS_ROWS] == [cells[0] for cells in printed]
    miou = {row.row: row.miou for row in THESIS_ROWS}
    for row, (_, *cells) in zip(THESIS_ROWS, printed, strict=True):
        assert [row.accuracy, row.class_accuracy, row.miou, row.fwiou] == [float(cell) for cell in cells[:4]]
        gain = None if row.gain_over is None else f"{row.miou - miou[row.gain_over]:+.1f}"
        assert gain == (cells[4] if len(cells) == 5 else None), row.row
    assert {row.table for row in THESIS_ROWS} == {f"4.{number}" for number in range(3, 11)}
    assert [one.thesis for one in THESIS_DISTANCES] == [None, 98.39, 74.45, 97.68, 81.92]


@pytest.mark.parametrize(
    ("better", "worse", "expected"),
    [
        (Estimate(30, 28, 32), Estimate(20, 18, 22), "agrees"),
        (Estimate(20, 18, 22), Estimate(30, 28, 32), "disagrees"),
        (Estimate(30, 25, 35), Estimate(26, 24, 28), "cannot tell (intervals overlap)"),
        (Estimate(30, 28, 32), Estimate(34, 32, 36), "cannot tell (intervals overlap)"),
        (None, Estimate(20, 18, 22), "not yet run"),
    ],
)
def test_a_verdict_needs_intervals_that_do_not_overlap(better: Estimate | None, worse: Estimate, expected: str) -> None:
    assert verdict(better, worse) == expected


def test_rows_that_were_not_run_say_so_and_no_figure_stands_in() -> None:
    page = page_of(Ladder(rows={}, made={}, distances={}))
    row_lines = [line for line in page.splitlines() if line.startswith(tuple(f"| {row.row} |" for row in THESIS_ROWS))]
    assert len(row_lines) == 25
    assert all(line.split(" | ")[2:10] == ["not yet run", *[""] * 7] for line in row_lines)
    assert "agrees |" not in page
    assert "No row was run yet." in page


def test_gains_are_counted_from_the_thesis_row_and_shown_for_both() -> None:
    rows = {"3.1": figures(20.0), "8.3": figures(26.5, spread=0.5), "4.1": figures(19.5)}
    page = page_of(Ladder(rows=rows, made={}, distances={}))
    assert line_of(page, "| 8.3 |").split(" | ")[4:6] == ["26.5 (26.0–27.0)", "+6.5"]
    assert line_of(page, "| 8.3 |").split(" | ")[13] == "+6.8"
    assert line_of(page, "| 4.1 |").split(" | ")[5] == "-0.5"
    assert line_of(page, "| 8 | all together are better than day and night alone").startswith(
        "| 8 | all together are better than day and night alone | 8.3 > 3.1 | +6.8 | +6.5 | agrees |"
    )
    assert "| 4.1 > 3.1 | +0.3 | -0.5 | cannot tell (intervals overlap) |" in line_of(page, "| 4 | self-training")
    assert "| 5.2 > 3.1 | +0.8 |  | not yet run |" in line_of(page, "| 5 |")


def test_a_gain_without_its_base_is_left_out() -> None:
    page = page_of(Ladder(rows={"8.3": figures(26.5)}, made={}, distances={}))
    assert line_of(page, "| 8.3 |").split(" | ")[5] == ""


def test_day_against_night_is_read_off_one_row() -> None:
    page = page_of(Ladder(rows={"1.1": figures(20.0)}, made={}, distances={}))
    assert line_of(page, "| 1 | trained by day").startswith(
        "| 1 | trained by day, a network is poor at night | 1.1 by day > 1.1 | – | +25.0 | agrees |"
    )


def test_distances_stand_beside_the_thesis_and_a_rise_is_not_hidden() -> None:
    distances = {"day_to_night": 200.0, "plain_to_night": 210.0, "perceptual_to_night": 150.04}
    page = page_of(Ladder(rows={}, made={}, distances=distances))
    assert line_of(page, "| translated with perceptual loss ↔ real night") == (
        "| translated with perceptual loss ↔ real night | 150.0 | 97.68 |"
    )
    assert "without perceptual loss, day images are no nearer to real night than untranslated (210.0, 200.0)" in page
    assert "with perceptual loss, day images are nearer to real night than untranslated (150.0, 200.0)" in page


def metrics_of(miou: float) -> dict[str, object]:
    interval = [miou - 0.02, miou + 0.03]
    figures = {"miou": 0.1, "miou_present": miou, "pixel_accuracy": 0.7512, "class_accuracy": 0.4, "fwiou": 0.6}
    return {**figures, "ci95": {"miou": [0.0, 0.2], "miou_present": interval}, "iou": {"road": 0.9}, "images": 17}


def test_a_row_is_read_from_its_run_and_the_page_names_budget_and_seed(tmp_path: Path) -> None:
    run = tmp_path / "row_1_1"
    run.mkdir()
    (run / "metrics.json").write_text(
        json.dumps({"day": metrics_of(0.5), "night": metrics_of(0.25), "dusk": metrics_of(0.3)})
    )
    (run / "config.yaml").write_text(
        "{steps: 400, batch_size: 8, seed: 3, self_training: {batch_size: 2}, augmentation: {crop_px: 192}, "
        "network: {name: panoptic_fpn, encoder: mobilenet_v2, input_px: 320}}"
    )
    write_row([str(run)])
    main(["--runs", str(tmp_path), "--out", str(tmp_path / "ladder.md")])
    page = (tmp_path / "ladder.md").read_text(encoding="utf-8")
    assert line_of(page, "| 1.1 |").split(" | ")[2:8] == [
        "75.1",
        "40.0",
        "25.0 (23.0–28.0)",
        "",
        "60.0",
        "50.0 (48.0–53.0)",
    ]
    assert "- 1.1: panoptic_fpn on mobilenet_v2, 320² input; 400 steps of 10 images, 192² crops, seed 3; " in page


def test_a_row_on_the_translated_test_set_has_no_day_figures() -> None:
    assert asdict(row_figures({"night": metrics_of(0.25)}))["day_miou"] is None


def test_unusable_input_is_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="nowhere is not a folder"):
        main(["--runs", str(tmp_path / "nowhere"), "--out", str(tmp_path / "page.md")])
    with pytest.raises(SystemExit, match=r"metrics\.json holds no figures of a night test set"):
        write_row([str(tmp_path)])
    (tmp_path / "row_1_1").mkdir()
    (tmp_path / "row_1_1" / "figures.json").write_text('{"miou": 3')
    with pytest.raises(SystemExit, match=r"figures\.json cannot be read"):
        main(["--runs", str(tmp_path), "--out", str(tmp_path / "page.md")])
    (tmp_path / "row_1_1" / "figures.json").write_text('{"miou": 3}')
    with pytest.raises(SystemExit, match=r"missing .*; run training\.ladder_row"):
        main(["--runs", str(tmp_path), "--out", str(tmp_path / "page.md")])


def test_every_lesson_is_judged_on_each_test_set_that_both_rows_have() -> None:
    dusk = {"dusk_miou": 40.0, "dusk_miou_low": 39.0, "dusk_miou_high": 41.0}
    better = RowFigures(**{**asdict(figures(20.0)), **dusk})
    worse = RowFigures(**{**asdict(figures(19.5)), **dusk, "dusk_miou": 30.0, "dusk_miou_high": 31.0})
    page = page_of(Ladder(rows={"3.1": better, "2.1": worse, "3.3": figures(15.0)}, made={}, distances={}))
    assert line_of(page, "| 3 | perceptual loss").endswith(
        "| +0.5 | cannot tell (intervals overlap) | – | – | +10.0 | agrees |"
    )
    assert line_of(page, "| 3 | a test set translated").endswith("| +5.0 | agrees | – | – | – | – |")


def test_a_row_beyond_the_thesis_stands_among_the_others_without_its_figures() -> None:
    page = page_of(Ladder(rows={"4.3": figures(20.0), "3.1": figures(19.0)}, made={}, distances={}))
    assert line_of(page, "| 4.3 |").split(" | ")[5] == "+1.0"
    assert line_of(page, "| 4.3 |").endswith("| – | – | – | – | – |")
    rows = [line.split(" | ")[0] for line in page.splitlines() if line.startswith(("| 4.", "| 5.1"))]
    assert rows == ["| 4.1", "| 4.2", "| 4.3", "| 5.1"]


def test_the_thesis_is_cited() -> None:
    page = page_of(Ladder(rows={}, made={}, distances={}))
    assert "Nguyen Thanh Danh and Phan Nguyen" in page
    assert "Semantic image segmentation in the dark with domain adaptation method" in page


def test_figures_are_written_where_they_are_committed(tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "figures" / "row_1_1"
    run.mkdir()
    (run / "metrics.json").write_text(json.dumps({"night": metrics_of(0.25)}))
    write_row([str(run), "--out", str(out)])
    assert sorted(path.name for path in out.iterdir()) == ["figures.json", "made.json"]


def test_a_second_seed_stands_beside_the_first_and_a_row_without_one_says_so() -> None:
    first = Ladder(rows={"1.1": figures(20.0), "3.1": figures(22.0), "7.2": figures(25.0)}, made={}, distances={})
    second = Ladder(rows={"1.1": figures(21.0), "3.1": figures(20.5)}, made={}, distances={})
    after = page_of(first, second).partition("## A second seed")[2]
    assert line_of(after, "| 1.1 |").split(" | ")[1:4] == ["20.0", "21.0", "+1.0"]
    assert line_of(after, "| 3.1 |").split(" | ")[1:4] == ["22.0", "20.5", "-1.5"]
    assert line_of(after, "| 7.2 |").split(" | ")[1] == "not yet run"
    assert "changes the night mIoU of a row by up to 1.5 points" in after
    assert "## A second seed" not in page_of(first)
