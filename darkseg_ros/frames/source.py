"""One stream of frames, whatever the user names: an image, a folder of images, a video or a bag."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

import cv2
import numpy as np

from darkseg_ros.errors import BagError, ImageMessageError, InputError
from darkseg_ros.frames.bad_frames import BadFrames
from darkseg_ros.frames.bags import FRAME_ID, BagMessage, BagReader, is_bag
from darkseg_ros.frames.compressed_images import bgr_from_jpeg_or_png
from darkseg_ros.frames.image_stream import ImageStream
from darkseg_ros.frames.stamps import header_of, stamp_ns_of
from darkseg_ros.frames.videos import open_video

_JPEG_OR_PNG = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")
_IMAGE_STARTS = (*_JPEG_OR_PNG, b"BM", b"II*\0", b"MM\0*", b"P1", b"P2", b"P3", b"P4", b"P5", b"P6")
"""JPEG, PNG, BMP, TIFF and the PNM family; WebP begins as AVI does."""

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm")


@dataclass(frozen=True)
class Frame:
    """One camera image.

    Attributes:
        bgr: (H, W, 3) uint8.
        stamp_ns: a bag's stamp; a video frame's own time since the first; 0 where the input has no clock.
        frame_id: a bag's frame_id, FRAME_ID elsewhere.
        name: fit for a file name without suffix, unique within the input; of images in folders below the input with
            the path to them.
    """

    bgr: np.ndarray
    stamp_ns: int
    frame_id: str
    name: str


@dataclass(frozen=True)
class FrameSelection:
    """Which frames of an input to take.

    Attributes:
        start_s: seconds after the first frame.
        duration_s: from there on; None takes all. Both are for inputs that have a clock: videos and bags.
        every_nth: of the frames within these times, the first and each n-th after it.
    """

    start_s: float = 0.0
    duration_s: float | None = None
    every_nth: int = 1

    def of(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """The frames to take."""
        first_ns: int | None = None
        within = 0
        for frame in frames:
            if first_ns is None:
                first_ns = frame.stamp_ns
            time_s = (frame.stamp_ns - first_ns) / 1e9
            if self.duration_s is not None and time_s >= self.start_s + self.duration_s:
                return
            if time_s >= self.start_s:
                if within % self.every_nth == 0:
                    yield frame
                within += 1


ALL_FRAMES = FrameSelection()


@dataclass(frozen=True)
class FrameSource:
    """Iterable of frames; each iteration reads the input anew, one frame at a time.

    Attributes:
        path: what the user named.
        kind: what it turned out to be.
        count: number of frames; for a video an estimate from its header, None where it does not say.
        rate_hz: frames per second on average, None where the input has no clock.
    """

    path: Path
    kind: Literal["image", "folder", "video", "bag"]
    count: int | None
    rate_hz: float | None
    read: Callable[[], Iterator[Frame]]

    def __iter__(self) -> Iterator[Frame]:
        return self.read()


def open_frames(
    path: Path | str,
    *,
    topic: str | None = None,
    bad_frames: BadFrames | None = None,
    selection: FrameSelection = ALL_FRAMES,
    recursive: bool = False,
) -> FrameSource:
    """Open an input by what it is.

    Args:
        path: an image file, a folder of images (taken in the order of their names), a video file, a rosbag2
            folder or a .mcap or .db3 file.
        topic: the bag's image topic; needed only where it has several.
        bad_frames: gets each frame that cannot be decoded, and the word that an input ends before it should; None
            raises InputError at the first.
        selection: frames to take.
        recursive: take the images of all folders below a folder, too.

    Returns:
        The frames. Iterating raises InputError if none can be decoded, or none is selected.

    Raises:
        InputError: if the input is missing, empty, cut off or of an unknown kind, its name is not UTF-8, a topic is
            given for something else than a bag, or a time for something without a clock.
    """
    path = Path(path)
    check_name(path)
    source = _open(path, topic, bad_frames or BadFrames(strict=True), recursive=recursive)
    if source.kind in ("image", "folder") and (selection.start_s or selection.duration_s is not None):
        raise InputError(f"{path} has no clock to count seconds on; take every n-th image, or name a video or a bag")
    if selection == ALL_FRAMES:
        return source

    def read() -> Iterator[Frame]:
        taken = None
        for taken in selection.of(source.read()):
            yield taken
        if taken is None:
            raise InputError(
                f"{path} has no frame {selection.start_s:g} s or more after its first one"
                f"{'' if selection.duration_s is None else f', within {selection.duration_s:g} s'}; begin earlier"
            )

    return replace(source, count=None, read=read)


def check_name(path: Path) -> None:
    """Refuse a name that no report and no bag could hold, before the work is done.

    Raises:
        InputError: if it is not UTF-8.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{path} has a name that is not UTF-8; rename it") from error


def name_of(path: Path) -> str:
    """What outputs made of an input are called: its name without its last ending.

    Raises:
        InputError: if nothing is left that could name a file beside others, as of ``...mp4``.
    """
    name = (path if path.name not in ("", "..") else path.resolve()).stem
    if name in ("", ".", ".."):
        raise InputError(f"{path} leaves the name {name!r} for what is made of it; rename it")
    return name


def _open(path: Path, topic: str | None, bad_frames: BadFrames, *, recursive: bool) -> FrameSource:
    if not path.exists():
        raise InputError(f"{path} does not exist; expected an image, a folder of images, a video or a rosbag2 bag")
    try:
        is_image = path.is_file() and _begins_like_an_image(path)
        if not is_image and is_bag(path):
            return _open_bag(path, topic, bad_frames)
        if topic is not None:
            raise InputError(f"topic {topic} was given, but {path} is not a bag; leave the topic out")
        if path.is_dir():
            return _open_folder(path, bad_frames, recursive=recursive)
        images = {name_of(path): path}
        image = FrameSource(path, "image", count=1, rate_hz=None, read=lambda: _read_images(images, bad_frames))
        if is_image:
            return image
        try:
            return _open_video(path, bad_frames)
        except InputError:
            if path.suffix.lower() not in IMAGE_SUFFIXES:
                raise
            return image  # a broken one: reading it says why
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}; check its permissions") from error


class ImageFile(Protocol):
    """What is asked of the file of an image or a label map: a path on disk has it, or a place in an archive."""

    @property
    def name(self) -> str: ...

    @property
    def stem(self) -> str: ...

    @property
    def suffix(self) -> str: ...

    def read_bytes(self) -> bytes: ...


def read_image(path: ImageFile) -> np.ndarray:
    """Decode an image file, turned upright as its EXIF orientation says.

    Returns:
        (H, W, 3) uint8 BGR.

    Raises:
        InputError: naming the file, if it cannot be read or decoded, or is cut off.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    try:
        if content.startswith(_JPEG_OR_PNG) or path.suffix.lower() in (".jpg", ".jpeg", ".png"):
            return bgr_from_jpeg_or_png(content, upright=True)
        bgr = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) if content else None
    except (ImageMessageError, cv2.error) as error:
        raise InputError(f"{path} cannot be decoded: {error}") from error
    if bgr is None:
        raise InputError(f"{path} cannot be decoded; expected an image, remove or replace the file")
    return bgr


def _begins_like_an_image(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(12)
    return start.startswith(_IMAGE_STARTS) or (start[:4] == b"RIFF" and start[8:] == b"WEBP")


def _read_images(path_by_name: dict[str, Path], bad_frames: BadFrames) -> Iterator[Frame]:
    decoded = 0
    for name, path in path_by_name.items():
        try:
            bgr = read_image(path)
        except InputError as error:
            if len(path_by_name) == 1:
                raise
            bad_frames.skip(str(error))
            continue
        decoded += 1
        yield Frame(bgr, stamp_ns=0, frame_id=FRAME_ID, name=name)
    if not decoded:
        folder = next(iter(path_by_name.values())).parent
        raise InputError(f"none of the {len(path_by_name)} images of {folder} can be decoded; copy them again")


def image_files(folder: Path, *, recursive: bool = False) -> list[Path]:
    """The image files in a folder, in the order of their names.

    Args:
        folder: of images.
        recursive: look into all folders below it, too.

    Raises:
        InputError: if it is no folder, holds no image, or two images have the same stem: what is made of one would
            replace what is made of the other.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; expected a folder of images")
    path_by_stem: dict[Path, Path] = {}
    for path in sorted(folder.rglob("*") if recursive else folder.iterdir()):
        if path.suffix.lower() not in IMAGE_SUFFIXES or path.name.startswith(".") or not path.is_file():
            continue
        other = path_by_stem.setdefault(path.with_suffix(""), path)
        if other is not path:
            raise InputError(f"{other} and {path} share a stem; rename or remove one of them")
    if not path_by_stem:
        raise InputError(f"{folder} holds no images; expected files ending in {', '.join(IMAGE_SUFFIXES)}")
    return list(path_by_stem.values())


def _open_folder(folder: Path, bad_frames: BadFrames, *, recursive: bool) -> FrameSource:
    paths = image_files(folder, recursive=recursive)
    images = {path.relative_to(folder).with_suffix("").as_posix(): path for path in paths}
    for path in paths:
        check_name(path)
    return FrameSource(folder, "folder", count=len(paths), rate_hz=None, read=lambda: _read_images(images, bad_frames))


def _open_video(path: Path, bad_frames: BadFrames) -> FrameSource:
    video = open_video(path)

    def read() -> Iterator[Frame]:
        for frame in video.read_frames(bad_frames):
            name = f"{name_of(path)}_{frame.index:06d}"
            yield Frame(frame.bgr, stamp_ns=frame.time_ns, frame_id=FRAME_ID, name=name)

    return FrameSource(path, "video", count=video.frame_count, rate_hz=video.rate_hz, read=read)


def _until_damage(messages: Iterator[BagMessage], bad_frames: BadFrames) -> Iterator[BagMessage]:
    """What can be read of a bag, and a word about the rest."""
    while True:
        try:
            message = next(messages, None)
        except BagError as error:
            bad_frames.miss(str(error))
            return
        if message is None:
            return
        yield message


def _open_bag(path: Path, topic_name: str | None, bad_frames: BadFrames) -> FrameSource:
    with BagReader(path) as bag:
        topic = bag.image_topic(topic_name)
        rate_hz = (topic.count - 1) * 1e9 / bag.duration_ns if bag.duration_ns and topic.count > 1 else None

    def read() -> Iterator[Frame]:
        with BagReader(path) as bag:
            decoded = 0
            stream = ImageStream()
            for index, recorded in enumerate(_until_damage(bag.messages([topic.name]), bad_frames)):
                try:
                    message = bag.deserialize(recorded)
                    bgr = stream.bgr(message)
                except (ImageMessageError, BagError) as error:
                    bad_frames.skip(f"message {index} of topic {topic.name} in {path}: {error}")
                    continue
                decoded += 1
                header = header_of(message)
                yield Frame(
                    bgr,
                    stamp_ns=stamp_ns_of(header),
                    frame_id=header.frame_id,
                    name=f"{name_of(path)}_{index:06d}",
                )
            bad_frames.lose(stream.lost_packets, of=f"topic {topic.name} in {path}")
            if not decoded:
                raise BagError(f"none of the {topic.count} messages of topic {topic.name} in {path} can be decoded")

    return FrameSource(path, "bag", count=topic.count, rate_hz=rate_hz, read=read)
