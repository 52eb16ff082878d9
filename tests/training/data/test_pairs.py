from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from darkseg_ros.errors import InputError
from darkseg_ros.frames.labelled import LabelledImage
from training.data.augmentation import Augmentation, augment_labelled
from training.data.class_balance import class_shares, class_weights
from training.data.draws import PositionSampler, RareClassDraw, draw_evenly
from training.data.network_input import network_input
from training.data.pairs import find_labelled_pool
from training.data.random_streams import Stream


def write_label(path: Path, values: np.ndarray) -> LabelledImage:
    cv2.imwrite(str(path), values.astype(np.uint8))
    return LabelledImage(image=path, label=path)


def test_network_input_is_normalised_rgb() -> None:
    bgr = np.zeros((1, 1, 3), np.uint8)
    bgr[0, 0] = (0, 0, 255)  # pure red
    values = network_input(bgr)[:, 0, 0].tolist()
    assert values == pytest.approx([(1 - 0.485) / 0.229, -0.456 / 0.224, -0.406 / 0.225])


def test_class_shares_count_unlabelled_pixels_for_no_class(tmp_path: Path) -> None:
    values = np.array([[0, 0, 18, 255]])
    shares = class_shares([write_label(tmp_path / "label.png", values)])
    assert shares.shape == (1, 19)
    assert shares[0, [0, 18]].tolist() == [0.5, 0.25]
    assert shares.sum() == 0.75


def test_a_folder_that_labels_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"labels no pixel"):
        class_shares([write_label(tmp_path / "label.png", np.full((2, 2), 255))])


def test_class_weights_fall_with_the_share_and_are_one_for_the_average_pixel() -> None:
    shares = np.zeros((1, 19))
    shares[0, 0], shares[0, 5] = 0.8, 0.2
    weights = class_weights(shares, exponent=0.5)
    assert weights[5] / weights[0] == pytest.approx(2)  # (0.8 / 0.2)^0.5
    assert 0.8 * weights[0] + 0.2 * weights[5] == pytest.approx(1)
    assert weights[7] == weights[5]  # never seen: as much as the rarest
    assert class_weights(shares, exponent=0.0).tolist() == pytest.approx([1.0] * 19)


def test_even_draws_visit_every_image_once_an_epoch() -> None:
    draw = draw_evenly(5, seed=3, order=Stream.LABELLED_ORDER)
    assert sorted(draw(position) for position in range(5)) == [0, 1, 2, 3, 4]
    assert sorted(draw(position) for position in range(5, 10)) == [0, 1, 2, 3, 4]


def test_rare_class_draws_prefer_the_only_image_with_the_rare_class() -> None:
    shares = np.zeros((9, 19))
    shares[:, 0] = 1.0
    shares[4, 0], shares[4, 16] = 0.9, 0.1  # one image in nine shows a train
    draw = RareClassDraw(shares, seed=0, share=1.0, temperature=0.1)
    assert np.mean([draw(position) == 4 for position in range(200)]) > 0.9


def test_processes_split_every_global_batch_between_them() -> None:
    whole = list(PositionSampler(start_step=2, stop_step=4, batch_size=4, rank=0, world_size=1))
    first = list(PositionSampler(start_step=2, stop_step=4, batch_size=4, rank=0, world_size=2))
    second = list(PositionSampler(start_step=2, stop_step=4, batch_size=4, rank=1, world_size=2))
    assert whole == [8, 9, 10, 11, 12, 13, 14, 15]
    assert first == [8, 9, 12, 13]
    assert second == [10, 11, 14, 15]


def test_a_batch_that_does_not_split_over_the_processes_is_refused() -> None:
    with pytest.raises(InputError, match="batch of 3 does not split over 2 processes"):
        PositionSampler(start_step=0, stop_step=1, batch_size=3, rank=0, world_size=2)


def test_several_folders_are_one_pool(tmp_path: Path) -> None:
    for folder in ("day", "translated"):
        for part in ("image", "label"):
            (tmp_path / folder / part).mkdir(parents=True)
            write_label(tmp_path / folder / part / "0.png", np.zeros((2, 2)))
    pool = find_labelled_pool([tmp_path / "day", tmp_path / "translated"])
    assert [pair.image.parts[-3:] for pair in pool] == [("day", "image", "0.png"), ("translated", "image", "0.png")]


def test_labels_follow_their_image_through_the_geometry() -> None:
    """An image whose colour is its train id stays in step with its label map, padding included."""
    label_map = np.kron(np.arange(16).reshape(4, 4), np.ones((16, 16))).astype(np.uint8)
    bgr = np.repeat(label_map[:, :, None] * 10, 3, axis=2)
    settings = Augmentation(view_px=64, crop_px=80, scale_min=0.7, scale_max=2.0, jitter=0.0)
    for seed in range(20):
        image, labels = augment_labelled(bgr, label_map, settings, np.random.default_rng(seed))
        assert image.shape == (80, 80, 3)
        assert labels.shape == (80, 80)
        expected = np.where(labels == 255, 0, labels * 10.0)
        agreement = np.abs(image[:, :, 0] - expected) <= 5
        assert agreement.mean() > 0.85  # all but the blended borders between the squares
