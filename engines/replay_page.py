"""The page of what an accepted replay changed: pictures, share of pixels, and each class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from darkseg_ros.model.bundle import ModelBundle
from darkseg_ros.pictures.overlay import color_class_map
from darkseg_ros.pictures.report_shell import Picture, drawing_uri, now_text, photo_uri, render
from darkseg_ros.whole_files import write_whole

_PICTURES = 6
_WIDTH_PX = 480


@dataclass(frozen=True)
class Change:
    """What became of the answers to one drive by one instruction set.

    Attributes:
        name: of both.
        frames: gives the drive's frames, (H, W, 3) uint8 BGR; called where some of them are drawn.
        before: (N, h, w) uint8 sampled class maps of the reference.
        now: those that take its place.
    """

    name: str
    frames: Callable[[], Sequence[np.ndarray] | None]
    before: np.ndarray
    now: np.ndarray


@dataclass(frozen=True)
class ClassChange:
    """One class: its share of the pixels before and now, and the intersection over union of the two."""

    name: str
    before: float
    now: float
    iou: float | None


@dataclass(frozen=True)
class DriveChange:
    """One drive: the share of pixels that changed, the frames that did, each class, and the worst frames."""

    name: str
    share: float
    frames: str
    classes: list[ClassChange]
    rows: list[tuple[str, list[Picture]]]


def write_page(path: Path, changes: Sequence[Change], bundle: ModelBundle) -> None:
    """Write the page; without changes it says that there was no reference before."""
    html = render(
        "replay.html",
        kind="Replay",
        input="differences from the reference before",
        model=bundle.name,
        engine="",
        date=now_text(),
        drives=[_drive_change(change, bundle) for change in changes],
    )
    write_whole(path, html.encode())


def _drive_change(change: Change, bundle: ModelBundle) -> DriveChange:
    before, now = change.before, change.now
    shares = (before != now).mean(axis=(1, 2))
    most = [index for index in np.argsort(-shares, kind="stable")[:_PICTURES] if shares[index] > 0]
    frames = (change.frames() or ()) if most else ()
    return DriveChange(
        name=change.name,
        share=float(shares.mean()),
        frames=f"{np.count_nonzero(shares)} of {len(shares)}",
        classes=_class_changes(before, now, bundle),
        rows=[
            (f"frame {index}, {shares[index]:.2%} changed", _pictures(frames[index], before[index], now[index], bundle))
            for index in most
        ],
    )


def _class_changes(before: np.ndarray, now: np.ndarray, bundle: ModelBundle) -> list[ClassChange]:
    rows = []
    for train_id, name in enumerate(bundle.classes.names):
        was, becomes = before == train_id, now == train_id
        union = np.count_nonzero(was | becomes)
        iou = np.count_nonzero(was & becomes) / union if union else None
        rows.append(ClassChange(name, float(was.mean()), float(becomes.mean()), iou))
    return rows


def _pictures(bgr: np.ndarray, before: np.ndarray, now: np.ndarray, bundle: ModelBundle) -> list[Picture]:
    size_wh = (_WIDTH_PX, round(_WIDTH_PX * bgr.shape[0] / bgr.shape[1]))
    changed = np.where((before != now)[..., None], np.uint8(255), np.uint8(0)).repeat(3, axis=2)
    drawn = {
        "before": color_class_map(before, bundle.classes),
        "now": color_class_map(now, bundle.classes),
        "changed": changed,
    }
    return [Picture(photo_uri(cv2.resize(bgr, size_wh, interpolation=cv2.INTER_AREA)), "camera", "")] + [
        Picture(drawing_uri(cv2.resize(picture, size_wh, interpolation=cv2.INTER_NEAREST)), caption, "")
        for caption, picture in drawn.items()
    ]
