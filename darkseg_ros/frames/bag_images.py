"""Folders of images made into bags, and drives made into folders of images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from darkseg_ros.errors import InputError
from darkseg_ros.frames.bad_frames import BadFrames
from darkseg_ros.frames.bags import COMPRESSED_TOPIC, FRAME_ID, IMAGE_TOPIC, LABEL_TOPIC, START_STAMP_NS, BagWriter
from darkseg_ros.frames.label_layouts import FormatName, find_pairs
from darkseg_ros.frames.labelled import LabelledImage, read_labelled
from darkseg_ros.frames.levels import histogram_level
from darkseg_ros.frames.source import (
    ALL_FRAMES,
    Frame,
    FrameSelection,
    FrameSource,
    check_name,
    image_files,
    open_frames,
    read_image,
)
from darkseg_ros.frames.videos import frame_time_ns
from darkseg_ros.whole_files import write_whole


def write_bag_from_images(
    images: Path,
    bag: Path,
    *,
    labels: Path | None = None,
    label_format: FormatName = "auto",
    rate_hz: float = 10.0,
    compressed: bool = False,
    storage: str = "mcap",
    bad_frames: BadFrames | None = None,
) -> int:
    """Turn a folder of images into a bag: IMAGE_TOPIC or COMPRESSED_TOPIC, with label maps LABEL_TOPIC too.

    Args:
        images: folder of images; with label maps as `find_pairs` takes it.
        bag: folder to be made.
        labels: folder of their label maps.
        label_format: as for `find_pairs`.
        rate_hz: images per second.
        compressed: write JPEGs (CompressedImage) instead of raw bgr8 (Image).
        storage: ``mcap`` or ``sqlite3``.
        bad_frames: gets images and label maps that cannot be decoded or differ in size; None raises at the first.

    Returns:
        Number of images written.

    Raises:
        InputError: if a folder is missing or empty, or no image can be used; no bag is left behind.
        BagError: if the bag exists already or cannot be written.
    """
    bad_frames = bad_frames or BadFrames(strict=True)
    pairs: list[LabelledImage] | list[Path]
    pairs = image_files(images) if labels is None else find_pairs(images, labels, label_format=label_format)
    frames = 0
    with BagWriter(bag, storage) as writer:
        # disable=None shows the bar on a terminal only
        for index, pair in enumerate(tqdm(pairs, desc="images", disable=None)):
            try:
                bgr, label_map = (read_image(pair), None) if isinstance(pair, Path) else read_labelled(pair)
            except InputError as error:
                bad_frames.skip(str(error))
                continue
            stamp_ns = START_STAMP_NS + frame_time_ns(index, rate_hz=rate_hz)
            if compressed:
                writer.write_compressed_image(COMPRESSED_TOPIC, bgr, stamp_ns=stamp_ns, frame_id=FRAME_ID)
            else:
                writer.write_image(IMAGE_TOPIC, bgr, stamp_ns=stamp_ns, frame_id=FRAME_ID)
            if label_map is not None:
                writer.write_image(LABEL_TOPIC, label_map, stamp_ns=stamp_ns, frame_id=FRAME_ID, encoding="mono8")
            frames += 1
        if not frames:
            raise InputError(f"none of the {len(pairs)} images of {images} can be used; copy them again")
    return frames


@dataclass(frozen=True)
class ImageChoice:
    """Which frames of a drive become images.

    Attributes:
        selection: times and every n-th.
        every_s: least seconds from image to image.
        level: lowest and highest `histogram_level`, both within.
        count: at most so many of these: the nearest by `distance`, or spread evenly over the drive.
        distance: how far an (H, W, 3) uint8 BGR image is from those that are wanted.
        distance_max: largest distance; None sets no limit.
    """

    selection: FrameSelection = ALL_FRAMES
    every_s: float | None = None
    level: tuple[float, float] | None = None
    count: int | None = None
    distance: Callable[[np.ndarray], float] | None = None
    distance_max: float | None = None

    def of(self, source: FrameSource) -> Iterator[Frame]:
        """The frames of a drive that fit, but for their number."""
        last_ns: int | None = None
        for frame in source:
            near = last_ns is not None and 0 <= frame.stamp_ns - last_ns < (self.every_s or 0) * 1e9
            if near or (self.level and not self.level[0] <= histogram_level(frame.bgr) <= self.level[1]):
                continue
            last_ns = frame.stamp_ns
            yield frame

    def names(self, source: FrameSource) -> set[str] | None:
        """Names of the frames to take of a drive; None if all of `of` are, which need not be read for it."""
        if self.count is None and self.distance is None:
            return None
        distance_of_name = {
            frame.name: 0.0 if self.distance is None else self.distance(frame.bgr)
            for frame in tqdm(self.of(source), desc="choosing", unit="frame", disable=None)
        }
        names = list(distance_of_name)
        if self.distance is None:
            assert self.count is not None
            places = np.linspace(0, len(names) - 1, min(self.count, len(names))).round().astype(int)
            return {names[place] for place in places}
        near = [name for name in names if self.distance_max is None or distance_of_name[name] <= self.distance_max]
        if names and not near:
            distances = list(distance_of_name.values())
            raise InputError(
                f"no frame of {source.path} is as near as {self.distance_max:g}: distances are {min(distances):.1f}…"
                f"{max(distances):.1f}; allow more"
            )
        return set(sorted(near, key=distance_of_name.__getitem__)[: self.count])


def write_images(
    drive: Path,
    out: Path,
    choice: ImageChoice,
    *,
    topic: str | None = None,
    bad_frames: BadFrames | None = None,
) -> int:
    """Write frames of a bag or video as ``OUT/<drive>_<number>.png``.

    Args:
        drive: any input of `open_frames`.
        out: folder, made if needed.
        choice: which frames.
        topic: image topic of a bag that has several.
        bad_frames: as for `open_frames`.

    Returns:
        Number of images written.

    Raises:
        InputError: as `open_frames`, as the choice's distance, or if no frame fits.
    """
    check_name(out)
    source = open_frames(drive, topic=topic, bad_frames=bad_frames, selection=choice.selection)
    # read twice where the last frame decides: a frame is too large to be kept until then
    chosen = choice.names(source)
    if chosen is not None:
        told_before = BadFrames(tell=lambda _: None)
        source = open_frames(drive, topic=topic, bad_frames=told_before, selection=choice.selection)
    written = 0
    for frame in tqdm(choice.of(source), desc="images", unit="frame", disable=None):
        if chosen is None or frame.name in chosen:
            encoded, content = cv2.imencode(".png", frame.bgr)
            assert encoded
            write_whole(out / f"{frame.name}.png", content.tobytes())
            written += 1
    if not written:
        raise InputError(f"no frame of {drive} fits; take a wider --level, or another time")
    return written
