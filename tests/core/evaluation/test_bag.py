from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from darkseg_ros.errors import BagError, InputError
from darkseg_ros.evaluation.bag import (
    BagTopics,
    evaluate_recorded,
    evaluate_with_model,
    find_topics,
    sha256_of_bag,
)
from darkseg_ros.evaluation.drive import DriveFigures, EvaluationResult
from darkseg_ros.evaluation.thresholds import Threshold, judge
from darkseg_ros.frames.bad_frames import BadFrames
from darkseg_ros.frames.bags import COMPRESSED_TOPIC, IMAGE_TOPIC, LABEL_TOPIC, BagWriter
from darkseg_ros.model.segmenter import Segmenter
from tests.bundles import write_tiny_bundle
from tests.core.frames.recorded_bags import Recorded, write_recorded_bag

HW = (64, 128)
CLASS_MAPS, CONFIDENCES = "/segmentation_node/class_map", "/segmentation_node/confidence"
MS = 1_000_000
STAMP_NS = 1_700_000_000_000_000_000
BGR = np.full((*HW, 3), 40, np.uint8)


def uniform(value: int) -> np.ndarray:
    return np.full(HW, value, np.uint8)


def message(topic: str, index: int, pixels: np.ndarray, *, delay_ms: float = 1.0) -> Recorded:
    """A message of the frame of this index, ten frames a second, recorded some time after its stamp."""
    stamp_ns = STAMP_NS + index * 100 * MS
    return Recorded(topic, stamp_ns, pixels, stamp_ns + round(delay_ms * MS))


def recorded_drive(path: Path) -> Path:
    """Four frames: road called road, road called sky, one without class map, one without label map."""
    return write_recorded_bag(
        path,
        [
            message(IMAGE_TOPIC, 0, BGR),
            message(LABEL_TOPIC, 0, uniform(0)),
            message(CLASS_MAPS, 0, uniform(0), delay_ms=21),
            message(CONFIDENCES, 0, uniform(255), delay_ms=22),
            message(IMAGE_TOPIC, 1, BGR),
            message(CLASS_MAPS, 1, uniform(10), delay_ms=41),
            message(CONFIDENCES, 1, uniform(51), delay_ms=42),
            message(LABEL_TOPIC, 1, uniform(0), delay_ms=60),  # the label map may come last
            message(IMAGE_TOPIC, 2, BGR),
            message(LABEL_TOPIC, 2, uniform(0)),
            message(IMAGE_TOPIC, 3, BGR),
            message(CLASS_MAPS, 3, uniform(10), delay_ms=31),
        ],
    )


def evaluate(path: Path, *, invalid: str | None = None) -> EvaluationResult:
    return evaluate_recorded(path, find_topics(path, BagTopics(invalid=invalid)))


def drive_of(result: EvaluationResult) -> DriveFigures:
    assert result.drive is not None
    return result.drive


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Segmenter:
    return Segmenter.open(write_tiny_bundle(tmp_path_factory.mktemp("bundle"), HW), backend="fake")


def test_recorded_class_maps_give_the_figures_worked_by_hand(tmp_path: Path) -> None:
    result = evaluate(recorded_drive(tmp_path / "drive"))
    assert result.metrics.images == 2
    assert result.metrics.iou["road"] == result.metrics.miou_present == pytest.approx(1 / 2)
    assert result.metrics.iou["sky"] == 0.0
    # certain and right, 0.2 and wrong
    assert result.metrics.ece == pytest.approx(0.2 / 2)
    # the doubtful half is invalid, and no mask says that it may be: TP 1, FI 1
    assert result.metrics.uiou == pytest.approx(1 / 2)
    drive = drive_of(result)
    assert (drive.frames_in, drive.class_maps, drive.label_maps, drive.dropped) == (4, 3, 3, 1)
    assert drive.dropped_share == pytest.approx(1 / 4)
    assert drive.flicker == pytest.approx(1 / 2)  # road to sky, sky to sky
    assert drive.latency_from == "stamp"
    assert (drive.latency_p50_ms, drive.latency_p99_ms) == (pytest.approx(31), pytest.approx(41))
    assert [frame.name for frame in result.shown] == ["1700000000.100000000 s"]  # the worse of this half second
    assert result.shown[0].bgr() is not None


def test_a_replayed_drive_counts_latency_from_the_image(tmp_path: Path) -> None:
    later = 400 * 24 * 3600 * 1000  # recorded more than a year after its stamps
    bag = write_recorded_bag(
        tmp_path / "drive",
        [
            message(IMAGE_TOPIC, 0, BGR, delay_ms=later),
            message(LABEL_TOPIC, 0, uniform(0), delay_ms=later),
            message(CLASS_MAPS, 0, uniform(0), delay_ms=later + 25),
        ],
    )
    drive = drive_of(evaluate(bag))
    assert (drive.latency_from, drive.latency_p50_ms) == ("image", pytest.approx(25))


def test_what_a_tool_wrote_at_its_stamps_says_nothing_of_latency(tmp_path: Path) -> None:
    bag = write_recorded_bag(
        tmp_path / "drive", [message(topic, 0, uniform(0), delay_ms=0) for topic in (LABEL_TOPIC, CLASS_MAPS)]
    )
    drive = drive_of(evaluate(bag))
    assert (drive.latency_from, drive.latency_p50_ms, drive.dropped) == (None, None, None)


def test_masks_of_indiscernible_pixels_count_in_the_uiou(tmp_path: Path) -> None:
    bag = write_recorded_bag(
        tmp_path / "drive",
        [
            message(LABEL_TOPIC, 0, uniform(0)),
            message("/camera/invalid", 0, uniform(255)),
            message(CLASS_MAPS, 0, uniform(10)),
            message(CONFIDENCES, 0, uniform(51)),
        ],
    )
    assert evaluate(bag).metrics.uiou == 0.0
    assert evaluate(bag, invalid="/camera/invalid").metrics.uiou == 1.0


def test_images_are_segmented_where_no_class_maps_are(tmp_path: Path, segmenter: Segmenter) -> None:
    with BagWriter(tmp_path / "drive") as bag:
        for index, (blue, label) in enumerate(((0, 0), (20, 1), (0, 10), (3, None))):
            stamp: dict[str, Any] = {"stamp_ns": STAMP_NS + index * 100 * MS, "frame_id": "camera"}
            bag.write_image(IMAGE_TOPIC, np.full((*HW, 3), (blue, 255, 0), np.uint8), **stamp)
            if label is not None:
                bag.write_image(LABEL_TOPIC, uniform(label), encoding="mono8", **stamp)
    topics = find_topics(tmp_path / "drive", BagTopics())
    assert set(topics) == {"image", "label_map"}
    result = evaluate_with_model(tmp_path / "drive", topics, segmenter)
    # the fake engine answers blue mod 19: road, sidewalk (20), and sky called road
    assert result.metrics.images == 3
    assert {name: iou for name, iou in result.metrics.iou.items() if iou is not None} == {
        "road": 0.5,
        "sidewalk": 1.0,
        "sky": 0.0,
    }
    drive = drive_of(result)
    assert (drive.class_maps, drive.dropped, drive.latency_p99_ms) == (3, None, None)


@pytest.mark.parametrize(
    ("invalid", "min_confidence", "uiou"),
    # sky called road with confidence 0.4: valid and wrong, or invalid, which is right where the annotator was in doubt
    [(None, 0.3, 0.0), (None, 0.5, 0.0), ("/camera/invalid", 0.3, 0.0), ("/camera/invalid", 0.5, 1.0)],
)
@pytest.mark.parametrize("recorded", [True, False])
def test_mask_and_threshold_of_the_uiou_count_for_recorded_class_maps_and_for_a_model(
    tmp_path: Path, segmenter: Segmenter, invalid: str | None, min_confidence: float, uiou: float, recorded: bool
) -> None:
    bgr = np.full((*HW, 3), (0, 102, 0), np.uint8)  # what the fake engine calls road, with confidence 102 / 255
    messages = [
        message(IMAGE_TOPIC, 0, bgr),
        message(LABEL_TOPIC, 0, uniform(10)),
        message("/camera/invalid", 0, uniform(255)),
        message(CLASS_MAPS, 0, uniform(0)),
        message(CONFIDENCES, 0, uniform(102)),
    ]
    bag = write_recorded_bag(tmp_path / "drive", messages)
    topics = find_topics(bag, BagTopics(image=IMAGE_TOPIC, invalid=invalid), recorded=recorded)
    if recorded:
        result = evaluate_recorded(bag, topics, uiou_min_confidence=min_confidence)
    else:
        result = evaluate_with_model(bag, topics, segmenter, uiou_min_confidence=min_confidence)
    assert result.metrics.uiou == uiou
    assert result.metrics.uiou_min_confidence == min_confidence


def test_confidence_that_is_missing_for_a_frame_is_told(tmp_path: Path) -> None:
    bag = write_recorded_bag(
        tmp_path / "drive",
        [
            *(message(topic, index, uniform(0)) for topic in (LABEL_TOPIC, CLASS_MAPS) for index in range(2)),
            message(CONFIDENCES, 1, uniform(255)),
        ],
    )
    metrics = evaluate(bag).metrics
    assert (metrics.images, metrics.images_with_confidence, metrics.ece) == (2, 1, None)


def test_compressed_images_serve_as_well(tmp_path: Path, segmenter: Segmenter) -> None:
    with BagWriter(tmp_path / "drive") as bag:
        grey = np.full((*HW, 3), 128, np.uint8)  # survives JPEG; 128 = 6 · 19 + 14
        bag.write_compressed_image(COMPRESSED_TOPIC, grey, stamp_ns=STAMP_NS, frame_id="camera")
        bag.write_image(LABEL_TOPIC, uniform(14), stamp_ns=STAMP_NS, frame_id="camera", encoding="mono8")
    topics = find_topics(tmp_path / "drive", BagTopics())
    assert evaluate_with_model(tmp_path / "drive", topics, segmenter).metrics.miou == 1.0


def test_a_model_can_be_asked_for_although_class_maps_are_recorded(tmp_path: Path) -> None:
    bag = recorded_drive(tmp_path / "drive")
    assert set(find_topics(bag, BagTopics(), recorded=False)) == {"image", "label_map"}
    assert set(find_topics(bag, BagTopics())) == {"image", "label_map", "class_map", "confidence"}


def test_names_of_topics_can_be_given(tmp_path: Path) -> None:
    names = ("/a/front", "/a/truth", "/a/class_map")
    other = [message(name.replace("/a/", "/b/"), 0, uniform(1)) for name in names]
    bag = write_recorded_bag(tmp_path / "drive", [*(message(name, 0, uniform(0)) for name in names), *other])
    topics = find_topics(bag, BagTopics(image=names[0], label=names[1], class_map=names[2]))
    assert [topics[part].name for part in ("image", "label_map", "class_map")] == list(names)
    with pytest.raises(
        InputError, match=r"several topics of class maps.*--class-map-topic: /a/class_map, /b/class_map"
    ):
        find_topics(bag, BagTopics(label="/a/truth"))
    with pytest.raises(InputError, match="several topics of camera images, name one with --image-topic: /a/front, "):
        find_topics(bag, BagTopics(label="/a/truth", class_map="/a/class_map"))


def drop(*topics: str) -> Callable[[Recorded], bool]:
    return lambda recorded: recorded.topic not in topics


@pytest.mark.parametrize(
    ("wanted", "missing", "complaint"),
    [
        (BagTopics(), [LABEL_TOPIC], r"label maps|train ids on /camera/label_map.*no such topic.*/camera/image_raw \("),
        (
            BagTopics(label="/truth"),
            [],
            r"train ids on /truth.*/camera/label_map \(sensor_msgs/msg/Image, 1\).*--label",
        ),
        (BagTopics(class_map="/mine"), [], r"train ids on /mine.*got no such topic.*--class-map-topic"),
        (BagTopics(invalid="/mask"), [], r"train ids on /mask.*--invalid-topic"),
        (BagTopics(image=LABEL_TOPIC), [], r"/camera/label_map of .* cannot be both label map and image; name another"),
        (BagTopics(label=CLASS_MAPS), [], "/segmentation_node/class_map of .* cannot be both label map and class map"),
        (BagTopics(invalid=LABEL_TOPIC), [], "cannot be both label map and invalid mask"),
        (BagTopics(invalid=IMAGE_TOPIC, image=IMAGE_TOPIC), [], "cannot be both"),
        (BagTopics(image="/front"), [], r"no topic /front; it has .*/camera/image_raw"),
        (BagTopics(), [CLASS_MAPS, IMAGE_TOPIC], r"no class maps and no camera images.*it has /camera/label_map \("),
    ],
)
def test_missing_topics_are_answered_with_what_the_bag_holds(
    tmp_path: Path, wanted: BagTopics, missing: list[str], complaint: str
) -> None:
    whole = [message(IMAGE_TOPIC, 0, BGR), message(LABEL_TOPIC, 0, uniform(0)), message(CLASS_MAPS, 0, uniform(0))]
    bag = write_recorded_bag(tmp_path / "drive", filter(drop(*missing), whole))
    with pytest.raises(InputError, match=complaint):
        find_topics(bag, wanted)


def test_masks_without_confidence_are_refused_as_they_would_change_nothing(tmp_path: Path) -> None:
    names = (IMAGE_TOPIC, LABEL_TOPIC, CLASS_MAPS, "/mask")
    bag = write_recorded_bag(tmp_path / "drive", [message(name, 0, uniform(0)) for name in names])
    with pytest.raises(InputError, match=r"no confidence beside /segmentation_node/class_map.*leave out --invalid"):
        find_topics(bag, BagTopics(image=IMAGE_TOPIC, invalid="/mask"))
    found = find_topics(bag, BagTopics(image=IMAGE_TOPIC, invalid="/mask"), recorded=False)  # a model is confident
    assert set(found) == {"image", "label_map", "invalid_mask"}


def test_stamps_that_never_match_are_told_with_both_spans(tmp_path: Path) -> None:
    bag = write_recorded_bag(
        tmp_path / "drive", [message(LABEL_TOPIC, 0, uniform(0)), message(CLASS_MAPS, 1, uniform(0))]
    )
    with pytest.raises(
        InputError,
        match=r"no class map of /segmentation_node/class_map \(1 stamps, 1700000000\.100000000…1700000000\.1\d+ s\) "
        r"has the stamp of a label map of /camera/label_map \(1 stamps, 1700000000\.000000000",
    ):
        evaluate(bag)


@pytest.mark.parametrize(
    ("label_map", "class_map", "complaint"),
    [
        (
            uniform(0),
            np.zeros((8, 8), np.uint8),
            r"stamp 1700000000\.000000000: the label map is \(64, 128\), the class",
        ),
        (uniform(33), uniform(0), "the label map holds the value 33"),
        (uniform(0), uniform(19), "the class map holds the value 19"),
        (BGR, uniform(0), "/camera/label_map of stamp .* has encoding mono8 or 8UC1, this image has bgr8"),
        (uniform(255), uniform(0), "no pixel has ground truth"),
    ],
)
def test_maps_that_cannot_be_compared_are_named(
    tmp_path: Path, label_map: np.ndarray, class_map: np.ndarray, complaint: str
) -> None:
    bag = write_recorded_bag(
        tmp_path / "drive", [message(LABEL_TOPIC, 0, label_map), message(CLASS_MAPS, 0, class_map)]
    )
    with pytest.raises(InputError, match=complaint):
        evaluate(bag)


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.95])
def test_a_bag_cut_off_is_an_error_not_a_smaller_drive(tmp_path: Path, kept: float) -> None:
    bag = recorded_drive(tmp_path / "drive")
    (file,) = bag.glob("*.mcap")
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(BagError, match="cut off or damaged"):
        evaluate(bag)


def test_frames_wait_for_nothing_that_the_bag_lacks(tmp_path: Path) -> None:
    # class maps come with every frame, label maps with the last one only: the others must not pile up
    frames = 40
    messages = [message(CLASS_MAPS, index, uniform(0)) for index in range(frames)]
    bag = write_recorded_bag(tmp_path / "drive", [*messages, message(LABEL_TOPIC, frames - 1, uniform(0), delay_ms=2)])
    result = evaluate(bag)
    assert result.metrics.images == 1
    assert drive_of(result).class_maps == frames


def test_the_hash_follows_the_content(tmp_path: Path) -> None:
    bag = recorded_drive(tmp_path / "drive")
    before = sha256_of_bag(bag)
    assert before == sha256_of_bag(bag)
    assert len(before) == 64
    (file,) = bag.glob("*.mcap")
    assert sha256_of_bag(file) != before
    with file.open("ab") as stream:
        stream.write(b"x")
    assert sha256_of_bag(bag) != before


def test_few_matches_are_counted_and_pass_no_gate(tmp_path: Path, segmenter: Segmenter) -> None:
    messages = [message(IMAGE_TOPIC, index, BGR) for index in range(6)]
    messages += [message(LABEL_TOPIC, 0, uniform(2))]  # 40 mod 19 is 2: what the fake engine answers
    messages += [Recorded(LABEL_TOPIC, STAMP_NS + 7 + index, uniform(2), STAMP_NS + index) for index in range(1, 6)]
    path = write_recorded_bag(tmp_path / "drive", messages)
    result = evaluate_with_model(path, find_topics(path, BagTopics()), segmenter)
    drive = drive_of(result)
    assert (drive.frames_in, drive.label_maps, result.metrics.images) == (6, 6, 1)
    assert drive.matched_share == pytest.approx(1 / 6)
    gate = Threshold("miou_present", "at least", 0.1)
    assert [(judged.figure, judged.passed) for judged in judge(result, [gate])] == [
        ("miou_present", True),
        ("matched_share", False),
    ]
    own = Threshold("matched_share", "at least", 0.1)
    assert all(judged.passed for judged in judge(result, [gate, own]))
    assert judge(result, []) == ()


def test_frames_without_an_answer_are_drops_and_pass_while_half_have_one(tmp_path: Path) -> None:
    result = evaluate(recorded_drive(tmp_path / "drive"))  # two of three label maps have a class map
    assert drive_of(result).matched_share == pytest.approx(2 / 3)
    (judged,) = judge(result, [Threshold("miou_present", "at least", 0.1)])
    assert judged.passed


@pytest.mark.parametrize("bad", [IMAGE_TOPIC, LABEL_TOPIC])
def test_a_bad_frame_is_left_out_and_counted(tmp_path: Path, segmenter: Segmenter, bad: str) -> None:
    odd = np.zeros((3, 3), np.uint8) if bad == LABEL_TOPIC else uniform(2)
    messages = [
        message(topic, index, pixels)
        for index in range(3)
        for topic, pixels in ((IMAGE_TOPIC, BGR), (LABEL_TOPIC, odd if index == 1 else uniform(2)))
    ]
    path = write_recorded_bag(tmp_path / "drive", messages)
    if bad == IMAGE_TOPIC:
        (file,) = path.glob("*.mcap")
        content = file.read_bytes()
        second = content.index(b"bgr8\0", content.index(b"bgr8\0") + 1)
        file.write_bytes(content[:second] + b"odd8" + content[second + 4 :])
    bad_frames = BadFrames(tell=lambda _: None)
    result = evaluate_with_model(path, find_topics(path, BagTopics()), segmenter, bad_frames=bad_frames)
    assert (result.metrics.images, bad_frames.count) == (2, 1)
    assert drive_of(result).label_maps == 3
    with pytest.raises(InputError, match=r"odd8|same geometry"):
        evaluate_with_model(path, find_topics(path, BagTopics()), segmenter)
