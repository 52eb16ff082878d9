"""The page that `darkseg_ros.commands.demo` writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from darkseg_ros.classes import ClassTable
from darkseg_ros.pictures.report_shell import (
    CHART_WH,
    Card,
    Chart,
    Line,
    Picture,
    Tick,
    milliseconds,
    nice_ceiling,
    path_of,
    percent,
    photo_uri,
    render,
)

_TICK_HEIGHT = 14


@dataclass(frozen=True)
class DemoFigures:
    """The content of the demo's metrics.json.

    Attributes:
        input: name of the video, bag or generated drive.
        bundle: name of the model bundle.
        engine: backend, precision and library version.
        frame_hw: camera geometry.
        frames_in: images of the bag, each played once.
        frames_received: images that reached the node, by its own count.
        frames_out: class maps that came back.
        dropped: frames that the node left out on purpose, by reason; only reasons that occurred.
        lost: frames_in − frames_out − dropped: what the middleware lost before or after the node.
        stamps_and_frame_ids_match: every class map bears stamp and frame_id of an image, no image has two.
        age_p50_ms: age at publish: from handing the image to the player's middleware to the arrival of its
            class map, so transport both ways is in it. Null when no class map came.
        age_p95_ms: the same, 95th percentile.
        age_p99_ms: the same, 99th percentile.
        inference_p50_ms: time in the engine, median of the node's reports (one a second).
        node_latency_p50_ms: from arrival in the node to publication, by the node's own measure, its last 300
            frames.
        input_rate_hz: images a second, as played.
        rate_hz: class maps a second, as they came.
        miou: against the bag's label maps, mean over classes in label maps or class maps; null without them.
        miou_present: the same over classes in label maps.
        iou: of each class; null where it does not occur. Null as a whole without label maps.
    """

    input: str
    bundle: str
    engine: str
    frame_hw: tuple[int, int]
    frames_in: int
    frames_received: int
    frames_out: int
    dropped: dict[str, int]
    lost: int
    stamps_and_frame_ids_match: bool
    age_p50_ms: float | None
    age_p95_ms: float | None
    age_p99_ms: float | None
    inference_p50_ms: float | None
    node_latency_p50_ms: float | None
    input_rate_hz: float
    rate_hz: float | None
    miou: float | None
    miou_present: float | None
    iou: dict[str, float | None] | None


@dataclass(frozen=True)
class Moment:
    """One frame shown on the page.

    Attributes:
        time_s: since the first frame.
        camera_bgr: (H, W, 3) uint8.
        overlay_bgr: the same with the class map over it.
        label_bgr: the coloured label map, None where the bag has none.
    """

    time_s: float
    camera_bgr: np.ndarray
    overlay_bgr: np.ndarray
    label_bgr: np.ndarray | None


@dataclass(frozen=True)
class FrameAge:
    """Age of one frame's class map when it arrived; None where none came."""

    time_s: float
    age_ms: float | None


def render_page(
    figures: DemoFigures,
    *,
    classes: ClassTable,
    generated: bool,
    date: str,
    video_name: str,
    moments: Sequence[Moment],
    ages: Sequence[FrameAge],
    pixel_share: np.ndarray,
) -> str:
    """Write the page.

    Args:
        figures: the numbers.
        classes: K classes of the model.
        generated: whether the drive is a generated one.
        date: for the head.
        video_name: file name of the overlay video, beside the page.
        moments: frames to show, in their order.
        ages: of all frames, in their order.
        pixel_share: (K,) float share of each class in all class maps, 0…1.

    Returns:
        A whole HTML document.
    """
    height, width = figures.frame_hw
    return render(
        "demo.html",
        kind="Demo",
        input=figures.input,
        model=figures.bundle,
        engine=figures.engine,
        date=date,
        figures=figures,
        generated=generated,
        frame_wh=(width, height),
        video_name=video_name,
        cards=_cards(figures),
        chart=_age_chart(ages),
        moments=[_shown(moment) for moment in moments],
        classes=classes.rows,
        pixel_shares=list(zip(classes.rows, pixel_share.tolist(), strict=True)),
        largest_share=max(float(pixel_share.max()), 1e-9),
    )


def _cards(figures: DemoFigures) -> list[Card]:
    dropped = sum(figures.dropped.values())
    reasons = ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in figures.dropped.items())
    cards = [
        Card("frames in", str(figures.frames_in), f"{figures.frames_received} reached the node"),
        Card("class maps out", str(figures.frames_out), _stamp_note(figures), good=figures.lost == 0),
        Card("dropped", str(dropped), reasons or "none left out on purpose", good=dropped == 0),
        Card("lost", str(figures.lost), "by the middleware, on either way", good=figures.lost == 0),
        Card(
            "age at publish",
            milliseconds(figures.age_p50_ms),
            f"p95 {milliseconds(figures.age_p95_ms)}, p99 {milliseconds(figures.age_p99_ms)}",
        ),
        Card(
            "inference",
            milliseconds(figures.inference_p50_ms),
            f"in the engine, of {milliseconds(figures.node_latency_p50_ms)} in the node",
        ),
    ]
    if figures.miou is not None:
        cards.append(Card("mIoU", percent(figures.miou), f"{percent(figures.miou_present)} over labelled classes"))
    return cards


def _stamp_note(figures: DemoFigures) -> str:
    if figures.stamps_and_frame_ids_match:
        return "each with stamp and frame_id of its image"
    return "some with a stamp or frame_id of no image"


def _age_chart(ages: Sequence[FrameAge]) -> Chart | None:
    """Age over time; frames without a class map are ticks at the bottom. None where no class map came."""
    width, height = CHART_WH
    known = [age.age_ms for age in ages if age.age_ms is not None]
    if not known:
        return None
    top_ms = nice_ceiling(max(known))
    end_s = max(ages[-1].time_s, 1e-9)
    points = (
        None if age.age_ms is None else (age.time_s / end_s * width, height - age.age_ms / top_ms * height)
        for age in ages
    )
    return Chart(
        title="age of each frame",
        top=f"{top_ms:g} ms",
        middle=f"{top_ms / 2:g} ms",
        start="",
        end=f"{end_s:.1f} s",
        lines=(Line(path_of(points)),),
        ticks=tuple(Tick(age.time_s / end_s * width, _TICK_HEIGHT, "missing") for age in ages if age.age_ms is None),
    )


@dataclass(frozen=True)
class _Shown:
    """A row of pictures of one moment."""

    time_s: float
    pictures: tuple[Picture, ...]


def _shown(moment: Moment) -> _Shown:
    pictures = [("camera", moment.camera_bgr), ("class map over camera", moment.overlay_bgr)]
    if moment.label_bgr is not None:
        pictures.append(("label map", moment.label_bgr))
    of = f"at {moment.time_s:.1f} s"
    return _Shown(moment.time_s, tuple(Picture(photo_uri(bgr), caption, of) for caption, bgr in pictures))
