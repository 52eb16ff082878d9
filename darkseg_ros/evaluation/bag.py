"""`darkseg evaluate BAG`: the class maps of a bag, or those a model makes of its images, against its label maps."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from darkseg_ros.classes import CITYSCAPES, ClassTable
from darkseg_ros.errors import BagError, ImageMessageError, InputError
from darkseg_ros.evaluation.drive import DriveEvaluation, DriveFrame, EvaluationResult, FrameJoin, Part
from darkseg_ros.evaluation.metrics import UIOU_MIN_CONFIDENCE
from darkseg_ros.frames.bad_frames import BadFrames
from darkseg_ros.frames.bags import IMAGE_TYPE, LABEL_TOPIC, BagMessage, BagReader, BagTopic
from darkseg_ros.frames.image_stream import ImageStream
from darkseg_ros.frames.joined_bags import open_drive
from darkseg_ros.frames.messages import label_map_from_image
from darkseg_ros.frames.stamps import header_of, stamp_ns_of, stamp_text
from darkseg_ros.frames.video_packets import is_video_packet
from darkseg_ros.model.in_order import in_order
from darkseg_ros.model.segmenter import Segmentation, Segmenter
from darkseg_ros.stream.frame_gate import stamp_age_ms
from darkseg_ros.whole_files import sha256_of

_CLASS_MAP_NAME, _CONFIDENCE_NAME = "class_map", "confidence"  # as segmentation_node names its topics
_UNBOUNDED = sys.maxsize  # frames wait only for what the bag does hold


@dataclass(frozen=True)
class BagTopics:
    """What to take from a bag, as the user names it; None is found by itself.

    Attributes:
        image: camera images; the only topic of images that is nothing else.
        label: label maps.
        class_map: class maps; the only topic called ``…/class_map``.
        invalid: masks of where the annotator was in doubt (0 = sure), see `evaluation.Invalidation`; none if None.
    """

    image: str | None = None
    label: str = LABEL_TOPIC
    class_map: str | None = None
    invalid: str | None = None


def find_topics(
    path: Path, wanted: BagTopics, *, recorded: bool = True, sidecar: Path | None = None
) -> dict[Part, BagTopic]:
    """Find what an evaluation can use.

    Args:
        path: the bag.
        wanted: topics that the user named.
        recorded: take class maps of the bag; False leaves them, for a model to make new ones.
        sidecar: a bag of predictions beside it, as `darkseg segment --sidecar` writes them; read with it.

    Returns:
        The topic of each part that the bag holds. Without ``class_map`` a model must make the class maps; then
        ``image`` is there.

    Raises:
        InputError: if a topic that was named, label maps, or both class maps and images are missing, several
            topics could be meant, one was named twice, or there are masks but no confidence that they would matter
            to; the message names what the bag does hold.
    """
    with open_drive(path, sidecar) as reader:
        found: dict[Part, BagTopic] = {"label_map": _named_topic(reader, wanted.label, option="--label-topic")}
        if wanted.invalid is not None:
            found["invalid_mask"] = _named_topic(reader, wanted.invalid, option="--invalid-topic")
        class_map = _class_map_topic(reader, wanted.class_map) if recorded else None
        if class_map is not None:
            found["class_map"] = class_map
            confidence = reader.topics.get(f"{class_map.name.rpartition('/')[0]}/{_CONFIDENCE_NAME}")
            if confidence is not None and confidence.message_type == IMAGE_TYPE and confidence.count:
                found["confidence"] = confidence
        image = _image_topic(reader, wanted.image, taken=[topic.name for topic in found.values()])
        if image is not None:
            found["image"] = image
        elif class_map is None:
            raise InputError(
                f"{path} has no {'class maps and no ' if recorded else ''}camera images to make class maps of; "
                f"{reader.contents()}; name them with {'--class-map-topic or ' if recorded else ''}--image-topic"
            )
    _refuse_one_topic_for_two_parts(path, found)
    if "invalid_mask" in found and class_map is not None and "confidence" not in found:
        raise InputError(
            f"{path} has no {_CONFIDENCE_NAME} beside {class_map.name}, without which masks of indiscernible pixels "
            "change no figure; record it as well, make new class maps with --bundle, or leave out --invalid-topic"
        )
    return found


def _refuse_one_topic_for_two_parts(path: Path, found: dict[Part, BagTopic]) -> None:
    part_of_topic: dict[str, Part] = {}
    for part, topic in found.items():
        other = part_of_topic.setdefault(topic.name, part)
        if other != part:
            raise InputError(
                f"{topic.name} of {path} cannot be both {other.replace('_', ' ')} and {part.replace('_', ' ')}; name "
                "another topic for one of them"
            )


def _named_topic(reader: BagReader, name: str, *, option: str) -> BagTopic:
    topic = reader.topics.get(name)
    if topic is None or topic.message_type != IMAGE_TYPE or not topic.count:
        got = "no such topic" if topic is None else f"{topic.count} messages of type {topic.message_type} there"
        raise InputError(
            f"expected images of train ids on {name} in {reader.path}, got {got}; {reader.contents()}; "
            f"name the right one with {option}"
        )
    return topic


def _class_map_topic(reader: BagReader, name: str | None) -> BagTopic | None:
    if name is not None:
        return _named_topic(reader, name, option="--class-map-topic")
    candidates = [
        topic
        for topic in reader.topics.values()
        if topic.name.endswith(f"/{_CLASS_MAP_NAME}") and topic.message_type == IMAGE_TYPE and topic.count
    ]
    if len(candidates) > 1:
        names = ", ".join(topic.name for topic in candidates)
        raise InputError(f"{reader.path} has several topics of class maps, name one with --class-map-topic: {names}")
    return candidates[0] if candidates else None


def _image_topic(reader: BagReader, name: str | None, *, taken: list[str]) -> BagTopic | None:
    if name is not None:
        return reader.image_topic(name)
    candidates = [topic for topic in reader.camera_topics() if topic.name not in taken]
    if len(candidates) > 1:
        names = ", ".join(topic.name for topic in candidates)
        raise InputError(f"{reader.path} has several topics of camera images, name one with --image-topic: {names}")
    return candidates[0] if candidates else None


def evaluate_recorded(
    path: Path,
    topics: dict[Part, BagTopic],
    *,
    sidecar: Path | None = None,
    classes: ClassTable = CITYSCAPES,
    uiou_min_confidence: float = UIOU_MIN_CONFIDENCE,
    bad_frames: BadFrames | None = None,
) -> EvaluationResult:
    """Score the class maps that a bag holds.

    Args:
        path: the bag.
        topics: as `find_topics` gives them, with ``class_map``.
        sidecar: as for `find_topics`; its class maps have no latency, since nothing ran in real time.
        classes: of the class maps and label maps.
        uiou_min_confidence: see `evaluation.Invalidation`.
        bad_frames: gets maps that are none or of another size; None raises at the first.

    Returns:
        Figures with latency and drops. A latency counts from the camera's stamp to the recording of the class map
        where the recorder's clock fits the stamps, else from the recording of the camera image.

    Raises:
        InputError: if no class map has the stamp of a label map, or the bag is damaged.
    """
    bad_frames = bad_frames or BadFrames(strict=True)
    stamps = stamps_of(path, topics, matching="class_map", sidecar=sidecar)
    evaluation = _new_evaluation(
        path, expected_parts(stamps), bad_frames, classes=classes, uiou_min_confidence=uiou_min_confidence
    )
    for stamp_ns, parts in read_parts(path, topics, stamps, bad_frames, sidecar=sidecar):
        evaluation.put(stamp_ns, **parts)
    evaluation.finish()
    return _result_of(path, evaluation)


def evaluate_with_model(
    path: Path,
    topics: dict[Part, BagTopic],
    segmenter: Segmenter,
    *,
    uiou_min_confidence: float = UIOU_MIN_CONFIDENCE,
    bad_frames: BadFrames | None = None,
) -> EvaluationResult:
    """Segment the images of a bag that have a label map, and score these class maps.

    Args:
        path: the bag.
        topics: as `find_topics` gives them, with ``image``.
        segmenter: makes the class maps.
        uiou_min_confidence: see `evaluation.Invalidation`.
        bad_frames: gets images and maps that cannot be decoded or differ in size; None raises at the first.

    Returns:
        Figures without latency and drops: nothing ran in real time. Images without a label map are not scored; the
        counts are those of the bag.

    Raises:
        InputError: as `evaluate_recorded`.
    """
    bad_frames = bad_frames or BadFrames(strict=True)
    stamps = stamps_of(path, topics, matching="image")
    join = FrameJoin(expected_parts(stamps), capacity=_UNBOUNDED)
    classes = segmenter.bundle.classes
    evaluation = _new_evaluation(
        path, lambda _: frozenset(), bad_frames, classes=classes, uiou_min_confidence=uiou_min_confidence
    )

    def decoded() -> Iterator[tuple[int, DriveFrame, np.ndarray]]:
        for stamp_ns, parts in read_parts(path, topics, stamps, bad_frames):
            for frame in join.put(stamp_ns, **parts):
                if frame.image is None or frame.label_map is None:
                    continue
                try:
                    bgr = frame.image()
                except ImageMessageError as error:
                    bad_frames.skip(_unusable(path, topics["image"], stamp_ns, error))
                    continue
                yield stamp_ns, frame, bgr

    def answered(item: tuple[int, DriveFrame, np.ndarray]) -> Segmentation:
        return segmenter(item[2])

    with in_order(answered, decoded(), threads=segmenter.engine.streams) as answers:
        for (stamp_ns, frame, _), segmentation in answers:
            evaluation.put(
                stamp_ns,
                image=frame.image,
                label_map=frame.label_map,
                invalid_mask=frame.invalid_mask,
                class_map=segmentation.class_map,
                confidence=segmentation.confidence,
            )
    result = _result_of(path, evaluation)
    assert result.drive is not None
    label_maps = topics["label_map"].count
    drive = replace(
        result.drive,
        frames_in=topics["image"].count,
        label_maps=label_maps,
        matched_share=evaluation.scored / label_maps,
        dropped=None,
        dropped_share=None,
    )
    return replace(result, drive=drive)


def sha256_of_bag(*paths: Path) -> str:
    """SHA-256 over the names and contents of a bag's files, or of the one file named; of several in this order."""
    return sha256_of_files([file for path in paths for file in _files_of(path)])


def _files_of(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(file for file in path.iterdir() if file.is_file())


def sha256_of_files(files: Sequence[Path]) -> str:
    """SHA-256 over the files' names and the hashes of their contents, in the order given."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{sha256_of(file)}  {file.name}\n".encode())
    return digest.hexdigest()


def expected_parts(stamps: dict[Part, set[int]]) -> Callable[[int], frozenset[Part]]:
    """The parts that a frame waits for."""
    return lambda stamp_ns: frozenset(part for part in stamps if stamp_ns in stamps[part])


def _new_evaluation(
    path: Path,
    expected: Callable[[int], frozenset[Part]],
    bad_frames: BadFrames,
    *,
    classes: ClassTable,
    uiou_min_confidence: float,
) -> DriveEvaluation:
    return DriveEvaluation(
        expected,
        capacity=_UNBOUNDED,
        on_unusable=lambda reason: bad_frames.skip(f"{path}: {reason}"),
        classes=classes,
        uiou_min_confidence=uiou_min_confidence,
    )


def stamps_of(
    path: Path, topics: dict[Part, BagTopic], *, matching: Part, sidecar: Path | None = None
) -> dict[Part, set[int]]:
    """The stamps of each part, so that no frame waits for what never comes.

    Raises:
        InputError: if there are label maps, and none has the stamp of a message of `matching`.
    """
    stamps: dict[Part, set[int]] = {part: set() for part in topics}
    part_of_topic = {topic.name: part for part, topic in topics.items()}
    with open_drive(path, sidecar) as reader:
        for recorded in _progress(reader, topics, what="reading stamps"):
            with suppress(BagError):  # told when its turn comes
                stamps[part_of_topic[recorded.topic]].add(stamp_ns_of(header_of(reader.deserialize(recorded))))
    ours, labels = stamps[matching], stamps.get("label_map")
    if labels is not None and not ours & labels:
        raise InputError(
            f"{path}: no {matching.replace('_', ' ')} of {topics[matching].name} ({_span(ours)}) has the stamp of a "
            f"label map of {topics['label_map'].name} ({_span(labels)}); both must bear the camera's stamp"
        )
    return stamps


def _span(stamps: set[int]) -> str:
    return f"{len(stamps)} stamps, {stamp_text(min(stamps))}…{stamp_text(max(stamps))} s" if stamps else "no stamps"


def read_parts(
    path: Path,
    topics: dict[Part, BagTopic],
    stamps: dict[Part, set[int]],
    bad_frames: BadFrames,
    *,
    sidecar: Path | None = None,
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Every message as attributes of `DriveFrame`; the stamps of maps that cannot be decoded are taken out."""
    part_of_topic = {topic.name: part for part, topic in topics.items()}
    stream = ImageStream()
    with open_drive(path, sidecar) as reader:
        for recorded in _progress(reader, topics, what="evaluating"):
            part = part_of_topic[recorded.topic]
            try:
                message = reader.deserialize(recorded)
            except BagError as error:
                bad_frames.skip(str(error))
                continue
            stamp_ns = stamp_ns_of(header_of(message))
            # recorded at the very stamp: written by a tool, which says nothing of the time it took
            arrived_ns = None if recorded.log_stamp_ns == stamp_ns else recorded.log_stamp_ns
            if part == "image" and not is_video_packet(message):
                yield stamp_ns, {"image": partial(stream.bgr, message), "image_at_ns": arrived_ns}
                continue
            try:
                if part == "image":  # a video frame stands on those before it, so each is decoded in its turn
                    bgr = stream.bgr(message)
                    yield stamp_ns, {"image": partial(np.copy, bgr), "image_at_ns": arrived_ns}
                    continue
                values = label_map_from_image(message)
            except ImageMessageError as error:
                bad_frames.skip(_unusable(path, topics[part], stamp_ns, error))
                stamps[part].discard(stamp_ns)
                continue
            if part == "class_map":
                if sidecar is not None:  # recorded with its image: made by a tool, too
                    arrived_ns = None
                age_ms = None if arrived_ns is None else stamp_age_ms(stamp_ns, arrived_ns, simulated_clock=False)
                yield stamp_ns, {"class_map": values, "class_map_at_ns": arrived_ns, "class_map_age_ms": age_ms}
            else:
                yield stamp_ns, {part: values != 0 if part == "invalid_mask" else values}
    if stream.lost_packets:
        bad_frames.lose(stream.lost_packets, of=f"topic {topics['image'].name} in {path}")


def _progress(reader: BagReader, topics: dict[Part, BagTopic], *, what: str) -> Iterator[BagMessage]:
    names = [topic.name for topic in topics.values()]
    total = sum(topic.count for topic in topics.values())
    # disable=None shows the bar on a terminal only
    yield from tqdm(reader.messages(names), total=total, desc=what, unit="message", leave=False, disable=None)


def _unusable(path: Path, topic: BagTopic, stamp_ns: int, error: Exception) -> str:
    return f"{path}: the message of {topic.name} of stamp {stamp_text(stamp_ns)}: {error}"


def _result_of(path: Path, evaluation: DriveEvaluation) -> EvaluationResult:
    try:
        return evaluation.result()
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error
