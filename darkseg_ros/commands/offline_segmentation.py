"""Class maps of images, folders, videos and bags, without ROS."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from darkseg_ros.errors import InputError
from darkseg_ros.frames.bad_frames import BadFrames
from darkseg_ros.frames.bags import is_bag
from darkseg_ros.frames.source import FrameSource, open_frames
from darkseg_ros.model.segmenter import Segmenter
from darkseg_ros.pictures.overlay import draw_overlay
from darkseg_ros.pictures.video_writer import VideoWriter
from darkseg_ros.whole_files import write_whole

_RATE_HZ_WITHOUT_CLOCK = 30.0
_OVERLAY_JPEG_QUALITY = 90


@dataclass(frozen=True)
class SegmentationPlan:
    """Inputs that were opened, and the folder for the class maps of each."""

    sources: tuple[FrameSource, ...]
    folders: tuple[Path, ...]


@dataclass(frozen=True)
class SegmentedFiles:
    """What `segment_files` did: frames segmented, and the folder or folders that hold their class maps."""

    frames: int
    folders: tuple[Path, ...]


def plan_segmentation(
    inputs: Sequence[Path], *, out: Path, topic: str | None = None, bad_frames: BadFrames | None = None
) -> SegmentationPlan:
    """Find out whether the inputs can be read and where their class maps go, before a model is opened.

    Args:
        inputs: images, folders of images, videos and bags.
        out: folder to write to; not made yet.
        topic: image topic of the bags, where they have several; other inputs do not look at it.
        bad_frames: as for `open_frames`.

    Raises:
        InputError: if an input cannot be read, `out` is a file, or two inputs would write the same folder.
    """
    sources = tuple(open_frames(path, topic=topic if is_bag(path) else None, bad_frames=bad_frames) for path in inputs)
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; name a folder to write to")
    folders = tuple(_output_folder(source, out) for source in sources)
    _check_folders_differ(sources, folders)
    return SegmentationPlan(sources, folders)


def segment_files(plan: SegmentationPlan, *, segmenter: Segmenter, overlay: bool = False) -> SegmentedFiles:
    """Write the class map of every frame.

    An image or a folder of images gives ``OUT/<name>.png`` (uint8 train ids, 255 = not trusted, in camera
    geometry), with `overlay` also ``OUT/<name>_overlay.jpg``. A video or bag gives
    ``OUT/<input>/<frame>.png`` and ``OUT/<input>_overlay.mp4``. Each file appears when it is complete and
    replaces an earlier one.

    Args:
        plan: the inputs and their folders, which are made if needed.
        segmenter: runs on every frame.
        overlay: draw the classes over the camera image too.

    Raises:
        InputError: if a frame cannot be read, two would write the same file, or an input lies in the way of
            the output.
    """
    written: set[Path] = set()
    frames = 0
    for source, folder in zip(plan.sources, plan.folders, strict=True):
        frames += _segment_source(source, segmenter=segmenter, folder=folder, overlay=overlay, written=written)
    return SegmentedFiles(frames, tuple(dict.fromkeys(plan.folders)))


def _is_sequence(source: FrameSource) -> bool:
    return source.kind in ("video", "bag")


def _output_folder(source: FrameSource, out: Path) -> Path:
    return out / source.path.stem if _is_sequence(source) else out


def _check_folders_differ(sources: Sequence[FrameSource], folders: Sequence[Path]) -> None:
    source_of_folder: dict[Path, Path] = {}
    for source, folder in zip(sources, folders, strict=True):
        if not _is_sequence(source):
            continue
        other = source_of_folder.setdefault(folder, source.path)
        if other is not source.path:
            raise InputError(f"{other} and {source.path} would both write {folder}; give them one by one")


def _segment_source(
    source: FrameSource, *, segmenter: Segmenter, folder: Path, overlay: bool, written: set[Path]
) -> int:
    frames = 0
    with ExitStack() as stack:
        video: VideoWriter | None = None
        if overlay and _is_sequence(source):
            path = folder.with_name(f"{folder.name}_overlay.mp4")
            rate_hz = source.rate_hz or _RATE_HZ_WITHOUT_CLOCK
            video = stack.enter_context(VideoWriter(path, rate_hz=rate_hz))
        # disable=None shows the bar on a terminal only
        for frame in tqdm(source, total=source.count, desc=source.path.name, unit="frame", disable=None):
            class_map = segmenter(frame.bgr).class_map
            class_map_path = folder / f"{frame.name}.png"
            _claim(class_map_path, source=source, written=written)
            write_whole(class_map_path, _encoded(".png", class_map))
            if video is not None:
                video.write(draw_overlay(frame.bgr, class_map, segmenter.bundle.classes), time_ns=frame.stamp_ns)
            elif overlay:
                picture = draw_overlay(frame.bgr, class_map, segmenter.bundle.classes)
                jpeg = _encoded(".jpg", picture, cv2.IMWRITE_JPEG_QUALITY, _OVERLAY_JPEG_QUALITY)
                write_whole(folder / f"{frame.name}_overlay.jpg", jpeg)
            frames += 1
    return frames


def _claim(path: Path, *, source: FrameSource, written: set[Path]) -> None:
    if path in written:
        raise InputError(f"{source.path} would write {path.name} a second time; give such inputs one by one")
    written.add(path)
    # `darkseg segment drive/a.png --out drive` must not replace the camera image by its class map
    for image in (source.path, source.path / path.name):
        if path.exists() and image.is_file() and path.samefile(image):
            raise InputError(f"the class map would replace the input {image}; choose another --out")


def _encoded(suffix: str, pixels: np.ndarray, *options: int) -> bytes:
    encoded, content = cv2.imencode(suffix, pixels, list(options))
    if not encoded:
        raise InputError(f"OpenCV could not encode {pixels.shape[1]}×{pixels.shape[0]} pixels as {suffix}")
    return content.tobytes()
