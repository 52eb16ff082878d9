from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from darkseg_ros.errors import InputError
from training.checkpoints import save_checkpoint
from training.pseudo_label import (
    aligned_answers,
    alignment_weights,
    keep_surest,
    main,
    smooth_shares,
    write_pseudo_labels,
)
from training.slim_fpn import SlimFpn


def test_alignment_gives_back_a_class_that_was_underrated_to_the_pixels_most_like_it() -> None:
    """Four images of one place: sky (10) never wins over building (2), but two of them lean towards it."""
    answers = np.zeros((4, 19, 1, 1), np.float32)
    answers[:, 10, 0, 0] = [0.05, 0.10, 0.30, 0.40]
    answers[:, 2, 0, 0] = 1 - answers[:, 10, 0, 0]
    wanted = torch.zeros(19, 1, 1)
    wanted[10], wanted[2] = 0.5, 0.5
    train_ids, confidence = aligned_answers(answers, alignment_weights(answers, wanted))
    assert train_ids.ravel().tolist() == [2, 2, 10, 10]
    assert confidence.min() >= 0.5


def test_answers_that_have_the_wanted_shares_stay_as_they_are() -> None:
    answers = np.zeros((2, 19, 2, 2), np.float32)
    answers[0, 3], answers[1, 5] = 1, 1
    wanted = torch.from_numpy(answers.mean(0))
    weights = alignment_weights(answers, wanted)
    torch.testing.assert_close(weights, torch.ones_like(weights))


def test_smoothed_shares_are_mirror_images_and_still_sum_to_one() -> None:
    shares = torch.softmax(torch.randn(19, 20, 30), 0)
    smooth = smooth_shares(shares)
    torch.testing.assert_close(smooth, smooth.flip(-1))
    torch.testing.assert_close(smooth.sum(0), torch.ones(20, 30))


def test_the_surest_part_of_every_class_is_kept() -> None:
    train_ids = np.array([[[0, 0, 0, 0, 7, 7]]], np.uint8)
    confidence = np.array([[[0.9, 0.8, 0.7, 0.6, 0.5, 0.3]]], np.float32)
    labels = keep_surest(train_ids, confidence, portion=0.5, confidence_min=0.4)
    assert labels.tolist() == [[[0, 0, 255, 255, 7, 255]]]


def test_no_label_is_less_sure_than_the_minimum() -> None:
    labels = keep_surest(np.zeros((1, 1, 2), np.uint8), np.array([[[0.3, 0.2]]]), portion=1.0, confidence_min=0.4)
    assert labels.tolist() == [[[255, 255]]]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    config = {"network": {"encoder": "mobilenet_v2", "channels": 8, "input_px": 64}}
    path = tmp_path / "teacher.pt"
    save_checkpoint(path, {"step": 1, "config": config, "teacher": SlimFpn(channels=8).state_dict()})
    return path


def test_every_image_gets_a_label_map_of_its_size_with_nothing_in_the_bottom_margin(
    checkpoint: Path, generated_data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "labels"
    write_pseudo_labels(
        checkpoint,
        generated_data / "night",
        reference=generated_data / "validation" / "image",
        out=out,
        portion=1.0,
        confidence_min=0.0,
        bottom_margin=0.25,
    )
    assert sorted(path.stem for path in out.iterdir()) == ["0", "1", "2", "3"]
    label_map = cv2.imread(str(out / "0.png"), cv2.IMREAD_UNCHANGED)
    assert label_map.shape == (64, 64)
    assert (label_map[:48] < 19).all()
    labelled_below = (label_map[48:] != 255).mean()
    assert labelled_below in (0.0, 1.0)


def test_a_folder_with_label_maps_is_not_overwritten(checkpoint: Path, generated_data: Path, tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "old.png").touch()
    arguments = ["--checkpoint", str(checkpoint), "--images", str(generated_data / "night")]
    arguments += ["--reference", str(generated_data / "night"), "--out", str(tmp_path / "labels")]
    with pytest.raises(SystemExit, match="is not empty"):
        main(arguments)
    with pytest.raises(InputError, match="no checkpoint"):
        write_pseudo_labels(
            tmp_path / "none.pt",
            generated_data / "night",
            reference=generated_data / "night",
            out=tmp_path / "new",
            portion=0.5,
            confidence_min=0.4,
            bottom_margin=0.0,
        )
