"""Scores a drive frame by frame: its images, label maps and class maps come as separate streams, joined by stamp."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from darkseg_ros.classes import CITYSCAPES, ClassTable
from darkseg_ros.errors import ImageMessageError
from darkseg_ros.evaluation.metrics import UIOU_MIN_CONFIDENCE, Evaluation, Flicker, Metrics, mean_iou_of_present
from darkseg_ros.frames.stamps import stamp_text
from darkseg_ros.stream.monitor import percentile

SHOWN_FRAMES = 8

_SHOWN_PERIOD_NS = 500_000_000  # neighbouring frames fail alike: one of them is shown
_LATENCIES_MAX = 100_000  # an hour at 30 Hz

Part = Literal["image", "label_map", "invalid_mask", "class_map", "confidence"]
"""What a frame may consist of; names of attributes of `DriveFrame`."""


@dataclass(frozen=True)
class DriveFrame:
    """What is known of the frame of one stamp; None for what did not come, or not yet.

    Attributes:
        stamp_ns: the camera's stamp.
        image: decodes the camera image, (H, W, 3) uint8 BGR: only frames that are shown need it.
        image_at_ns: when the image arrived, on the clock of `class_map_at_ns`.
        label_map: (H, W) uint8 ground truth.
        invalid_mask: (H, W) bool, see `evaluation.Invalidation`.
        class_map: (H, W) uint8 prediction.
        class_map_at_ns: when it arrived.
        class_map_age_ms: time from the camera's stamp to its arrival, None where clock and stamp do not fit.
        confidence: (H, W) uint8, 255 = certain.
    """

    stamp_ns: int
    image: Callable[[], np.ndarray] | None = None
    image_at_ns: int | None = None
    label_map: np.ndarray | None = None
    invalid_mask: np.ndarray | None = None
    class_map: np.ndarray | None = None
    class_map_at_ns: int | None = None
    class_map_age_ms: float | None = None
    confidence: np.ndarray | None = None

    def has(self, parts: frozenset[Part]) -> bool:
        """Whether all of these came."""
        return all(getattr(self, part) is not None for part in parts)


@dataclass(frozen=True)
class ShownFrame:
    """A frame for the report.

    Attributes:
        name: its stamp in seconds, or the name of its file.
        miou_present: of this frame alone.
        image: decodes the camera image, (H, W, 3) uint8 BGR; None where there is none.
        label_map: (H, W) uint8.
        class_map: (H, W) uint8.
    """

    name: str
    miou_present: float
    image: Callable[[], np.ndarray] | None
    label_map: np.ndarray
    class_map: np.ndarray

    def bgr(self) -> np.ndarray | None:
        """The camera image; None where there is none that can be decoded and has the class map's size."""
        try:
            bgr = self.image() if self.image else None
        except ImageMessageError:
            return None  # whoever made the class map has had to judge that
        return bgr if bgr is not None and bgr.shape[:2] == self.class_map.shape else None


@dataclass(frozen=True)
class DriveFigures:
    """Figures of a sequence, beside the `Metrics` of its frames.

    Attributes:
        frames_in: camera images.
        class_maps: class maps.
        label_maps: label maps.
        matched_share: of the label maps, those that a class map was scored against; None where there are none.
        dropped: camera images without a class map; None where there are no camera images to count.
        dropped_share: of all camera images.
        flicker: share of pixels whose class changes from one class map to the next, see `evaluation.Flicker`.
        flicker_static: the same where the label maps do not change, over frames that have one.
        latency_p50_ms: until the class map arrived; None where it cannot be known.
        latency_p95_ms: the same, 95th percentile.
        latency_p99_ms: the same, 99th percentile.
        latency_from: ``stamp``: counted from the camera's stamp. ``image``: from the arrival of the camera image, as
            the stamps are not of the clock of the arrivals (a drive that is replayed).
    """

    frames_in: int
    class_maps: int
    label_maps: int
    matched_share: float | None
    dropped: int | None
    dropped_share: float | None
    flicker: float | None
    flicker_static: float | None
    latency_p50_ms: float | None
    latency_p95_ms: float | None
    latency_p99_ms: float | None
    latency_from: Literal["stamp", "image"] | None


class FrameJoin:
    """Collects the parts of each frame by stamp, in whichever order they come.

    `stamp_matcher.StampMatcher` joins two streams and forgets what stays alone; here every frame is accounted for.

    Args:
        expected: the parts that a frame of this stamp waits for.
        capacity: ≥ 1 frames that wait; the oldest by arrival makes room.
    """

    def __init__(self, expected: Callable[[int], frozenset[Part]], *, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, got {capacity}")
        self._expected = expected
        self._capacity = capacity
        self._waiting: dict[int, DriveFrame] = {}

    def put(self, stamp_ns: int, **parts: Any) -> list[DriveFrame]:
        """Add attributes of `DriveFrame`; a part that came before is replaced.

        Returns:
            The frames that need to wait no longer: complete, or pushed out by newer ones.
        """
        frame = replace(self._waiting.get(stamp_ns) or DriveFrame(stamp_ns), **parts)
        if frame.has(self._expected(stamp_ns)):
            self._waiting.pop(stamp_ns, None)
            return [frame]
        self._waiting[stamp_ns] = frame
        if len(self._waiting) <= self._capacity:
            return []
        return [self._waiting.pop(next(iter(self._waiting)))]

    def flush(self) -> list[DriveFrame]:
        """End the wait of all frames."""
        left, self._waiting = list(self._waiting.values()), {}
        return left


class WorstFrames:
    """Keeps the frames of lowest IoU, of each half second one, in bounded memory."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._frames: dict[int, ShownFrame] = {}

    def offer(self, period: int, frame: ShownFrame) -> None:
        """Keep a frame if it belongs to the worst; one without labelled pixels never does.

        Args:
            period: of frames with the same number only the worst is kept.
            frame: what to keep.
        """
        rivals = {period: self._frames[period]} if period in self._frames else self._frames
        if math.isnan(frame.miou_present):
            return
        if period in self._frames or len(self._frames) == self._count:
            best = max(rivals, key=lambda key: rivals[key].miou_present, default=None)
            if best is None or rivals[best].miou_present <= frame.miou_present:
                return
            del self._frames[best]
        self._frames[period] = frame

    def worst_first(self) -> tuple[ShownFrame, ...]:
        """What was kept."""
        return tuple(sorted(self._frames.values(), key=lambda frame: (frame.miou_present, frame.name)))


class DriveEvaluation:
    """Turns the parts of a drive, as they come, into figures. Memory is bounded.

    Args:
        expected: the parts that a frame of this stamp waits for.
        capacity: frames that wait for their parts; the oldest is scored with what it has.
        on_unusable: told why a frame cannot be scored, such as sizes that differ.
        classes: of the label maps and class maps.
        uiou_min_confidence: 0…1, see `evaluation.Invalidation`.
        shown_frames: how many of the worst frames to keep for the report.
    """

    def __init__(
        self,
        expected: Callable[[int], frozenset[Part]],
        *,
        capacity: int,
        on_unusable: Callable[[str], None],
        classes: ClassTable = CITYSCAPES,
        uiou_min_confidence: float = UIOU_MIN_CONFIDENCE,
        shown_frames: int = SHOWN_FRAMES,
    ) -> None:
        self.evaluation = Evaluation(classes, uiou_min_confidence=uiou_min_confidence)
        self._join = FrameJoin(expected, capacity=capacity)
        self._on_unusable = on_unusable
        self._worst = WorstFrames(shown_frames)
        self._flicker, self._flicker_static = Flicker(), Flicker()
        self._frames_in = self._class_maps = self._label_maps = self._dropped = 0
        self._first_stamp_ns: int | None = None
        # of each class map: NaN where it is not known
        self._times_s, self._ages_ms, self._since_image_ms = (deque[float](maxlen=_LATENCIES_MAX) for _ in range(3))

    def put(self, stamp_ns: int, **parts: Any) -> None:
        """Add parts of a frame, attributes of `DriveFrame`."""
        self._frames_in += "image" in parts
        self._label_maps += "label_map" in parts
        if "class_map" in parts:
            self._class_maps += 1
            self._flicker.add(stamp_ns, parts["class_map"])
        for frame in self._join.put(stamp_ns, **parts):
            self._finish(frame)

    def finish(self) -> None:
        """Nothing more will come: score the frames that still wait."""
        for frame in self._join.flush():
            self._finish(frame)

    def _finish(self, frame: DriveFrame) -> None:
        if self._first_stamp_ns is None:
            self._first_stamp_ns = frame.stamp_ns
        if frame.class_map is None:
            self._dropped += frame.image is not None
            return
        self._times_s.append((frame.stamp_ns - self._first_stamp_ns) / 1e9)
        self._ages_ms.append(math.nan if frame.class_map_age_ms is None else frame.class_map_age_ms)
        if frame.class_map_at_ns is None or frame.image_at_ns is None:
            self._since_image_ms.append(math.nan)
        else:
            self._since_image_ms.append((frame.class_map_at_ns - frame.image_at_ns) / 1e6)
        if frame.label_map is not None:
            self._score(frame, frame.label_map, frame.class_map)

    def _score(self, frame: DriveFrame, label_map: np.ndarray, class_map: np.ndarray) -> None:
        try:
            confusion = self.evaluation.add(label_map, class_map, frame.confidence, invalid_mask=frame.invalid_mask)
        except ValueError as error:
            self._on_unusable(f"the frame of stamp {stamp_text(frame.stamp_ns)}: {error}")
            return
        self._flicker_static.add(frame.stamp_ns, class_map, label_map)
        shown = ShownFrame(
            name=f"{stamp_text(frame.stamp_ns)} s",
            miou_present=float(mean_iou_of_present(confusion)),
            image=frame.image,
            label_map=label_map,
            class_map=class_map,
        )
        self._worst.offer(frame.stamp_ns // _SHOWN_PERIOD_NS, shown)

    @property
    def scored(self) -> int:
        """Frames with class map and label map so far."""
        return self.evaluation.images

    def figures(self) -> DriveFigures:
        """The sequence so far; frames that wait are not dropped yet."""
        source, latencies = self._known_latencies()
        values = np.sort(latencies[:, 1]).tolist()
        return DriveFigures(
            frames_in=self._frames_in,
            class_maps=self._class_maps,
            label_maps=self._label_maps,
            matched_share=self.scored / self._label_maps if self._label_maps else None,
            dropped=self._dropped if self._frames_in else None,
            dropped_share=self._dropped / self._frames_in if self._frames_in else None,
            flicker=self._flicker.share(),
            flicker_static=self._flicker_static.share(),
            latency_p50_ms=percentile(values, 50),
            latency_p95_ms=percentile(values, 95),
            latency_p99_ms=percentile(values, 99),
            latency_from=source,
        )

    def _known_latencies(self) -> tuple[Literal["stamp", "image"] | None, np.ndarray]:
        """Where they are counted from, and (N, 2) float64: seconds since the first frame, milliseconds."""
        sources: tuple[tuple[Literal["stamp", "image"], deque[float]], ...] = (
            ("stamp", self._ages_ms),
            ("image", self._since_image_ms),
        )
        for source, values in sources:
            latencies = np.stack([np.fromiter(column, np.float64) for column in (self._times_s, values)], axis=1)
            known = latencies[~np.isnan(latencies[:, 1])]
            if len(known) * 2 > len(latencies):  # a clock that was set meanwhile spoils a few
                return source, known
        return None, np.empty((0, 2))

    def result(self) -> EvaluationResult:
        """Everything for the report.

        Raises:
            ValueError: if no frame had both maps, or no labelled pixel.
        """
        return EvaluationResult(
            metrics=self.evaluation.metrics(),
            confusion=self.evaluation.confusion,
            classes=self.evaluation.classes,
            shown=self._worst.worst_first(),
            drive=self.figures(),
            latencies=self._known_latencies()[1],
        )


@dataclass(frozen=True)
class EvaluationResult:
    """What was found out.

    Attributes:
        metrics: figures over all frames with ground truth.
        confusion: (K, K + 1) int64 as `evaluation.confusion_matrix` gives it, over the same.
        shown: the worst frames, the worst first.
        classes: the K classes.
        drive: figures of the sequence; None for single images.
        latencies: (N, 2) float64, of each class map the seconds since the first frame and the milliseconds.
    """

    metrics: Metrics
    confusion: np.ndarray
    shown: tuple[ShownFrame, ...]
    classes: ClassTable = CITYSCAPES
    drive: DriveFigures | None = None
    latencies: np.ndarray = field(default_factory=lambda: np.empty((0, 2)))


@dataclass(frozen=True)
class EvaluatedInput:
    """What was evaluated.

    Attributes:
        name: of the bag, folder or topic.
        comparison: one sentence: which class maps against which label maps.
        sha256: over the input's files; None for a live stream.
        bundle: name of the model bundle that made the class maps, None where they came recorded or live.
        backend: the engine it ran on.
        bad_frames: frames that could not be read and are in no figure.
    """

    name: str
    comparison: str
    sha256: str | None
    bundle: str | None = None
    backend: str | None = None
    bad_frames: int = 0
