"""What one drive of a fleet says: sums over its frames, by camera, hour and darkness, that add up over drives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import cv2
import numpy as np

from darkseg_ros.classes import CITYSCAPES, IGNORE_INDEX, ClassTable
from darkseg_ros.errors import ImageMessageError, InputError
from darkseg_ros.evaluation.bag import (
    BagTopics,
    expected_parts,
    find_topics,
    read_parts,
    sha256_of_bag,
    stamps_of,
)
from darkseg_ros.evaluation.consistency import FlowConsistency
from darkseg_ros.evaluation.drive import DriveFrame, FrameJoin, Part
from darkseg_ros.evaluation.metrics import confusion_matrix, mean_iou_of_present
from darkseg_ros.evaluation.page import error_map
from darkseg_ros.fleet.worker_model import open_once
from darkseg_ros.frames.bad_frames import BadFrames
from darkseg_ros.frames.bags import IMAGE_TYPE, BagReader, BagTopic
from darkseg_ros.frames.levels import histogram_level
from darkseg_ros.frames.stamps import stamp_text
from darkseg_ros.model.bundle import load_classes
from darkseg_ros.model.segmenter import Segmenter
from darkseg_ros.pictures.overlay import draw_overlay
from darkseg_ros.stream.camera_health import CameraHealth

LEVELS = ((10, "0–10"), (20, "10–20"), (40, "20–40"), (65, "40–65"), (256, "65–255, no night"))
"""Histogram levels of frames, by the first level that is too bright; below 65 is night (`frames.levels`)."""

UNKNOWN = "unknown"

_CONFIDENCES = 256
_UNBOUNDED = 2**62
_PICTURE_WIDTH_PX = 360
_PICTURE_QUALITY = 70
_REASONS_MAX = 10
_IMAGE_NAMES = ("image_raw", "image", "image_color", "image_rect", "image_rect_color", "compressed", "image_compressed")


@dataclass(frozen=True)
class JudgementSettings:
    """How every drive of a fleet is judged. It goes to other machines: bundles are named by paths that lead there too.

    Attributes:
        topics: what to take, as for one drive.
        label_topic: of the label maps; None takes each topic called ``…/label_map``, a camera each.
        unlabelled: look for no label maps.
        bundle: of the model; it makes the class maps where the drive holds none, or `recorded` is False.
        backend: its inference library.
        device: of the backend, ``cpu``, ``cuda`` or ``auto``.
        recorded: take class maps of the drive.
        classes: bundle with the class table of recorded class maps; None is Cityscapes'.
        timezone: of the hours, such as ``Europe/Berlin``.
        strict: a frame that cannot be read fails its drive.
    """

    bundle: Path
    backend: str = "auto"
    device: str = "auto"
    topics: BagTopics = field(default_factory=BagTopics)
    label_topic: str | None = None
    unlabelled: bool = False
    recorded: bool = True
    classes: Path | None = None
    timezone: str = "UTC"
    strict: bool = False


@dataclass
class Sums:
    """Counts over frames; all are whole numbers, so their sum is the same in whatever order they are added.

    Attributes:
        confusion: (K, K + 1) int64, class maps against label maps.
        warped: (K, K + 1) int64, from frame to frame, see `FlowConsistency`.
        predicted: (K,) int64 pixels of the class maps by class.
        right: (256,) int64 labelled pixels that are right, by confidence.
        wrong: (256,) int64 labelled pixels that are wrong.
        certainty: (256,) int64 all pixels by confidence.
        frames: with a class map.
        scored: of them, with a label map.
        seen: of them, whose camera image was looked at.
        unhealthy: of these, with a fault of the camera.
    """

    confusion: np.ndarray
    warped: np.ndarray
    predicted: np.ndarray
    right: np.ndarray = field(default_factory=lambda: np.zeros(_CONFIDENCES, np.int64))
    wrong: np.ndarray = field(default_factory=lambda: np.zeros(_CONFIDENCES, np.int64))
    certainty: np.ndarray = field(default_factory=lambda: np.zeros(_CONFIDENCES, np.int64))
    frames: int = 0
    scored: int = 0
    seen: int = 0
    unhealthy: int = 0

    @classmethod
    def empty(cls, class_count: int) -> Sums:
        """Nothing counted yet."""
        shape = (class_count, class_count + 1)
        return cls(
            confusion=np.zeros(shape, np.int64),
            warped=np.zeros(shape, np.int64),
            predicted=np.zeros(class_count, np.int64),
        )

    def __add__(self, other: Sums) -> Sums:
        return Sums(**{name: value + getattr(other, name) for name, value in vars(self).items()})


@dataclass(frozen=True)
class WorstFrame:
    """The frame of a stretch that does worst.

    Attributes:
        name: its stamp in seconds.
        value: mIoU of the present classes where it has a label map, else its mean confidence; both 0…1.
        picture: JPEG of camera, class map over it and, with a label map, the errors, side by side; empty without image.
    """

    name: str
    value: float
    picture: bytes


@dataclass
class Stretch:
    """Frames of a drive with the same camera, hour and darkness.

    Attributes:
        camera: namespace of its topics.
        hour: "00"…"23", of the stamps; UNKNOWN where they are no time of day.
        level: one of LEVELS; UNKNOWN without camera images.
        sums: over its frames.
        worst: None before the first frame.
    """

    camera: str
    hour: str
    level: str
    sums: Sums
    worst: WorstFrame | None = None


@dataclass(frozen=True)
class DriveJudgement:
    """Everything that is kept of a drive.

    Attributes:
        place: where it lies.
        classes: names of the K classes.
        stretches: sums, in a fixed order.
        label_maps: how many the drive holds.
        bad_frames: frames that could not be used.
        reasons: of the first ten of these.
        sha256: over its files.
        bundle: name of the model; None for recorded class maps.
        backend: the engine it ran on.
    """

    place: str
    classes: tuple[str, ...]
    stretches: tuple[Stretch, ...]
    label_maps: int
    bad_frames: int
    reasons: tuple[str, ...]
    sha256: str
    bundle: str | None
    backend: str | None


def judge_drive(path: Path, settings: JudgementSettings, *, place: str) -> DriveJudgement:
    """Judge every camera of a drive.

    With label maps the frames that have one are scored, as by `darkseg evaluate` of the one drive; without, every
    frame is segmented. The engine runs on one thread, so that the figures are those of any number of workers.

    Args:
        path: the bag.
        settings: how.
        place: what the drive is called in the result.

    Raises:
        InputError: if it cannot be read, or holds nothing to judge.
    """
    reasons: list[str] = []
    bad_frames = BadFrames(strict=settings.strict, tell=reasons.append)
    cameras = _cameras_of(path, settings)
    segmenter: Segmenter | None = None
    if any("class_map" not in topics for topics in cameras.values()):
        segmenter = open_once(settings.bundle, settings.backend, settings.device)
        classes = segmenter.bundle.classes
    else:
        classes = CITYSCAPES if settings.classes is None else load_classes(settings.classes)
    found: dict[tuple[str, str, str], Stretch] = {}
    for camera, topics in cameras.items():
        judge = _CameraJudge(camera, found, classes, segmenter, bad_frames, settings)
        for frame in _joined(path, topics, bad_frames):
            judge.add(frame)
    if not any(stretch.sums.frames for stretch in found.values()):
        raise InputError(f"{path} holds no frame that could be judged; {'; '.join(reasons[:1]) or 'it has no images'}")
    labelled = any(stretch.sums.scored for stretch in found.values())
    if not labelled and any("label_map" in topics for topics in cameras.values()):
        raise InputError(f"{path}: no label map could be scored; {'; '.join(reasons[:1]) or 'all its pixels are 255'}")
    return DriveJudgement(
        place=place,
        classes=tuple(classes.names),
        stretches=tuple(found[key] for key in sorted(found)),
        label_maps=sum(topics["label_map"].count for topics in cameras.values() if "label_map" in topics),
        bad_frames=bad_frames.count,
        reasons=tuple(reasons[:_REASONS_MAX]),
        sha256=sha256_of_bag(path),
        bundle=None if segmenter is None else segmenter.bundle.name,
        backend=None if segmenter is None else segmenter.engine.name,
    )


def camera_of(topic: str) -> str:
    """The camera that a topic of images belongs to: ``/front`` of ``/front/image_raw/compressed``."""
    parts = topic.split("/")
    while len(parts) > 2 and parts[-1] in _IMAGE_NAMES:
        parts.pop()
    return "/".join(parts)


def _cameras_of(path: Path, settings: JudgementSettings) -> dict[str, dict[Part, BagTopic]]:
    """The topics of each camera; several label maps, or several cameras without any, are a camera each."""
    wanted = settings.topics
    with BagReader(path) as reader:
        images = [wanted.image] if wanted.image else [topic.name for topic in reader.camera_topics()]
        labels = [settings.label_topic] if settings.label_topic else _topics_called(reader, "label_map")
        class_maps = [wanted.class_map] if wanted.class_map else _topics_called(reader, "class_map")
    if settings.unlabelled or not labels:
        return _unlabelled_cameras(path, settings, images, class_maps)
    cameras: dict[str, dict[Part, BagTopic]] = {}
    for label in labels:
        own = replace(wanted, label=label)
        if len(labels) > 1:
            above = f"{label.rpartition('/')[0]}/"
            own = replace(
                own,
                image=next((name for name in images if name.startswith(above)), None),
                class_map=next((name for name in class_maps if name.startswith(above)), None),
            )
        topics = find_topics(path, own, recorded=settings.recorded)
        cameras[camera_of(topics["image"].name) if "image" in topics else topics["class_map"].name] = topics
    return cameras


def _unlabelled_cameras(
    path: Path, settings: JudgementSettings, images: list[str], class_maps: list[str]
) -> dict[str, dict[Part, BagTopic]]:
    if not images:
        raise InputError(f"{path} has neither label maps nor camera images; name them with --image-topic")
    cameras: dict[str, dict[Part, BagTopic]] = {}
    with BagReader(path) as reader:
        for name in images:
            topics: dict[Part, BagTopic] = {"image": reader.image_topic(name)}
            if settings.recorded and len(images) == len(class_maps) == 1:
                topics["class_map"] = reader.topics[class_maps[0]]
                confidence = reader.topics.get(f"{class_maps[0].rpartition('/')[0]}/confidence")
                if confidence is not None and confidence.message_type == IMAGE_TYPE:
                    topics["confidence"] = confidence
            cameras[camera_of(name)] = topics
    return cameras


def _topics_called(reader: BagReader, last: str) -> list[str]:
    return [
        topic.name
        for topic in reader.topics.values()
        if topic.name.rpartition("/")[2] == last and topic.message_type == IMAGE_TYPE and topic.count
    ]


def _joined(path: Path, topics: dict[Part, BagTopic], bad_frames: BadFrames) -> Iterator[DriveFrame]:
    stamps = stamps_of(path, topics, matching="class_map" if "class_map" in topics else "image")
    with_model = "class_map" not in topics
    join = FrameJoin(expected_parts(stamps), capacity=_UNBOUNDED)
    for stamp_ns, parts in read_parts(path, topics, stamps, bad_frames):
        for frame in join.put(stamp_ns, **parts):
            if with_model and "label_map" in topics and frame.label_map is None:
                continue  # scored as `evaluate` does: only frames that have a label map are worth the engine's time
            yield frame
    yield from join.flush()


class _CameraJudge:
    """Adds the frames of one camera to the stretches of its drive."""

    def __init__(
        self,
        camera: str,
        stretches: dict[tuple[str, str, str], Stretch],
        classes: ClassTable,
        segmenter: Segmenter | None,
        bad_frames: BadFrames,
        settings: JudgementSettings,
    ) -> None:
        self._camera = camera
        self._stretches = stretches
        self._classes = classes
        self._segmenter = segmenter
        self._bad_frames = bad_frames
        self._zone = ZoneInfo(settings.timezone)
        self._health = CameraHealth()
        self._consistency = FlowConsistency(classes)

    def add(self, frame: DriveFrame) -> None:
        """Add one frame; one that cannot be used is told."""
        where = f"{self._camera} at {stamp_text(frame.stamp_ns)} s"
        try:
            bgr = frame.image() if frame.image else None
        except ImageMessageError as error:
            self._bad_frames.skip(f"{where}: {error}")
            bgr = None
        class_map, confidence = frame.class_map, frame.confidence
        if class_map is None:
            if bgr is None or self._segmenter is None:
                return
            segmentation = self._segmenter(bgr)
            class_map, confidence = segmentation.class_map, segmentation.confidence
        confusion = None
        try:
            self._classes.check(class_map)
            if confidence is not None and confidence.shape != class_map.shape:
                raise ValueError(f"the confidence is {confidence.shape}, the class map {class_map.shape}")
            if frame.label_map is not None:
                confusion = confusion_matrix(frame.label_map, class_map, self._classes)
        except ValueError as error:
            self._bad_frames.skip(f"{where}: {error}")
            return
        if bgr is not None and bgr.shape[:2] != class_map.shape:
            bgr = None
        stretch = self._stretch_of(frame.stamp_ns, bgr)
        _count(stretch.sums, frame.label_map, class_map, confidence, confusion)
        if bgr is not None:
            stretch.sums.seen += 1
            stretch.sums.unhealthy += not self._health.check(bgr).healthy
            warped = self._consistency.add(frame.stamp_ns, bgr, class_map)
            if warped is not None:
                stretch.sums.warped += warped
        self._offer_worst(stretch, frame, bgr, class_map, confidence, confusion)

    def _stretch_of(self, stamp_ns: int, bgr: np.ndarray | None) -> Stretch:
        level = UNKNOWN
        if bgr is not None:
            brightness = histogram_level(bgr)
            level = next(name for end, name in LEVELS if brightness < end)
        # stamps of a drive without a clock count from zero
        known = stamp_ns > 86_400 * 10**9
        hour = datetime.fromtimestamp(stamp_ns // 10**9, self._zone).strftime("%H") if known else UNKNOWN
        key = (self._camera, hour, level)
        if key not in self._stretches:
            self._stretches[key] = Stretch(*key, Sums.empty(len(self._classes)))
        return self._stretches[key]

    def _offer_worst(
        self,
        stretch: Stretch,
        frame: DriveFrame,
        bgr: np.ndarray | None,
        class_map: np.ndarray,
        confidence: np.ndarray | None,
        confusion: np.ndarray | None,
    ) -> None:
        if confusion is not None:
            value = float(mean_iou_of_present(confusion))
        elif confidence is not None:
            value = float(confidence.mean() / 255)
        else:
            return
        if np.isnan(value) or (stretch.worst is not None and stretch.worst.value <= value):
            return
        picture = b"" if bgr is None else _picture(bgr, class_map, frame.label_map, self._classes)
        stretch.worst = WorstFrame(stamp_text(frame.stamp_ns), value, picture)


def _count(
    sums: Sums,
    label_map: np.ndarray | None,
    class_map: np.ndarray,
    confidence: np.ndarray | None,
    confusion: np.ndarray | None,
) -> None:
    sums.frames += 1
    sums.predicted += np.bincount(class_map.ravel(), minlength=IGNORE_INDEX + 1)[: len(sums.predicted)]
    if confidence is not None:
        sums.certainty += np.bincount(confidence.ravel(), minlength=_CONFIDENCES)
    if label_map is None or confusion is None:
        return
    sums.scored += 1
    sums.confusion += confusion
    if confidence is not None:
        labelled = label_map != IGNORE_INDEX
        hit = labelled & (label_map == class_map)
        sums.right += np.bincount(confidence[hit], minlength=_CONFIDENCES)
        sums.wrong += np.bincount(confidence[labelled & ~hit], minlength=_CONFIDENCES)


def _picture(bgr: np.ndarray, class_map: np.ndarray, label_map: np.ndarray | None, classes: ClassTable) -> bytes:
    width = min(_PICTURE_WIDTH_PX, bgr.shape[1])
    wh = (width, max(1, round(bgr.shape[0] * width / bgr.shape[1])))
    panes = [bgr, draw_overlay(bgr, class_map, classes)]
    if label_map is not None:
        panes.append(error_map(bgr, label_map, class_map))
    small = np.hstack([cv2.resize(pane, wh, interpolation=cv2.INTER_AREA) for pane in panes])
    encoded, content = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, _PICTURE_QUALITY])
    return content.tobytes() if encoded else b""
