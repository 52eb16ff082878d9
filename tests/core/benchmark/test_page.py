from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from darkseg_ros.benchmark.figures import Ratio
from darkseg_ros.benchmark.page import render_page
from darkseg_ros.benchmark.report import BenchmarkReport
from tests.core.benchmark.reports import CONTESTANT, GOAL, REPORT, with_reference

VOID = {"meta", "br"}


class Outline(HTMLParser):
    """The tags, each of which must be closed by its own, and the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


REPORTS = [
    REPORT,
    with_reference(Ratio(0.2, 0.1, 0.3), latency_ms=20),
    replace(REPORT, ros=None, goals=(replace(GOAL, measured=None),)),
    replace(REPORT, ros=replace(REPORT.ros, highest=None, runs=(), engine_load_s=None), goals=()),
    replace(REPORT, contestants=(replace(CONTESTANT, energy_j_per_frame=0.5), replace(CONTESTANT, name="x"))),
]


@pytest.mark.parametrize("report", REPORTS)
def test_the_page_is_whole_and_needs_nothing_else(report: BenchmarkReport) -> None:
    page = render_page(report)
    outline = Outline(page)
    assert page.startswith("<!DOCTYPE html>")
    assert outline.open == []
    assert {"script", "link", "img", "iframe"}.isdisjoint(outline.tags)
    assert "://" not in page
    assert "$" not in page


def test_names_from_elsewhere_are_text() -> None:
    evil = "<script>$x&'\""
    page = render_page(
        replace(
            with_reference(Ratio(0.2, 0.1, 0.3), latency_ms=20),
            contestants=(replace(CONTESTANT, name=evil, description=evil, ratio=Ratio(1, 1, 1)),),
            reference=evil,
            input=replace(REPORT.input, name=evil, sha256=evil),
            machine=replace(REPORT.machine, cpu_model=evil, kernel=evil, governor=evil, gpus=(evil,)),
            versions={evil: evil},
            goals=(replace(GOAL, text=evil, unit=evil, note=evil),),
            date=evil,
        )
    )
    outline = Outline(page)
    assert "script" not in outline.tags
    # shown about twenty times; the date and the versions' names are cut or joined
    assert outline.text.count(evil) >= 15


def test_the_figures_are_on_the_page() -> None:
    text = Outline(render_page(REPORT)).text
    for shown in ("20.0 / 22.0 / 30.0 ms", "280 MB", "0.900 s", "35.0 ms", "50.0", "44.0 Hz", "290 MB", "ab" * 32):
        assert shown in text
    assert "no counter that may be read" in text
    assert "2.0 %" in text  # drops at 30 Hz


def test_bars_are_as_long_as_their_figures() -> None:
    # p99 of all is 30, and so is the end of the track
    widths = re.findall(r'class="p(50|95|99)" style="width:([\d.]+)%"', render_page(replace(REPORT, ros=None)))
    assert widths[:3] == [("99", "100.00"), ("95", "73.33"), ("50", "66.67")]


def test_goals_are_judged() -> None:
    goals = (GOAL, replace(GOAL, measured=301.0), replace(GOAL, measured=None))
    outline = Outline(render_page(replace(REPORT, goals=goals)))
    assert "1 of 3" in outline.text
    assert "1 missed, 1 not measured" in outline.text


def test_a_busy_machine_is_told() -> None:
    busy = replace(REPORT, machine=replace(REPORT.machine, load_average_before=5.0))
    assert "The machine was busy: load average 5.0" in Outline(render_page(busy)).text
    assert "The machine was busy" not in Outline(render_page(REPORT)).text
