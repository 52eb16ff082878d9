from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from darkseg_ros.classes import CITYSCAPES
from darkseg_ros.errors import InputError
from darkseg_ros.evaluation.disturbances import disturbed
from darkseg_ros.evaluation.folder import evaluate_files
from darkseg_ros.frames.bad_frames import BadFrames
from darkseg_ros.frames.labelled import LabelledImage, pair_files, read_labelled, train_id_format
from darkseg_ros.model.segmenter import Segmenter
from tests.bundles import write_tiny_bundle

HW = (64, 96)


@pytest.fixture
def pairs(tmp_path: Path) -> list[LabelledImage]:
    rng = np.random.default_rng(0)
    for folder in ("image", "label"):
        (tmp_path / folder).mkdir()
    for index in range(3):
        cv2.imwrite(str(tmp_path / f"image/{index}.png"), rng.integers(0, 90, (*HW, 3), np.uint8))
        cv2.imwrite(str(tmp_path / f"label/{index}.png"), rng.integers(0, 19, HW, np.uint8))
    return pair_files(tmp_path / "image", tmp_path / "label", train_id_format(CITYSCAPES))


@pytest.fixture
def segmenter(tmp_path: Path) -> Segmenter:
    return Segmenter.open(write_tiny_bundle(tmp_path / "bundle", HW), backend="fake")


def test_pixels_of_a_drawn_object_count_in_the_trust_of_unknown_objects_alone(
    pairs: list[LabelledImage], segmenter: Segmenter
) -> None:
    plain = evaluate_files(segmenter, pairs)
    assert plain.metrics.unknown is None
    result = evaluate_files(segmenter, pairs, disturbance="unknown")
    assert result.metrics.unknown is not None
    drawn = sum(int(disturbed(read_labelled(pair)[0], "unknown", index)[1].sum()) for index, pair in enumerate(pairs))
    assert drawn > 0
    assert plain.confusion.sum() - result.confusion.sum() == drawn


def test_a_pair_that_cannot_be_read_is_told_and_left_out(pairs: list[LabelledImage], segmenter: Segmenter) -> None:
    pairs[1].label.write_bytes(b"no picture")
    bad_frames = BadFrames(strict=False)
    assert evaluate_files(segmenter, pairs, bad_frames=bad_frames).metrics.images == 2
    assert bad_frames.count == 1
    with pytest.raises(InputError, match=r"1\.png"):
        evaluate_files(segmenter, pairs)


def test_pairs_without_a_label_are_an_error(pairs: list[LabelledImage], segmenter: Segmenter) -> None:
    for pair in pairs:
        cv2.imwrite(str(pair.label), np.full(HW, 255, np.uint8))
    with pytest.raises(InputError, match=r"0\.png and all others: "):
        evaluate_files(segmenter, pairs)


@pytest.mark.parametrize("name", ["flare", "raindrops"])
def test_what_hides_no_class_leaves_every_label(name: str, pairs: list[LabelledImage], segmenter: Segmenter) -> None:
    result = evaluate_files(segmenter, pairs, disturbance=name)
    assert result.confusion.sum() == 3 * HW[0] * HW[1]
    assert result.metrics.unknown is None


def test_the_report_shows_the_frames_as_the_model_saw_them(pairs: list[LabelledImage], segmenter: Segmenter) -> None:
    result = evaluate_files(segmenter, pairs, disturbance="flare")
    shown = {frame.name: frame.image() for frame in result.shown}
    for index, pair in enumerate(pairs):
        expected, _ = disturbed(read_labelled(pair)[0], "flare", index)
        np.testing.assert_array_equal(shown[pair.image.name], expected)
