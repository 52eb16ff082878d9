from __future__ import annotations

import base64
import itertools
import re
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import cv2
import jinja2
import numpy as np
import pytest

from darkseg_ros.pictures.report_shell import (
    Bar,
    Card,
    Line,
    Tick,
    drawing_uri,
    interval_text,
    milliseconds,
    nice_ceiling,
    now_text,
    path_of,
    percent,
    photo_uri,
    render,
    small_percent,
)

HEAD = {"kind": "Demo", "input": "night <1>", "model": "slim & fast", "engine": None, "date": "2026-11-28 06:00 +0000"}


def decoded(uri: str) -> np.ndarray:
    picture = cv2.imdecode(np.frombuffer(base64.b64decode(uri.partition(",")[2]), np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    return picture


def test_the_title_says_what_which_model_which_input_and_when() -> None:
    page = render("shell.html", **HEAD)
    assert page.startswith("<!DOCTYPE html>")
    assert "<title>Demo: slim &amp; fast on night &lt;1&gt;, 2026-11-28 06:00 +0000</title>" in page
    assert "<h1>night &lt;1&gt;</h1>" in page
    assert "night <1>" not in page


def test_a_value_that_a_page_lacks_is_an_error_and_no_gap() -> None:
    with pytest.raises(jinja2.UndefinedError, match="'date' is undefined"):
        render("shell.html", **{key: value for key, value in HEAD.items() if key != "date"})


def test_a_line_breaks_where_a_point_is_missing_and_a_point_alone_is_a_dot() -> None:
    assert path_of([(0, 1), (2, 3.14159), None, (4, 5)]) == "M0.0 1.0h0L2.0 3.1M4.0 5.0h0"


@pytest.mark.parametrize(("value", "ceiling"), [(1, 1), (1.01, 1.5), (7, 8), (33.3, 40), (0.0021, 0.003), (0, 0.001)])
def test_axes_end_at_round_numbers(value: float, ceiling: float) -> None:
    assert nice_ceiling(value) == pytest.approx(ceiling)


def test_pictures_keep_960_pixels_so_that_enlarging_shows_more() -> None:
    picture = np.full((1000, 2000, 3), (10, 100, 200), np.uint8)
    for uri in (photo_uri(picture), drawing_uri(picture)):
        assert decoded(uri).shape == (480, 960, 3)
    assert decoded(photo_uri(picture[:50, :70])).shape == (50, 70, 3)


def test_pictures_that_compress_badly_get_smaller() -> None:
    noise = np.random.default_rng(1).integers(0, 256, (512, 1024, 3), np.uint8)
    assert decoded(photo_uri(noise)).shape == (200, 400, 3)


def test_drawings_keep_their_colours() -> None:
    classes = np.zeros((512, 1024, 3), np.uint8)
    classes[:, 512:] = (180, 130, 70)
    assert {tuple(colour) for colour in np.unique(decoded(drawing_uri(classes)).reshape(-1, 3), axis=0)} == {
        (0, 0, 0),
        (180, 130, 70),
    }


def test_templates_are_installed_with_the_package(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[3]
    command = [sys.executable, "-W", "ignore", "setup.py", "--quiet", "build_py", "--build-lib", str(tmp_path)]
    subprocess.run([*command, "egg_info", "--egg-base", str(tmp_path)], cwd=root, check=True, timeout=120)
    here = {path.name for path in (root / "darkseg_ros" / "pictures" / "templates").iterdir()}
    assert {path.name for path in (tmp_path / "darkseg_ros" / "pictures" / "templates").iterdir()} == here
    assert "shell.html" in here


def test_templates_reach_for_nothing_outside_the_file() -> None:
    for path in (Path(__file__).resolve().parents[3] / "darkseg_ros" / "pictures" / "templates").iterdir():
        text = path.read_text(encoding="utf-8")
        # a report is a file that is passed on and runs nothing; the live page asks its own server for the next frame
        script = r"<script\s" if path.name == "live.html" else "<script"
        assert not re.search(rf"https?:|url\(|@import|{script}|\son\w+=|\|\s*safe", text), path.name


def test_figures_have_one_decimal_and_a_dash_where_there_are_none() -> None:
    assert (milliseconds(12.34), milliseconds(None)) == ("12.3 ms", "–")
    assert (percent(0.1234), percent(0.0), percent(None)) == ("12.3 %", "0.0 %", "–")
    assert interval_text((0.1234, 0.2)) == "95 % interval 12.3…20.0"


@pytest.mark.parametrize(
    ("share", "text"), [(0, "–"), (0.0009, "< 0.1 %"), (0.001, "0.1 %"), (0.5, "50.0 %"), (1, "100.0 %")]
)
def test_a_small_share_is_never_shown_as_nothing(share: float, text: str) -> None:
    assert small_percent(share) == text


def test_pictures_narrower_than_the_page_keep_their_size_and_flat_ones_a_row() -> None:
    assert decoded(drawing_uri(np.zeros((30, 960, 3), np.uint8))).shape == (30, 960, 3)
    assert decoded(drawing_uri(np.zeros((1, 2000, 3), np.uint8))).shape == (1, 960, 3)


def test_photos_are_jpegs_and_drawings_are_not() -> None:
    picture = np.zeros((8, 8, 3), np.uint8)
    assert photo_uri(picture).startswith("data:image/jpeg;base64,/9j/")
    assert drawing_uri(picture).startswith("data:image/png;base64,iVBOR")


def test_the_date_of_a_page_is_this_minute() -> None:
    told = datetime.strptime(now_text(), "%Y-%m-%d %H:%M %z")
    assert timedelta(0) <= datetime.now().astimezone() - told < timedelta(minutes=2)


def test_parts_of_a_chart_are_values() -> None:
    assert Line("M0 0") == Line("M0 0", css="first")
    assert Bar(1, 2, 3) == Bar(x=1, width=2, height=3)
    assert Tick(1, 2, "late") == Tick(x=1, height=2, css="late")
    assert Card("mIoU", "0.5", "of 17") == Card("mIoU", "0.5", "of 17", good=None)


@pytest.mark.parametrize("power", [0.01, 1.0, 1000.0])
def test_round_numbers_are_those_of_the_table_and_nothing_between(power: float) -> None:
    steps = [1, 1.5, 2, 3, 4, 5, 6, 8, 10]
    for below, step in itertools.pairwise(steps):
        assert nice_ceiling(power * step * 0.999) == pytest.approx(power * step)
        assert nice_ceiling(power * below * 1.001) == pytest.approx(power * step)


def test_a_path_of_no_points_is_empty_and_one_that_begins_with_a_gap_begins_behind_it() -> None:
    assert path_of([]) == path_of([None, None]) == ""
    assert path_of([None, (1, 2), (3, 4), None, None, (5, 6), (7, 8)]) == "M1.0 2.0h0L3.0 4.0M5.0 6.0h0L7.0 8.0"


def test_pictures_get_only_as_small_as_they_must() -> None:
    """Of a picture of so much noise, the widest copy of 960, 640 and 400 pixels that takes 90 kB or less."""
    rng = np.random.default_rng(1)
    widths = []
    for noisy_rows in (40, 130, 480):
        picture = np.zeros((480, 960, 3), np.uint8)
        picture[:noisy_rows] = rng.integers(0, 256, (noisy_rows, 960, 3), np.uint8)
        uri = photo_uri(picture)
        widths.append(decoded(uri).shape[1])
        assert widths[-1] == 400 or len(base64.b64decode(uri.partition(",")[2])) <= 90_000
    assert widths == [960, 640, 400]


def test_shares_are_told_in_per_cent() -> None:
    assert percent(1.0) == "100.0 %"
    assert small_percent(0.00101) == "0.1 %"
    assert milliseconds(0.0) == "0.0 ms"
    assert interval_text((0.0, 1.0)) == "95 % interval 0.0…100.0"
