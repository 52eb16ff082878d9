"""report.html of a fleet, with the pictures of its worst frames in it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from darkseg_ros.evaluation.fleet.comparison import Comparison, FallenDrive
from darkseg_ros.evaluation.fleet.summary import Figures, FleetResult, JudgedDrive, RankedFrame
from darkseg_ros.evaluation.thresholds import ThresholdResult
from darkseg_ros.pictures.report_shell import Card, Picture, interval_text, percent, render

_SHOWN_FALLEN = 100
_GROUP_TITLES = {"camera": "Cameras", "hour": "Hours", "level": "Darkness"}


@dataclass(frozen=True)
class _GroupRow:
    name: str
    figures: Figures


@dataclass(frozen=True)
class _Shown:
    """A frame with its picture."""

    drive: str
    what: str
    pictures: tuple[Picture, ...]


def render_fleet_page(
    result: FleetResult,
    *,
    name: str,
    thresholds: Sequence[ThresholdResult],
    comparison: Comparison | None,
    repeat: Sequence[str],
    date: str,
) -> str:
    """A whole HTML document.

    Args:
        result: the figures.
        name: of the fleet, for the head.
        thresholds: as `thresholds.judge_figures` gives them.
        comparison: with an earlier evaluation, if asked for.
        repeat: the commands that repeat the worst drives, one for each of `worst_drives` and then `least_trusted`.
        date: for the head.
    """
    labelled = result.figures["images"] != 0
    fallen: list[FallenDrive] = [] if comparison is None else comparison.worst_first()
    drives = [*result.worst_drives, *result.least_trusted]
    commands = dict(zip((each.drive.place for each in drives), repeat, strict=True))
    return render(
        "fleet.html",
        kind="Fleet evaluation",
        input=name,
        model=result.bundle or "as recorded",
        engine=result.backend,
        date=date,
        result=result,
        figures=result.figures,
        labelled=labelled,
        thresholds=thresholds,
        passed=all(threshold.passed for threshold in thresholds),
        cards=_cards(result, thresholds),
        groups=[
            (_GROUP_TITLES.get(kind, kind), [_GroupRow(value, figures) for value, figures in values.items()])
            for kind, values in result.groups.items()
        ],
        commands=commands,
        frames=[_shown(frame, labelled=labelled) for frame in result.worst_frames],
        comparison=comparison,
        fallen=fallen[:_SHOWN_FALLEN],
        fallen_more=max(0, len(fallen) - _SHOWN_FALLEN),
        drive_tables=[
            table
            for table in (
                ("Worst drives first", "By the mean IoU of the classes in their label maps.", result.worst_drives),
                (
                    "Least trusted drives first",
                    "They have no label maps: trust is consistency × mean confidence × healthy share × dispersity.",
                    result.least_trusted,
                ),
            )
            if table[2]
        ],
        tags_text=_tags_text,
    )


def _cards(result: FleetResult, thresholds: Sequence[ThresholdResult]) -> list[Card]:
    figures = result.figures

    def judged(*names: str) -> bool | None:
        verdicts = [threshold.passed for threshold in thresholds if threshold.figure in names]
        return all(verdicts) if verdicts else None

    failed = int(figures["failed_drives"] or 0)
    cards = [
        Card(
            "drives",
            f"{int(figures['drives'] or 0):,}",
            f"{failed:,} could not be judged",
            good=False if failed else judged("drives", "failed_drives"),
        ),
        Card("frames", f"{int(figures['frames'] or 0):,}", f"{int(figures['images'] or 0):,} with a label map"),
    ]
    if figures["images"]:
        note = f"classes in the labels; {interval_text(result.ci95['miou_present'])}, over drives"
        cards += [
            Card("mIoU present", percent(figures["miou_present"]), note, good=judged("miou_present")),
            Card("mIoU", percent(figures["miou"]), interval_text(result.ci95["miou"]), good=judged("miou")),
            Card("pixel accuracy", percent(figures["pixel_accuracy"]), "", good=judged("pixel_accuracy")),
            Card("calibration error", percent(figures["ece"]), "expected (ECE)", good=judged("ece")),
        ]
    cards += [
        Card(
            "consistency", percent(figures["consistency"]), "frame to frame, along the flow", good=judged("consistency")
        ),
        Card("mean confidence", percent(figures["mean_confidence"]), "over all pixels", good=judged("mean_confidence")),
        Card("healthy camera", percent(figures["healthy_share"]), "of the frames", good=judged("healthy_share")),
        Card("dispersity", percent(figures["dispersity"]), "how evenly classes are seen", good=judged("dispersity")),
        Card("trust", percent(figures["trust"]), "the product of these four", good=judged("trust")),
    ]
    return cards


def _shown(ranked: RankedFrame, *, labelled: bool) -> _Shown:
    frame = ranked.frame
    figure = "mIoU" if labelled else "mean confidence"
    pictures: tuple[Picture, ...] = ()
    if frame.picture:
        caption = "camera, class map, errors" if labelled else "camera, class map"
        source = f"data:image/jpeg;base64,{base64.b64encode(frame.picture).decode()}"
        pictures = (Picture(source, caption, f"of {ranked.drive.name} at {frame.name} s"),)
    return _Shown(ranked.drive.name, f"{ranked.camera} at {frame.name} s · {figure} {percent(frame.value)}", pictures)


def _tags_text(drive: JudgedDrive) -> str:
    return ", ".join(drive.tags.values())
