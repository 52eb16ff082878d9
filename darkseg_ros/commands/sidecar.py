"""Predictions beside a drive: class maps, confidence, the classes' names and diagnostics in a bag of their own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from rosbags.interfaces import QosDurability
from tqdm import tqdm

from darkseg_ros.classes import ClassTable
from darkseg_ros.errors import BagError, ImageMessageError, InputError
from darkseg_ros.frames.bad_frames import BadFrames
from darkseg_ros.frames.bags import BagReader, BagWriter, is_bag
from darkseg_ros.frames.image_stream import ImageStream
from darkseg_ros.frames.source import check_name, name_of
from darkseg_ros.frames.stamps import header_of, stamp_ns_of, stamp_ns_to_write
from darkseg_ros.frames.storage.channel import DEFAULT_QOS
from darkseg_ros.model.in_order import in_order
from darkseg_ros.model.segmenter import Segmentation, Segmenter
from darkseg_ros.stream.camera_guard import FLAG, camera_verdict
from darkseg_ros.stream.camera_health import CameraHealth, camera_values
from darkseg_ros.stream.frame_gate import DropReason
from darkseg_ros.stream.monitor import Health, HealthLevel

NODE = "segmentation_node"
CLASS_MAP_TOPIC, CONFIDENCE_TOPIC, LABEL_INFO_TOPIC = (
    f"/{NODE}/{name}" for name in ("class_map", "confidence", "label_info")
)
DIAGNOSTICS_TOPIC = "/diagnostics"

_UNDECODABLE = f"dropped_{DropReason.UNDECODABLE.value}"
_RUNNING = Health(HealthLevel.OK, "running")
_REPORT_PERIOD_NS = 1_000_000_000
_LATCHED = DEFAULT_QOS._replace(depth=1, durability=QosDurability.TRANSIENT_LOCAL)


@dataclass(frozen=True)
class Sidecar:
    """What was written: the bag, and the frames in it."""

    path: Path
    frames: int


@dataclass(frozen=True)
class SidecarPlan:
    """A drive and the bag that its predictions go to."""

    drive: Path
    topic: str
    path: Path


def plan_sidecar(drive: Path, *, out: Path, topic: str | None = None) -> SidecarPlan:
    """Find out, before a model is opened, whether a drive can be read and its sidecar written.

    Args:
        drive: a bag with camera images.
        out: folder of the sidecar, ``OUT/<drive>_predictions``.
        topic: of the images; needed only where the bag has several image topics.

    Raises:
        InputError: if the drive is no bag, has no such topic, or the sidecar exists already.
    """
    check_name(out)
    if not is_bag(drive):
        raise InputError(f"{drive} is not a bag: a sidecar needs the stamps of one; leave out --sidecar")
    with BagReader(drive) as reader:
        found = reader.image_topic(topic)
    path = out / f"{name_of(drive)}_predictions"
    if path.exists():
        raise BagError(f"{path} exists already; remove it or choose another --out")
    return SidecarPlan(drive, found.name, path)


def write_sidecar(plan: SidecarPlan, *, segmenter: Segmenter, bad_frames: BadFrames | None = None) -> Sidecar:
    """Segment every frame of a drive into a bag (mcap, compressed) with the topics of segmentation_node.

    Each class map and confidence map bears its frame's header and the time at which the frame was recorded, so that
    a viewer that opens both files shows them together. Diagnostics tell the condition of the camera: each second of the
    drive, and whenever it changes. The drive is only read.

    Args:
        plan: as `plan_sidecar` gives it.
        segmenter: answers every frame.
        bad_frames: gets frames that cannot be decoded; None raises at the first.

    Raises:
        BagError: if the drive is damaged, no frame can be decoded, or the sidecar cannot be written; nothing is left
            behind then.
    """
    bad_frames = bad_frames or BadFrames(strict=True)
    read = Counter({"frames_in": 0, _UNDECODABLE: 0})

    def answered(frame: _Frame) -> Segmentation:
        return segmenter(frame.bgr)

    with (
        BagReader(plan.drive) as reader,
        BagWriter(plan.path, compressed=True) as writer,
        in_order(answered, _frames(reader, plan, bad_frames, read), threads=segmenter.engine.streams) as answers,
    ):
        diagnostics = _Diagnostics(writer, plan.topic, segmenter)
        for frame, segmentation in answers:
            header, log_stamp_ns = frame.header, frame.log_stamp_ns
            if not diagnostics.counts["frames_published"]:
                writer.write_message(
                    LABEL_INFO_TOPIC,
                    "vision_msgs/msg/LabelInfo",
                    _label_info(header, segmenter.bundle.classes, threshold=segmenter.min_confidence),
                    log_stamp_ns=log_stamp_ns,
                    qos=(_LATCHED,),
                )
            for topic, values in (
                (CLASS_MAP_TOPIC, segmentation.class_map),
                (CONFIDENCE_TOPIC, segmentation.confidence),
            ):
                writer.write_image(
                    topic,
                    values,
                    stamp_ns=stamp_ns_of(header),
                    frame_id=header.frame_id,
                    encoding="mono8",
                    log_stamp_ns=log_stamp_ns,
                )
            diagnostics.counts |= {**frame.counts, "frames_published": diagnostics.counts["frames_published"] + 1}
            diagnostics.look(frame.bgr, header, log_stamp_ns=log_stamp_ns)
        frames = diagnostics.counts["frames_published"]
        if not frames:
            total = reader.topics[plan.topic].count
            raise BagError(f"none of the {total} frames of {plan.topic} in {plan.drive} can be decoded")
        diagnostics.counts |= read
        diagnostics.close()
    return Sidecar(plan.path, frames)


@dataclass(frozen=True)
class _Frame:
    """A camera image of the drive.

    Attributes:
        header: of its message.
        log_stamp_ns: when it was recorded.
        bgr: (H, W, 3) uint8.
        counts: of the frames read so far, this one too.
    """

    header: SimpleNamespace
    log_stamp_ns: int
    bgr: np.ndarray
    counts: dict[str, int]


def _frames(reader: BagReader, plan: SidecarPlan, bad_frames: BadFrames, read: Counter[str]) -> Iterator[_Frame]:
    stream = ImageStream()
    total = reader.topics[plan.topic].count
    # disable=None shows the bar on a terminal only
    for recorded in tqdm(reader.messages([plan.topic]), total=total, desc="frames", disable=None):
        read["frames_in"] += 1
        try:
            message = reader.deserialize(recorded)
            bgr = stream.bgr(message)
            stamp_ns_to_write(header_of(message))
        except (BagError, ImageMessageError) as error:
            read[_UNDECODABLE] += 1
            index = read["frames_in"] - 1
            bad_frames.skip(f"frame {index} of {plan.topic} in {plan.drive} cannot be decoded: {error}")
            continue
        yield _Frame(header_of(message), recorded.log_stamp_ns, bgr, dict(read))
    bad_frames.lose(stream.lost_packets, of=f"topic {plan.topic} in {plan.drive}")


class _Diagnostics:
    """The status that the node would publish, on the drive's own time."""

    def __init__(self, writer: BagWriter, topic: str, segmenter: Segmenter) -> None:
        self.counts = {"frames_in": 0, "frames_published": 0, _UNDECODABLE: 0}
        self._writer = writer
        self._topic = topic
        self._model = {"bundle": segmenter.bundle.name, "engine": segmenter.engine.name}
        self._health = CameraHealth()
        self._latest: tuple[Health, dict[str, str], SimpleNamespace, int] | None = None
        self._told: Health | None = None
        self._told_at_ns = 0

    def look(self, bgr: np.ndarray, header: SimpleNamespace, *, log_stamp_ns: int) -> None:
        """Judge the camera by a frame, and tell it where that is due."""
        camera = self._health.check(bgr)
        verdict = camera_verdict(camera, on_unhealthy_camera=FLAG) or _RUNNING
        self._latest = (verdict, camera_values(camera), header, log_stamp_ns)
        if verdict != self._told or not 0 <= log_stamp_ns - self._told_at_ns < _REPORT_PERIOD_NS:
            self._tell()

    def close(self) -> None:
        """Tell the counts at the end of the drive."""
        self._tell()

    def _tell(self) -> None:
        assert self._latest is not None
        verdict, values, header, log_stamp_ns = self._latest
        values = {**self._model, **values, **{name: str(count) for name, count in self.counts.items()}}
        status = SimpleNamespace(
            level=int(verdict.level),
            name=f"{NODE}: segmentation",
            message=verdict.summary,
            hardware_id=self._topic,
            values=[SimpleNamespace(key=key, value=value) for key, value in values.items()],
        )
        array = SimpleNamespace(header=SimpleNamespace(stamp=header.stamp, frame_id=""), status=[status])
        self._writer.write_message(
            DIAGNOSTICS_TOPIC, "diagnostic_msgs/msg/DiagnosticArray", array, log_stamp_ns=log_stamp_ns
        )
        self._told, self._told_at_ns = verdict, log_stamp_ns


def _label_info(header: SimpleNamespace, classes: ClassTable, *, threshold: float) -> SimpleNamespace:
    return SimpleNamespace(
        header=header,
        class_map=[SimpleNamespace(class_id=train_id, class_name=name) for train_id, name in enumerate(classes.names)],
        threshold=threshold,
    )
