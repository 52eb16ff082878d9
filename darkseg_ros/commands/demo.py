"""A night drive through the live ROS 2 node: `python -m darkseg_ros.commands.demo --out out/demo`.

    bag -> player (a process) -> segmentation_node (a process) -> recorder (here)
    -> overlay.mp4, index.html, metrics.json

Progress goes to stderr; the last line of stdout is the content of metrics.json. Without an input it drives
through generated night scenes, which have label maps.
"""

from __future__ import annotations

import argparse
import json
import signal
import struct
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from darkseg_ros.child_processes import spawned
from darkseg_ros.classes import CITYSCAPES, ClassTable
from darkseg_ros.commands.demo_page import DemoFigures, FrameAge, Moment, render_page
from darkseg_ros.commands.options import add_model_options
from darkseg_ros.errors import DarksegError, ImageMessageError, InputError, one_line
from darkseg_ros.evaluation.metrics import Evaluation
from darkseg_ros.frames.bags import (
    COMPRESSED_IMAGE_TYPE,
    FRAME_ID,
    IMAGE_TOPIC,
    LABEL_TOPIC,
    START_STAMP_NS,
    BagMessage,
    BagReader,
    BagWriter,
    is_bag,
    write_bag_from_video,
)
from darkseg_ros.frames.messages import bgr_from_compressed_image, bgr_from_image, label_map_from_image
from darkseg_ros.frames.stamps import stamp_ns_of
from darkseg_ros.frames.videos import frame_time_ns
from darkseg_ros.installed_files import bundle_folder
from darkseg_ros.model.bundle import load_bundle
from darkseg_ros.nodes.node_process import (
    ClassMapRecord,
    NodeError,
    NodeProcess,
    Recorder,
    own_domain,
    record_class_maps,
)
from darkseg_ros.pictures.overlay import color_class_map, draw_overlay
from darkseg_ros.pictures.report_shell import now_text
from darkseg_ros.pictures.video_writer import VideoWriter
from darkseg_ros.synthetic_drive import SyntheticDrive

VIDEO_NAME = "overlay.mp4"
PAGE_NAME, METRICS_NAME = "index.html", "metrics.json"

_DRIVE_SEED = 7
_DRIVE_HW = (512, 1024)
_DRIVE_RATE_HZ = 30.0
_MOMENTS = 8
_DISCOVERY_TIMEOUT_S = 30.0
_DRAIN_TIMEOUT_S = 30.0
_QUIET_S = 1.5  # diagnostics come each second: after this the last report knows of the last frame
_POLL_S = 0.05
_PUBLISHED_AT = struct.Struct("<q")


class DemoError(DarksegError):
    """The player did not do its part."""


@dataclass(frozen=True)
class InputFrame:
    """An image of the bag, by what must come back with its class map."""

    stamp_ns: int
    frame_id: str


@dataclass(frozen=True)
class Drive:
    """The bag that is played.

    Attributes:
        name: what the page calls it.
        bag: the bag.
        topic: its image topic.
        compressed: whether that holds CompressedImage.
        has_labels: whether LABEL_TOPIC holds label maps.
        frames: of every image, in the order of playing.
        generated: whether this package drew it.
    """

    name: str
    bag: Path
    topic: str
    compressed: bool
    has_labels: bool
    frames: tuple[InputFrame, ...]
    generated: bool


@dataclass(frozen=True)
class Playback:
    """What was observed while the drive was played.

    Attributes:
        published_ns: time.monotonic_ns() at which each image was handed to the middleware.
        records: class maps in the order of arrival.
        diagnostics: the node's last report.
        inference_ms: the node's reports of its time in the engine.
    """

    published_ns: tuple[int, ...]
    records: tuple[ClassMapRecord, ...]
    diagnostics: dict[str, str]
    inference_ms: tuple[float, ...]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; the exit status is 0, 1 after an error, 2 for a bad command line, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m darkseg_ros.commands.demo", description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("out/demo"), help="folder for page, video and metrics")
    parser.add_argument("--input", type=Path, help="a video or a rosbag2 bag; default: a generated night drive")
    parser.add_argument("--topic", help="image topic of a bag that has several")
    add_model_options(parser)
    parser.add_argument("--seconds", type=float, default=10.0, help="length of the generated drive")
    arguments = parser.parse_args(argv)
    if not 0 < arguments.seconds <= 3600:
        parser.error(f"--seconds must be within 0…3600, got {arguments.seconds}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that children end with this process
    try:
        figures = run_demo(
            out=arguments.out,
            given=arguments.input,
            topic=arguments.topic,
            bundle=bundle_folder(arguments.bundle),
            backend=arguments.backend,
            device=arguments.device,
            seconds=arguments.seconds,
        )
    except (DarksegError, OSError) as error:
        print(f"demo: {one_line(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(json.dumps(asdict(figures), allow_nan=False))
    return 0


def run_demo(
    *,
    out: Path,
    given: Path | None,
    topic: str | None,
    bundle: Path,
    backend: str,
    device: str = "auto",
    seconds: float,
) -> DemoFigures:
    """Play a drive through the node and write what came of it to `out`.

    The files appear together at the end; a run that fails leaves those of an earlier one as they were.

    Args:
        out: folder for the four files, made if needed.
        given: a video or bag, None for a generated drive.
        topic: the bag's image topic, where it has several.
        bundle: folder of the model bundle.
        backend: as `model.backends.open_engine` takes it.
        device: likewise.
        seconds: length of the generated drive.

    Raises:
        DarksegError: if the input or the bundle cannot be used, the node does not start or ends early, or no
            class map comes back.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; name a folder to write to")
    bundle = bundle.absolute()
    classes = load_bundle(bundle).classes  # a bad bundle should not wait until a drive is rendered
    out.parent.mkdir(parents=True, exist_ok=True)
    # beside `out`, so that finished files move with a rename, and since /tmp is often memory
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as work_name:
        work = Path(work_name)
        drive = _prepare_drive(given, topic=topic, seconds=seconds, work=work)
        if drive.generated and classes != CITYSCAPES:
            drive = replace(drive, has_labels=False)  # its label maps are of other classes
        playback = _play_through_node(drive, bundle=bundle, backend=backend, device=device, work=work)
        result = work / "result"
        figures = _write_result(drive, playback, result, classes=classes)
        out.mkdir(exist_ok=True)
        for name in (VIDEO_NAME, METRICS_NAME, PAGE_NAME):
            (result / name).replace(out / name)
    _say(f"open {out / PAGE_NAME} in a browser")
    return figures


def _say(text: str) -> None:
    print(f"demo: {text}", file=sys.stderr, flush=True)


# --- the drive


def _prepare_drive(given: Path | None, *, topic: str | None, seconds: float, work: Path) -> Drive:
    if given is None:
        _say(f"rendering {seconds:g} s of a generated night drive")
        bag = work / "drive"
        _render_drive(bag, frames=max(1, round(seconds * _DRIVE_RATE_HZ)))
        return _open_drive("Generated night drive", bag, topic=None, generated=True)
    if not given.exists():
        raise InputError(f"{given} does not exist; expected a video or a rosbag2 bag")
    if is_bag(given):
        return _open_drive(given.name, given, topic=topic)
    if given.is_dir():
        raise InputError(f"{given} is a folder without a bag in it; expected a video or a rosbag2 bag")
    _say(f"turning {given.name} into a bag")
    # JPEGs: minutes of raw full-HD video would fill the disk
    write_bag_from_video(given, work / "drive", compressed=True)
    return _open_drive(given.name, work / "drive", topic=None)


def _render_drive(bag: Path, *, frames: int) -> None:
    drive = SyntheticDrive(seed=_DRIVE_SEED, size_hw=_DRIVE_HW, night=True, rate_hz=_DRIVE_RATE_HZ)
    with BagWriter(bag, "mcap") as writer:
        for index in _progress(range(frames), total=frames, what="rendering"):
            scene = drive.frame(index)
            stamp_ns = START_STAMP_NS + frame_time_ns(index, rate_hz=_DRIVE_RATE_HZ)
            writer.write_image(IMAGE_TOPIC, scene.bgr, stamp_ns=stamp_ns, frame_id=FRAME_ID)
            writer.write_image(LABEL_TOPIC, scene.label_map, stamp_ns=stamp_ns, frame_id=FRAME_ID, encoding="mono8")


def _open_drive(name: str, bag: Path, *, topic: str | None, generated: bool = False) -> Drive:
    with BagReader(bag) as reader:
        image_topic = reader.image_topic(topic)
        headers = [reader.deserialize(message).header for message in reader.messages([image_topic.name])]
        labels = reader.topics.get(LABEL_TOPIC)
    return Drive(
        name=name,
        bag=bag,
        topic=image_topic.name,
        compressed=image_topic.message_type == COMPRESSED_IMAGE_TYPE,
        has_labels=labels is not None and labels.count > 0 and labels.name != image_topic.name,
        frames=tuple(InputFrame(stamp_ns_of(header), header.frame_id) for header in headers),
        generated=generated,
    )


# --- playing it


def _play_through_node(drive: Drive, *, bundle: Path, backend: str, device: str, work: Path) -> Playback:
    published_path = work / "published_ns"
    with ExitStack() as stack:
        stack.enter_context(own_domain())
        recorder = stack.enter_context(record_class_maps(work / "class_maps", verb="demo"))
        node = stack.enter_context(_segmentation_node(drive, bundle=bundle, backend=backend, device=device, work=work))
        _say("waiting for segmentation_node to become active")
        node.wait_until_active(lambda: recorder.diagnostics.get("state"))
        _say(f"playing {len(drive.frames)} frames through {recorder.diagnostics['engine']}")
        published_path.touch()
        player = stack.enter_context(spawned(_play, (drive.bag, drive.topic, published_path), name="bag_player"))
        reports = _watch(node, player, recorder, frames=len(drive.frames))
    published = [ns for (ns,) in _PUBLISHED_AT.iter_unpack(published_path.read_bytes())]
    if len(published) != len(drive.frames):
        raise DemoError(
            f"the player published {len(published)} of {len(drive.frames)} images, then ended with status "
            f"{player.exitcode}; its message stands above"
        )
    if not recorder.records:
        last = reports[-1]
        raise NodeError(
            f"no class map came back for {len(drive.frames)} images; {last.get('frames_in', '0')} reached "
            f"the node, its last error: {last.get('last_error') or 'none'}"
        )
    inference_ms = tuple(float(report["inference_ms"]) for report in reports if report.get("inference_ms"))
    return Playback(tuple(published), tuple(recorder.records), reports[-1], inference_ms)


def _segmentation_node(drive: Drive, *, bundle: Path, backend: str, device: str, work: Path) -> NodeProcess:
    return NodeProcess(
        "segmentation_node",
        parameters={
            "transport": "compressed" if drive.compressed else "raw",
            "bundle": str(bundle),
            "backend": backend,
            "device": device,
        },
        remappings={"image/compressed" if drive.compressed else "image": drive.topic},
        log=work / "segmentation_node.log",
    )


def _play(bag: Path, topic: str, published_path: Path) -> None:
    """Body of the player's process."""
    from darkseg_ros.nodes.bag_player import play_bag

    with published_path.open("wb", buffering=0) as published:

        def note_time(message: BagMessage, now_ns: int) -> None:
            published.write(_PUBLISHED_AT.pack(now_ns))

        try:
            play_bag(bag, topics=[topic], wait_for_subscribers=_DISCOVERY_TIMEOUT_S, on_publish=note_time)
        except DarksegError as error:
            _say(f"bag player: {error}")
            sys.exit(1)


def _watch(node: NodeProcess, player: BaseProcess, recorder: Recorder, *, frames: int) -> list[dict[str, str]]:
    """Follow the playback to its end and the node to its last class map; returns all its reports."""
    reports = [recorder.diagnostics]
    ended_s: float | None = None
    seen, seen_s = 0, time.monotonic()
    with tqdm(total=frames, desc="class maps", unit="frame", disable=None) as bar:
        while True:
            node.check_alive()
            if recorder.diagnostics is not reports[-1]:
                reports.append(recorder.diagnostics)
            now_s, count = time.monotonic(), len(recorder.records)
            if count != seen:
                bar.update(count - seen)
                seen, seen_s = count, now_s
            if ended_s is None and not player.is_alive():
                ended_s = now_s
            if ended_s is not None:
                idle = reports[-1].get("frames_in_progress") == "0"
                if idle and now_s - max(seen_s, ended_s) > _QUIET_S:
                    return reports
                if now_s - ended_s > _DRAIN_TIMEOUT_S:
                    raise NodeError(
                        f"segmentation_node has not answered {reports[-1].get('frames_in_progress', '?')} "
                        f"frames {_DRAIN_TIMEOUT_S:g} s after the last was played; "
                        f"its last words: {node.last_words}"
                    )
            time.sleep(_POLL_S)


# --- what came of it


@dataclass
class _Tally:
    """What the pass over all frames adds up."""

    evaluation: Evaluation
    pixels: np.ndarray
    labelled: bool = False


def _write_result(drive: Drive, playback: Playback, folder: Path, *, classes: ClassTable) -> DemoFigures:
    record_of_frame, belong = match_records(drive.frames, playback.records)
    ages = [
        FrameAge((published - playback.published_ns[0]) / 1e9, _age_ms(record, published))
        for record, published in zip(record_of_frame, playback.published_ns, strict=True)
    ]
    answered = [index for index, record in enumerate(record_of_frame) if record is not None]
    shown = {answered[round(at)] for at in np.linspace(0, len(answered) - 1, min(_MOMENTS, len(answered)))}
    tally = _Tally(Evaluation(classes), np.zeros(256, np.int64))
    moments: list[Moment] = []
    input_rate_hz = _rate_hz(playback.published_ns)
    frame_hw = (0, 0)
    _say("writing overlay video and page")
    rate_hz = input_rate_hz or _DRIVE_RATE_HZ
    with VideoWriter(folder / VIDEO_NAME, rate_hz=rate_hz) as video:
        pictures = _pictures_of(drive)
        for index, (bgr, label_map) in enumerate(_progress(pictures, total=len(drive.frames), what="overlay")):
            if bgr is None:
                continue
            frame_hw = (bgr.shape[0], bgr.shape[1])
            class_map = _read_class_map(record_of_frame[index])
            overlay = _marked_without_class_map(bgr) if class_map is None else draw_overlay(bgr, class_map, classes)
            video.write(overlay, time_ns=drive.frames[index].stamp_ns - drive.frames[0].stamp_ns)
            if class_map is None:
                continue
            tally.pixels += np.bincount(class_map.ravel(), minlength=256)
            if label_map is not None:
                _add_labelled(tally, label_map, class_map, drive=drive)
            if index in shown:
                label_bgr = None if label_map is None else color_class_map(label_map, classes)
                moments.append(Moment(ages[index].time_s, bgr, overlay, label_bgr))
    figures = _figures(
        drive,
        playback,
        ages=ages,
        belong=belong,
        tally=tally,
        frame_hw=frame_hw,
        input_rate_hz=input_rate_hz,
    )
    page = render_page(
        figures,
        classes=classes,
        generated=drive.generated,
        date=now_text(),
        video_name=VIDEO_NAME,
        moments=moments,
        ages=ages,
        pixel_share=tally.pixels[: len(classes)] / max(1, tally.pixels.sum()),
    )
    (folder / PAGE_NAME).write_text(page, encoding="utf-8")
    metrics = json.dumps(asdict(figures), indent=2, allow_nan=False)
    (folder / METRICS_NAME).write_text(f"{metrics}\n", encoding="utf-8")
    return figures


def match_records(
    frames: Sequence[InputFrame], records: Sequence[ClassMapRecord]
) -> tuple[list[ClassMapRecord | None], bool]:
    """Find the image of each class map by stamp and frame_id.

    Returns:
        The class map of each image, None where none came; and whether every class map belongs to an image
        that has no other one.
    """
    free: dict[InputFrame, list[int]] = {}
    for index in reversed(range(len(frames))):
        free.setdefault(frames[index], []).append(index)
    record_of_frame: list[ClassMapRecord | None] = [None] * len(frames)
    belong = True
    for record in records:
        indices = free.get(InputFrame(record.stamp_ns, record.frame_id))
        if indices:
            record_of_frame[indices.pop()] = record
        else:
            belong = False
    return record_of_frame, belong


def _figures(
    drive: Drive,
    playback: Playback,
    *,
    ages: Sequence[FrameAge],
    belong: bool,
    tally: _Tally,
    frame_hw: tuple[int, int],
    input_rate_hz: float | None,
) -> DemoFigures:
    report = playback.diagnostics
    dropped = {
        key.removeprefix("dropped_"): int(count)
        for key, count in report.items()
        if key.startswith("dropped_") and int(count)
    }
    known_ages = [age.age_ms for age in ages if age.age_ms is not None]
    p50, p95, p99 = np.percentile(known_ages, [50, 95, 99]).round(2).tolist() if known_ages else (None,) * 3
    metrics = tally.evaluation.metrics() if tally.labelled else None
    rate_hz = _rate_hz([record.received_ns for record in playback.records])
    return DemoFigures(
        input=drive.name,
        bundle=report["bundle"],
        engine=report["engine"],
        frame_hw=frame_hw,
        frames_in=len(drive.frames),
        frames_received=int(report["frames_in"]),
        frames_out=len(playback.records),
        dropped=dropped,
        lost=len(drive.frames) - len(playback.records) - sum(dropped.values()),
        stamps_and_frame_ids_match=belong,
        age_p50_ms=p50,
        age_p95_ms=p95,
        age_p99_ms=p99,
        inference_p50_ms=_median(playback.inference_ms),
        node_latency_p50_ms=float(report["latency_p50_ms"]) if report["latency_p50_ms"] else None,
        input_rate_hz=round(input_rate_hz or 0.0, 2),
        rate_hz=None if rate_hz is None else round(rate_hz, 2),
        miou=metrics.miou if metrics else None,
        miou_present=metrics.miou_present if metrics else None,
        iou=metrics.iou if metrics else None,
    )


def _median(values: Sequence[float]) -> float | None:
    return round(float(np.median(values)), 2) if values else None


def _age_ms(record: ClassMapRecord | None, published_ns: int) -> float | None:
    return None if record is None else (record.received_ns - published_ns) / 1e6


def _rate_hz(times_ns: Sequence[int]) -> float | None:
    span_ns = times_ns[-1] - times_ns[0]
    return (len(times_ns) - 1) * 1e9 / span_ns if span_ns > 0 else None


def _pictures_of(drive: Drive) -> Iterator[tuple[np.ndarray | None, np.ndarray | None]]:
    """Camera image and label map of each frame; None where it cannot be decoded, or there is none."""
    decode = bgr_from_compressed_image if drive.compressed else bgr_from_image
    labels = _label_maps_of(drive)
    label_stamp_ns, label_map = next(labels, (0, None))
    with BagReader(drive.bag) as reader:
        for frame, message in zip(drive.frames, reader.messages([drive.topic]), strict=True):
            try:
                bgr = decode(reader.deserialize(message))
            except ImageMessageError:
                yield None, None  # the node has dropped and counted it
                continue
            while label_map is not None and label_stamp_ns < frame.stamp_ns:
                label_stamp_ns, label_map = next(labels, (0, None))
            yield bgr, label_map if label_stamp_ns == frame.stamp_ns else None


def _label_maps_of(drive: Drive) -> Iterator[tuple[int, np.ndarray | None]]:
    if not drive.has_labels:
        return
    with BagReader(drive.bag) as reader:
        for recorded in reader.messages([LABEL_TOPIC]):
            message = reader.deserialize(recorded)
            try:
                yield stamp_ns_of(message.header), label_map_from_image(message)
            except ImageMessageError as error:
                raise InputError(f"{LABEL_TOPIC} of {drive.bag} holds no label maps: {error}") from error


def _add_labelled(tally: _Tally, label_map: np.ndarray, class_map: np.ndarray, *, drive: Drive) -> None:
    try:
        tally.evaluation.add(label_map, class_map)
    except ValueError as error:
        raise InputError(f"{LABEL_TOPIC} of {drive.bag} holds no label maps of its images: {error}") from error
    tally.labelled = tally.labelled or bool(tally.evaluation.confusion.any())


def _read_class_map(record: ClassMapRecord | None) -> np.ndarray | None:
    return None if record is None else cv2.imread(str(record.path), cv2.IMREAD_UNCHANGED)


def _marked_without_class_map(bgr: np.ndarray) -> np.ndarray:
    marked = bgr.copy()
    scale = bgr.shape[1] / 1024
    origin = (max(1, round(20 * scale)), max(1, round(48 * scale)))
    font, thickness = cv2.FONT_HERSHEY_SIMPLEX, max(1, round(2 * scale))
    cv2.putText(marked, "no class map", origin, font, max(0.2, 1.2 * scale), (80, 80, 255), thickness, cv2.LINE_AA)
    return marked


def _progress(items: Any, *, total: int, what: str) -> Any:
    """A bar on stderr, on a terminal only."""
    return tqdm(items, total=total, desc=what, unit="frame", disable=None)


if __name__ == "__main__":
    sys.exit(main())
