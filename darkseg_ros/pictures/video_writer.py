"""Videos for players and for browsers."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np

from darkseg_ros.errors import InputError
from darkseg_ros.whole_files import whole_file

_CODECS_OF_SUFFIX = {".mp4": ("avc1", "mp4v"), ".webm": ("VP80",)}
"""What players take (.mp4) and what browsers take (.webm): Chromium 156 shows VP8 and nothing of mp4v.

H.264 (avc1) would serve both, but OpenCV's wheels cannot write it. Processor time for a grainy frame of
1024×512: mp4v 2.5 ms, VP8 91 ms, VP9 323 ms, and OpenCV hands no speed setting to the encoder
(OpenCV 5.0.0.93, one core of a busy Xeon, 2026-11-22). So an MP4 for browsers (VP9) would take longer than the
drive.
"""


class VideoWriter:
    """A video that appears under its name when it is complete, never before.

    with VideoWriter(path, rate_hz=30.0) as video:
        video.write(bgr)
    """

    def __init__(self, path: Path, *, rate_hz: float) -> None:
        """Prepare; the first frame decides the size.

        Args:
            path: ends in .mp4 for players or .webm for browsers; an earlier file is replaced at the end.
            rate_hz: frames per second, above 0.
        """
        self._path = path
        self._rate_hz = rate_hz
        self._frames = 0
        self._size_hw: tuple[int, int] = (0, 0)
        self._writer: cv2.VideoWriter | None = None
        self._cleanup = ExitStack()

    def __enter__(self) -> VideoWriter:
        self._unfinished = self._cleanup.enter_context(whole_file(self._path))
        return self

    def write(self, bgr: np.ndarray) -> None:
        """Append a frame.

        Args:
            bgr: (H, W, 3) uint8, of the same size every time; odd sizes get their last row or column twice.

        Raises:
            InputError: if the size changes, or this OpenCV cannot write such videos.
        """
        if self._writer is None:
            self._size_hw = (bgr.shape[0], bgr.shape[1])
            self._writer = _open_writer(self._unfinished, rate_hz=self._rate_hz, size_hw=_even(self._size_hw))
        if bgr.shape[:2] != self._size_hw:
            height, width = self._size_hw
            raise InputError(
                f"{self._path.name} began with frames of {width}×{height}, frame {self._frames} is "
                f"{bgr.shape[1]}×{bgr.shape[0]}; give inputs of different sizes one by one"
            )
        height, width = _even(self._size_hw)
        if (height, width) != self._size_hw:
            below, beside = height - self._size_hw[0], width - self._size_hw[1]
            bgr = cv2.copyMakeBorder(bgr, 0, below, 0, beside, cv2.BORDER_REPLICATE)
        self._writer.write(bgr)
        self._frames += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.release()
        if kind is not None:
            self._cleanup.__exit__(kind, error, trace)
            return
        with self._cleanup:
            self._check_frames_arrived()

    def _check_frames_arrived(self) -> None:
        """OpenCV says nothing when the disk is full."""
        capture = cv2.VideoCapture(str(self._unfinished))
        found = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
        capture.release()
        if found != self._frames or not found:
            raise InputError(
                f"{self._path} should hold {self._frames} frames, the encoder wrote {found}; "
                "check the space left on the disk"
            )


def _even(size_hw: tuple[int, int]) -> tuple[int, int]:
    """Colour is stored for pairs of pixels and rows, so both numbers must be even."""
    return size_hw[0] + size_hw[0] % 2, size_hw[1] + size_hw[1] % 2


def _open_writer(path: Path, *, rate_hz: float, size_hw: tuple[int, int]) -> cv2.VideoWriter:
    for codec in _CODECS_OF_SUFFIX[path.suffix]:
        fourcc = cv2.VideoWriter.fourcc(*codec)
        with _silent_stderr():  # an encoder that is not there announces so in five lines
            writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, fourcc, rate_hz, size_hw[::-1])
        if writer.isOpened():
            return writer
    raise InputError(
        f"this OpenCV ({cv2.__version__}) cannot write {path.suffix} of {size_hw[1]}×{size_hw[0]} "
        f"to {path.parent}; use the opencv-python-headless wheel, or an OpenCV built with FFmpeg"
    )


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """FFmpeg writes to the file descriptor itself, past sys.stderr."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("w") as devnull:
            os.dup2(devnull.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
