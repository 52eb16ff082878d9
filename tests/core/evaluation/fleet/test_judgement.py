from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from darkseg_ros.errors import InputError
from darkseg_ros.evaluation.bag import BagTopics, evaluate_with_model, find_topics
from darkseg_ros.evaluation.fleet.figures import figures_of
from darkseg_ros.evaluation.fleet.judgement import DriveJudgement, JudgementSettings, Sums, camera_of, judge_drive
from darkseg_ros.frames.bags import IMAGE_TOPIC, LABEL_TOPIC, BagWriter
from darkseg_ros.model.segmenter import Segmenter
from tests.bundles import write_tiny_bundle
from tests.core.evaluation.fleet.drives import HW, START_NS, write_drive


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> JudgementSettings:
    return JudgementSettings(bundle=write_tiny_bundle(tmp_path_factory.mktemp("bundle"), HW), backend="fake")


def total(judgement: DriveJudgement) -> Sums:
    sums = Sums.empty(len(judgement.classes))
    for stretch in judgement.stretches:
        sums = sums + stretch.sums
    return sums


def judge(path: Path, settings: JudgementSettings, **changes: object) -> DriveJudgement:
    return judge_drive(path, JudgementSettings(**{**vars(settings), **changes}), place=str(path))


def test_a_drive_has_the_figures_of_evaluating_it_alone(tmp_path: Path, settings: JudgementSettings) -> None:
    path = write_drive(tmp_path / "drive", wrong_share=0.25, confidence=200)
    segmenter = Segmenter.open(settings.bundle, backend="fake")
    alone = evaluate_with_model(path, find_topics(path, BagTopics()), segmenter).metrics
    judgement = judge(path, settings)
    figures = figures_of(total(judgement), judgement.classes)
    for name in ("miou", "miou_present", "pixel_accuracy", "class_accuracy", "fwiou", "auroc", "fpr95", "images"):
        assert figures[name] == getattr(alone, name), name
    assert figures["ece"] == pytest.approx(alone.ece)
    assert figures["iou.road"] == alone.iou["road"] == 0.75
    assert judgement.label_maps == 3


def test_without_label_maps_a_drive_has_consistency_confidence_health_and_dispersity(
    tmp_path: Path, settings: JudgementSettings
) -> None:
    judgement = judge(write_drive(tmp_path / "drive", labelled=False, confidence=51, wrong_share=0.5), settings)
    figures = figures_of(total(judgement), judgement.classes)
    assert figures["miou_present"] is None
    assert figures["images"] == 0
    assert figures["frames"] == 3
    assert figures["mean_confidence"] == 0.2
    assert figures["consistency"] == 1
    assert figures["healthy_share"] == 1
    dispersity = math.log(2) / math.log(19)  # two halves of 19 classes
    assert figures["dispersity"] == pytest.approx(dispersity)
    assert figures["trust"] == pytest.approx(0.2 * dispersity)


def test_a_drive_that_is_called_one_class_all_over_has_no_trust(tmp_path: Path, settings: JudgementSettings) -> None:
    judgement = judge(write_drive(tmp_path / "drive", labelled=False), settings)
    figures = figures_of(total(judgement), judgement.classes)
    assert (figures["consistency"], figures["mean_confidence"], figures["dispersity"]) == (1, 1, 0)
    assert figures["trust"] == 0


def test_label_maps_can_be_left_aside(tmp_path: Path, settings: JudgementSettings) -> None:
    judgement = judge(write_drive(tmp_path / "drive"), settings, unlabelled=True)
    assert total(judgement).scored == 0
    assert judgement.label_maps == 0


def test_frames_are_told_apart_by_hour_of_the_zone_and_darkness(tmp_path: Path, settings: JudgementSettings) -> None:
    path = tmp_path / "drive"
    with BagWriter(path) as writer:
        for index, level in enumerate((5, 5, 90)):
            stamp_ns = START_NS + index * 3_600_000_000_000
            bgr = np.full((*HW, 3), level, np.uint8)
            label_map = np.zeros(HW, np.uint8)
            writer.write_image(IMAGE_TOPIC, bgr, stamp_ns=stamp_ns, frame_id="c")
            writer.write_image(LABEL_TOPIC, label_map, stamp_ns=stamp_ns, frame_id="c", encoding="mono8")
    found = [(each.hour, each.level, each.sums.scored) for each in judge(path, settings).stretches]
    assert found == [("00", "65–255, no night", 1), ("22", "0–10", 1), ("23", "0–10", 1)]
    berlin = judge(path, settings, timezone="Europe/Berlin").stretches
    assert [each.hour for each in berlin] == ["00", "01", "23"]


def test_each_label_topic_is_a_camera_with_the_images_of_its_namespace(
    tmp_path: Path, settings: JudgementSettings
) -> None:
    path = tmp_path / "drive"
    with BagWriter(path) as writer:
        for camera, blue in (("/front", 0), ("/rear", 10)):
            bgr = np.full((*HW, 3), (blue, 99, 40), np.uint8)
            label_map = np.zeros(HW, np.uint8)
            writer.write_image(f"{camera}/image_raw", bgr, stamp_ns=START_NS, frame_id="c")
            writer.write_image(f"{camera}/label_map", label_map, stamp_ns=START_NS, frame_id="c", encoding="mono8")
    right = {each.camera: int(np.trace(each.sums.confusion)) for each in judge(path, settings).stretches}
    assert right == {"/front": HW[0] * HW[1], "/rear": 0}


@pytest.mark.parametrize(
    ("topic", "camera"),
    [("/front/image_raw/compressed", "/front"), ("/camera/image_raw", "/camera"), ("/image", "/image")],
)
def test_a_camera_is_called_by_its_namespace(topic: str, camera: str) -> None:
    assert camera_of(topic) == camera


def test_the_worst_frame_is_kept_with_a_picture(tmp_path: Path, settings: JudgementSettings) -> None:
    (stretch,) = judge(write_drive(tmp_path / "drive", wrong_share=0.5), settings).stretches
    assert stretch.worst is not None
    assert stretch.worst.value == 0.5
    assert stretch.worst.picture.startswith(b"\xff\xd8")


def test_a_bag_without_images_is_refused_with_what_it_holds(tmp_path: Path, settings: JudgementSettings) -> None:
    path = tmp_path / "drive"
    with BagWriter(path) as writer:
        writer.write_image("/x/class_map", np.zeros(HW, np.uint8), stamp_ns=1, frame_id="c", encoding="mono8")
    with pytest.raises(InputError, match="neither label maps nor camera images"):
        judge(path, settings)


def test_frames_of_another_size_are_counted_and_the_others_scored(tmp_path: Path, settings: JudgementSettings) -> None:
    path = tmp_path / "drive"
    with BagWriter(path) as writer:
        for index, hw in enumerate((HW, (16, 16))):
            bgr, label_map = np.zeros((*HW, 3), np.uint8), np.zeros(hw, np.uint8)
            stamp_ns = START_NS + index
            writer.write_image(IMAGE_TOPIC, bgr, stamp_ns=stamp_ns, frame_id="c")
            writer.write_image(LABEL_TOPIC, label_map, stamp_ns=stamp_ns, frame_id="c", encoding="mono8")
    judgement = judge(path, settings)
    assert (total(judgement).scored, judgement.bad_frames) == (1, 1)
    assert "(16, 16)" in judgement.reasons[0]
    with pytest.raises(InputError, match=r"\(16, 16\)"):
        judge(path, settings, strict=True)
