"""A second opinion on objects by night: an object detector's boxes, held against a segmenting teacher's answers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from darkseg_ros.classes import CITYSCAPES, IGNORE_INDEX, ClassTable
from darkseg_ros.errors import InputError

NO_LARGE_VEHICLE = 254
"""Value of an opinion map where no box of a vehicle is near: neither truck nor bus nor train."""

TRAIN_ID_OF_COCO = {
    0: CITYSCAPES.train_ids["person"],
    1: CITYSCAPES.train_ids["bicycle"],
    2: CITYSCAPES.train_ids["car"],
    3: CITYSCAPES.train_ids["motorcycle"],
    5: CITYSCAPES.train_ids["bus"],
    6: CITYSCAPES.train_ids["train"],
    7: CITYSCAPES.train_ids["truck"],
    9: CITYSCAPES.train_ids["traffic light"],
}
"""COCO's class index → train id, for what both know."""

_LARGE_VEHICLES = ("truck", "bus", "train")
_VEHICLES = [CITYSCAPES.train_ids[name] for name in ("car", *_LARGE_VEHICLES)]
_SLIM = [CITYSCAPES.train_ids[name] for name in ("person", "bicycle", "motorcycle")]
_CORE_OF_SLIM, _CORE = 0.6, 0.75  # of the superellipse that fills a box
_EXPONENT_OF_SLIM, _EXPONENT = 2.0, 3.0
_NEAR = 0.1  # of a box's width and height, around it
_BONNET_WIDTH, _BONNET_BOTTOM = 0.5, 0.88  # a box as wide that reaches as low is the own car


@dataclass(frozen=True)
class Box:
    """A detected object.

    Attributes:
        corners: left, top, right, bottom as shares of the image's width and height.
        train_id: of its class among Cityscapes', whatever the segmenter's table.
        score: 0…1.
    """

    corners: tuple[float, float, float, float]
    train_id: int
    score: float


def write_boxes(path: Path, boxes: dict[str, list[Box]]) -> None:
    """Write the boxes of images by their stem, as JSON."""
    content = {
        stem: [[*(round(side, 4) for side in box.corners), box.train_id, round(box.score, 3)] for box in found]
        for stem, found in boxes.items()
    }
    path.write_text(json.dumps(content), encoding="utf-8")


def read_boxes(path: Path) -> dict[str, list[Box]]:
    """What `write_boxes` wrote.

    Raises:
        InputError: if the file is missing or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {
            stem: [Box((float(a), float(b), float(c), float(d)), int(train_id), float(score))
                   for a, b, c, d, train_id, score in rows]
            for stem, rows in content.items()
        }  # fmt: skip
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{path} holds no boxes ({error}); make it with training.detect_objects") from error


def opinion_map(
    boxes: list[Box], size_hw: tuple[int, int], *, score_min: float, classes: ClassTable = CITYSCAPES
) -> np.ndarray:
    """The detector's opinion of every pixel.

    Args:
        boxes: of one image, of any score.
        size_hw: of the map.
        score_min: boxes from this score on are believed; weaker ones only make a vehicle possible.
        classes: of the segmenter; the detector has no opinion where its class has another name, or none, there.

    Returns:
        (H, W) uint8: a train id of `classes` inside the core of a box that is believed, `NO_LARGE_VEHICLE` far from any
        vehicle's box, IGNORE_INDEX where the detector has no opinion.
    """
    height, width = size_hw
    opinion = np.full(size_hw, NO_LARGE_VEHICLE, np.uint8)
    boxes = [box for box in boxes if not _is_own_bonnet(box)]
    for box in boxes:
        if box.train_id in _VEHICLES:
            opinion[_around(box, size_hw)] = IGNORE_INDEX
    for box in sorted(boxes, key=lambda box: box.score):
        if box.score < score_min:
            continue
        slim = box.train_id in _SLIM
        left, top, right, bottom = box.corners
        x = ((np.arange(width) + 0.5) / width - (left + right) / 2) / max((right - left) / 2, 1e-6)
        y = ((np.arange(height) + 0.5) / height - (top + bottom) / 2) / max((bottom - top) / 2, 1e-6)
        exponent = _EXPONENT_OF_SLIM if slim else _EXPONENT
        inside = (np.abs(y) ** exponent)[:, None] + (np.abs(x) ** exponent)[None, :]
        opinion[inside <= (_CORE_OF_SLIM if slim else _CORE)] = box.train_id
    values = np.full(256, IGNORE_INDEX, np.uint8)
    values[NO_LARGE_VEHICLE] = NO_LARGE_VEHICLE
    for name, train_id in classes.train_ids.items():
        if name in CITYSCAPES.train_ids:
            values[CITYSCAPES.train_ids[name]] = train_id
    return values[opinion]


def consider(probabilities: Tensor, opinion: Tensor, *, weight: float, classes: ClassTable = CITYSCAPES) -> Tensor:
    """A teacher's answers after the detector was heard.

    Where the detector names a class, the answer moves towards it by `weight`. Where it sees no vehicle, the
    probabilities of truck, bus and train go to the other classes, again by `weight`.

    Args:
        probabilities: (B, K, h, w), summing to 1 over the classes.
        opinion: (B, h, w) int64 of `opinion_map`.
        weight: of the detector, 0…1.
        classes: of the answers and the opinion.

    Returns:
        (B, K, h, w), summing to 1.
    """
    vetoed = (opinion == NO_LARGE_VEHICLE)[:, None]
    kept = probabilities.clone()
    large = [classes.train_ids[name] for name in _LARGE_VEHICLES if name in classes.train_ids]
    kept[:, large] = torch.where(vetoed, (1 - weight) * kept[:, large], kept[:, large])
    kept = kept / kept.sum(1, keepdim=True).clamp(min=1e-6)
    named = opinion < probabilities.shape[1]
    seen = torch.nn.functional.one_hot(opinion * named, probabilities.shape[1]).movedim(-1, 1).to(kept.dtype)
    return torch.where(named[:, None], (1 - weight) * kept + weight * seen, kept)


def _is_own_bonnet(box: Box) -> bool:
    left, _, right, bottom = box.corners
    return right - left > _BONNET_WIDTH and bottom > _BONNET_BOTTOM


def _around(box: Box, size_hw: tuple[int, int]) -> tuple[slice, slice]:
    height, width = size_hw
    left, top, right, bottom = box.corners
    x, y = _NEAR * (right - left), _NEAR * (bottom - top)
    return (
        slice(max(int((top - y) * height), 0), max(int(np.ceil((bottom + y) * height)), 0)),
        slice(max(int((left - x) * width), 0), max(int(np.ceil((right + x) * width)), 0)),
    )
