"""Class maps of images, folders, videos and bags, without ROS."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from tqdm import tqdm

from darkseg_ros.classes import ClassTable
from darkseg_ros.errors import InputError
from darkseg_ros.frames.bad_frames import BadFrames
from darkseg_ros.frames.bags import is_bag
from darkseg_ros.frames.source import ALL_FRAMES, Frame, FrameSelection, FrameSource, check_name, name_of, open_frames
from darkseg_ros.model.in_order import in_order
from darkseg_ros.model.segmenter import Segmenter
from darkseg_ros.pictures.overlay import color_class_map, draw_overlay
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


@dataclass(frozen=True)
class Outputs:
    """What to write beside the class maps.

    Attributes:
        overlay: the classes over the camera image: JPEGs, for videos and bags an MP4.
        side_by_side: the overlay with the camera image on its left.
        color: ``<name>_color.png``, the class table's colours (RGB).
        palette: ``<name>_palette.png``, train ids that viewers show in these colours.
        label_ids: ``<name>_labelIds.png``, the data set's raw ids; 0 where there is no class.
    """

    overlay: bool = False
    side_by_side: bool = False
    color: bool = False
    palette: bool = False
    label_ids: bool = False

    @property
    def draws_overlay(self) -> bool:
        """Whether an overlay is made, of either kind."""
        return self.overlay or self.side_by_side


CLASS_MAPS_ONLY = Outputs()


def plan_segmentation(
    inputs: Sequence[Path],
    *,
    out: Path,
    topic: str | None = None,
    bad_frames: BadFrames | None = None,
    selection: FrameSelection = ALL_FRAMES,
    recursive: bool = False,
) -> SegmentationPlan:
    """Find out whether the inputs can be read and where their class maps go, before a model is opened.

    Args:
        inputs: images, folders of images, videos and bags.
        out: folder to write to; not made yet.
        topic: image topic of the bags, where they have several; other inputs do not look at it.
        bad_frames: as for `open_frames`.
        selection: as for `open_frames`.
        recursive: as for `open_frames`.

    Raises:
        InputError: if an input cannot be read, `out` is a file or has no UTF-8 name, or two inputs would write the same
            folder.
    """
    check_name(out)
    sources = tuple(
        open_frames(
            path,
            topic=topic if is_bag(path) else None,
            bad_frames=bad_frames,
            selection=selection,
            recursive=recursive,
        )
        for path in inputs
    )
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; name a folder to write to")
    folders = tuple(_output_folder(source, out) for source in sources)
    _check_folders_differ(sources, folders)
    return SegmentationPlan(sources, folders)


def segment_files(
    plan: SegmentationPlan, *, segmenter: Segmenter, outputs: Outputs = CLASS_MAPS_ONLY, resume: bool = False
) -> SegmentedFiles:
    """Write the class map of every frame.

    An image or a folder of images gives ``OUT/<name>.png`` (uint8 train ids, 255 = not trusted, in camera
    geometry), with an overlay also ``OUT/<name>_overlay.jpg``. A video or bag gives
    ``OUT/<input>/<frame>.png`` and ``OUT/<input>_overlay.mp4``. Each file appears when it is complete and
    replaces an earlier one.

    Args:
        plan: the inputs and their folders, which are made if needed.
        segmenter: runs on every frame.
        outputs: what to write beside the class maps.
        resume: take class maps that an earlier run wrote, where they have their frame's size, instead of making them
            again.

    Raises:
        InputError: if a frame cannot be read, two would write the same file, an input lies in the way of the output,
            or label ids are asked for of classes that have none.
    """
    if outputs.label_ids and any(row.label_id is None for row in segmenter.bundle.classes):
        raise InputError(f"the classes of {segmenter.bundle.name} have no label ids; leave out --label-ids")
    written: set[Path] = set()
    frames = 0
    for source, folder in zip(plan.sources, plan.folders, strict=True):
        frames += _segment_source(
            source, segmenter=segmenter, folder=folder, outputs=outputs, resume=resume, written=written
        )
    return SegmentedFiles(frames, tuple(dict.fromkeys(plan.folders)))


def _is_sequence(source: FrameSource) -> bool:
    return source.kind in ("video", "bag")


def _output_folder(source: FrameSource, out: Path) -> Path:
    return out / name_of(source.path) if _is_sequence(source) else out


def _check_folders_differ(sources: Sequence[FrameSource], folders: Sequence[Path]) -> None:
    source_of_folder: dict[Path, Path] = {}
    for source, folder in zip(sources, folders, strict=True):
        if not _is_sequence(source):
            continue
        other = source_of_folder.setdefault(folder, source.path)
        if other is not source.path:
            raise InputError(f"{other} and {source.path} would both write {folder}; give them one by one")


def _segment_source(
    source: FrameSource,
    *,
    segmenter: Segmenter,
    folder: Path,
    outputs: Outputs,
    resume: bool,
    written: set[Path],
) -> int:
    frames = 0
    classes = segmenter.bundle.classes

    def path_of(frame: Frame) -> Path:
        return folder / f"{frame.name}.png"

    def claimed() -> Iterator[Frame]:
        for frame in source:
            _claim(path_of(frame), source.path / f"{frame.name}.png", source=source, written=written)
            yield frame

    def segmented(frame: Frame) -> tuple[np.ndarray, bytes | None]:
        """The class map, and the file to write if it is a new one."""
        earlier = _earlier_class_map(path_of(frame), frame.bgr) if resume else None
        if earlier is not None:
            return earlier, None
        class_map = segmenter(frame.bgr).class_map
        return class_map, _encoded(".png", class_map)

    with ExitStack() as stack:
        video: _OverlayVideo | None = None
        if outputs.draws_overlay and _is_sequence(source):
            path = folder.with_name(f"{folder.name}_overlay.mp4")
            rate_hz = source.rate_hz or _RATE_HZ_WITHOUT_CLOCK
            video = _OverlayVideo(stack.enter_context(VideoWriter(path, rate_hz=rate_hz)))
        answers = stack.enter_context(in_order(segmented, claimed(), threads=segmenter.engine.streams))
        # disable=None shows the bar on a terminal only
        for frame, (class_map, content) in tqdm(
            answers, total=source.count, desc=source.path.name, unit="frame", disable=None
        ):
            class_map_path = path_of(frame)
            if content is not None:
                write_whole(class_map_path, content)
            _write_pictures(class_map, class_map_path, classes, outputs)
            if outputs.draws_overlay:
                overlay = draw_overlay(frame.bgr, class_map, classes)
                if outputs.side_by_side:
                    overlay = np.hstack([frame.bgr, overlay])
                if video is not None:
                    video.write(overlay, time_ns=frame.stamp_ns)
                else:
                    jpeg = _encoded(".jpg", overlay, cv2.IMWRITE_JPEG_QUALITY, _OVERLAY_JPEG_QUALITY)
                    write_whole(class_map_path.with_name(f"{class_map_path.stem}_overlay.jpg"), jpeg)
            frames += 1
    return frames


class _OverlayVideo:
    """Frames of another size than the first, as a camera that was set anew gives them, are scaled to it."""

    def __init__(self, writer: VideoWriter) -> None:
        self._writer = writer
        self._size_wh: tuple[int, int] | None = None

    def write(self, bgr: np.ndarray, *, time_ns: int) -> None:
        size_wh = (bgr.shape[1], bgr.shape[0])
        self._size_wh = self._size_wh or size_wh
        if size_wh != self._size_wh:
            bgr = cv2.resize(bgr, self._size_wh, interpolation=cv2.INTER_AREA)
        self._writer.write(bgr, time_ns=time_ns)


def _earlier_class_map(path: Path, bgr: np.ndarray) -> np.ndarray | None:
    if not path.is_file():
        return None
    class_map = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED) if path.stat().st_size else None
    return class_map if class_map is not None and class_map.shape == bgr.shape[:2] else None


def _write_pictures(class_map: np.ndarray, path: Path, classes: ClassTable, outputs: Outputs) -> None:
    """The other forms of a class map, named as Cityscapes names them."""
    if outputs.color:
        write_whole(path.with_name(f"{path.stem}_color.png"), _encoded(".png", color_class_map(class_map, classes)))
    if outputs.palette:
        picture = Image.fromarray(class_map).convert("P")
        picture.putpalette(classes.palette_bgr[:, ::-1].tobytes())
        content = BytesIO()
        picture.save(content, "PNG")
        write_whole(path.with_name(f"{path.stem}_palette.png"), content.getvalue())
    if outputs.label_ids:
        label_id_of = np.zeros(256, np.uint8)
        label_id_of[: len(classes)] = [row.label_id or 0 for row in classes]
        write_whole(path.with_name(f"{path.stem}_labelIds.png"), _encoded(".png", label_id_of[class_map]))


def _claim(path: Path, image_of_same_name: Path, *, source: FrameSource, written: set[Path]) -> None:
    if path in written:
        raise InputError(f"{source.path} would write {path.name} a second time; give such inputs one by one")
    written.add(path)
    # `darkseg segment drive/a.png --out drive` must not replace the camera image by its class map
    for image in (source.path, image_of_same_name):
        if path.exists() and image.is_file() and path.samefile(image):
            raise InputError(f"the class map would replace the input {image}; choose another --out")


def _encoded(suffix: str, pixels: np.ndarray, *options: int) -> bytes:
    encoded, content = cv2.imencode(suffix, pixels, list(options))
    if not encoded:
        raise InputError(f"OpenCV could not encode {pixels.shape[1]}×{pixels.shape[0]} pixels as {suffix}")
    return content.tobytes()
