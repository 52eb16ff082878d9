"""Video files as a stream of frames; a file that was cut off is an error, not a shorter video."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from darkseg_ros.errors import InputError

_ISO_FIRST_BOXES = (b"ftyp", b"styp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
_LEAST_DECODED_SHARE = 0.9
"""Of the frames that a container other than MP4 promises: its count may be an estimate from the duration."""


@dataclass(frozen=True)
class Video:
    """A video file that was opened once and can be read any number of times.

    Attributes:
        path: the file.
        frame_count: frames that the container promises, None where it does not say. A clip cut without
            re-encoding promises more than it shows.
        rate_hz: frames per second, None where the container does not say.
    """

    path: Path
    frame_count: int | None
    rate_hz: float | None

    def read_frames(self) -> Iterator[np.ndarray]:
        """Decode one frame after the other.

        Yields:
            (H, W, 3) uint8 BGR.

        Raises:
            InputError: if the file cannot be opened, or after the last frame, if there was none or far fewer
                than the container promises.
        """
        decoded = 0
        capture = _open_capture(self.path)
        try:
            while True:
                read, bgr = capture.read()
                if not read:
                    break
                decoded += 1
                yield bgr
        finally:
            capture.release()
        if decoded == 0:
            raise InputError(f"{self.path} holds no frame that can be decoded; expected a video, record it again")
        # MP4 was measured box by box, and its edit list may hide any share of the frames it counts
        if self.frame_count and not _is_iso(self.path) and decoded < _LEAST_DECODED_SHARE * self.frame_count:
            raise InputError(
                f"{self.path} promises {self.frame_count} frames but only {decoded} can be decoded: "
                "the file is cut off or damaged; copy or record it again"
            )


def open_video(path: Path) -> Video:
    """Open a video file, look at what it promises and close it again.

    Args:
        path: a file that this machine's FFmpeg can decode.

    Returns:
        The video, ready to be read.

    Raises:
        InputError: if the file is missing, empty, cut off, or has no video stream.
    """
    if not path.is_file():
        raise InputError(f"{path} is not a file; expected a video")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty; expected a video, copy or record it again")
    try:
        if _is_iso(path):
            _check_iso_is_whole(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}; expected a video") from error
    capture = _open_capture(path)
    try:
        frame_count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        rate_hz = capture.get(cv2.CAP_PROP_FPS)
    finally:
        capture.release()
    return Video(
        path=path,
        frame_count=int(frame_count) if math.isfinite(frame_count) and 0 < frame_count < 2**31 else None,
        rate_hz=rate_hz if math.isfinite(rate_hz) and rate_hz > 0 else None,
    )


def frame_time_ns(index: int, *, rate_hz: float) -> int:
    """Time of a frame since the first one, in whole nanoseconds."""
    return round(index / rate_hz * 1e9)


def _open_capture(path: Path) -> cv2.VideoCapture:
    # left to choose, OpenCV would also take digits in the name for a numbered series of pictures
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    if not capture.isOpened():
        raise InputError(
            f"{path} cannot be opened as a video: cut off, damaged, without pictures or of an unknown codec; "
            "try `ffmpeg -i INPUT -c:v libx264 OUTPUT.mp4`"
        )
    return capture


def _is_iso(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(8)[4:] in _ISO_FIRST_BOXES


def _check_iso_is_whole(path: Path) -> None:
    """Walk the top-level boxes of an MP4 or QuickTime file: each must end within the file.

    Source: ISO/IEC 14496-12, section 4.2.
    """
    file_size = path.stat().st_size
    position = 0
    with path.open("rb") as file:
        while position + 8 <= file_size:
            file.seek(position)
            header = file.read(16)
            size = int.from_bytes(header[:4], "big")
            if size == 0:  # this box reaches to the end of the file
                return
            if size == 1:
                size = int.from_bytes(header[8:16], "big")
            if size < 8 or position + size > file_size:
                raise InputError(
                    f"{path} is cut off or damaged: {size} bytes announced at {position} of {file_size}; "
                    "copy or record it again"
                )
            position += size
