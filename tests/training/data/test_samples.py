from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch

from darkseg_ros.night.cheap_night import CheapNight
from training.data.augmentation import Augmentation
from training.data.draws import draw_evenly
from training.data.pairs import find_labelled_pool
from training.data.random_streams import Stream
from training.data.samples import LabelledSamples

SETTINGS = Augmentation(view_px=24, crop_px=16, scale_min=1.0, scale_max=2.0, jitter=0.0)


def write(folder: Path, stem: str, hw: tuple[int, int]) -> None:
    for part in ("image", "label"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    cv2.imwrite(str(folder / "image" / f"{stem}.png"), rng.integers(0, 256, (*hw, 3), np.uint8))
    cv2.imwrite(str(folder / "label" / f"{stem}.png"), rng.integers(0, 19, hw).astype(np.uint8))


def samples_of(folders: list[object], *, order: Stream, view: Stream, seed: int = 0) -> LabelledSamples:
    pairs = find_labelled_pool(folders)  # type: ignore[arg-type]
    return LabelledSamples(
        pairs,
        [],
        draw=draw_evenly(len(pairs), seed=seed, order=order),
        augmentation=SETTINGS,
        cheap_night=CheapNight(share=0.0),
        seed=seed,
        view=view,
    )


def test_labelled_and_night_images_of_a_position_are_cropped_apart(tmp_path: Path) -> None:
    write(tmp_path, "a", (24, 24))
    day = samples_of([tmp_path], order=Stream.LABELLED_ORDER, view=Stream.LABELLED_VIEW)
    night = samples_of([tmp_path], order=Stream.NIGHT_ORDER, view=Stream.NIGHT_VIEW)
    same = [torch.equal(day[position]["labels"], night[position]["labels"]) for position in range(40)]
    assert sum(same) <= 1  # with one stream all 40 were


def test_sources_of_other_shapes_and_classes_are_in_one_pool(tmp_path: Path) -> None:
    write(tmp_path / "square", "a", (24, 24))
    write(tmp_path / "wide", "b", (18, 32))
    samples = samples_of(
        [tmp_path / "square", {"folder": tmp_path / "wide", "ignore": ["car"]}],
        order=Stream.LABELLED_ORDER,
        view=Stream.LABELLED_VIEW,
    )
    labels = [samples[position]["labels"] for position in range(20)]
    assert {tuple(each.shape) for each in labels} == {(16, 16)}
    with_car = [bool((each == 13).any()) for each in labels]
    assert any(with_car)  # of the square images
    assert not all(with_car)  # the wide ones' cars are no ground truth


def test_an_order_is_another_in_each_epoch() -> None:
    draw = draw_evenly(20, seed=3, order=Stream.LABELLED_ORDER)
    epochs = [[draw(epoch * 20 + offset) for offset in range(20)] for epoch in range(3)]
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
