"""Videos that players and browsers show."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import cv2
import numpy as np

from darkseg_ros.errors import InputError
from darkseg_ros.whole_files import whole_file

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.video.stream import VideoStream

_ENCODERS: dict[str, dict[str, str]] = {
    "libx264": {"preset": "veryfast", "crf": "22", "bf": "0"},  # MP4's duration goes by the order of decoding
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "7", "crf": "32", "b": "0", "row-mt": "1"},
}
"""The first that the installed FFmpeg has. Chromium and Firefox play H.264 and VP9 in an MP4."""

_CLOCK_HZ = 90_000
"""Ticks of the file's clock: whole for 24, 25, 30, 50 and 60 Hz, and 11 µs fine for any other time."""

_PAUSE_MAX_S = 60
"""A longer one, such as between two stamps of different clocks, is shown as one frame's time."""

_BT709 = 1  # of the same name in FFmpeg's AVColorSpace, AVColorPrimaries and AVColorTransferCharacteristic
_LIMITED_RANGE = 1  # AVCOL_RANGE_MPEG


class VideoWriter:
    """An MP4 that appears under its name when it is complete, never before.

    with VideoWriter(path, rate_hz=30.0) as video:
        video.write(bgr)
    """

    def __init__(self, path: Path, *, rate_hz: float) -> None:
        """Prepare; the first frame decides the size.

        Args:
            path: ends in .mp4; an earlier file is replaced at the end.
            rate_hz: frames per second, above 0: of frames that are written without a time, and how long the last
                one is shown.
        """
        self._path = path
        self._rate_hz = rate_hz
        self._frames = 0
        self._first_tick = 0
        self._last_tick: int | None = None
        self._size_hw: tuple[int, int] = (0, 0)
        self._container: OutputContainer | None = None
        self._stream: VideoStream | None = None
        self._cleanup = ExitStack()

    def __enter__(self) -> VideoWriter:
        self._unfinished = self._cleanup.enter_context(whole_file(self._path))
        return self

    def write(self, bgr: np.ndarray, *, time_ns: int | None = None) -> None:
        """Append a frame.

        Args:
            bgr: (H, W, 3) uint8, of the same size every time; odd sizes get their last row or column twice.
            time_ns: when it is shown, on any clock; by the rate unless given. A frame that comes before the last one,
                or more than a minute after it, follows one frame later.

        Raises:
            InputError: if the size changes, the file cannot be written, or this FFmpeg has no encoder for browsers.
        """
        import av

        if self._stream is None or self._container is None:
            self._size_hw = (bgr.shape[0], bgr.shape[1])
            self._open()
        assert self._stream is not None
        assert self._container is not None
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
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(bgr), format="bgr24")
        frame = picture.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
        frame.pts = self._next_tick(time_ns)
        frame.time_base = Fraction(1, _CLOCK_HZ)
        frame.duration = round(_CLOCK_HZ / self._rate_hz)
        with self._named_errors():
            self._container.mux(self._stream.encode(frame))
        self._frames += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            with suppress(Exception):  # what went wrong before says more
                self._close()
            self._cleanup.__exit__(kind, error, trace)
            return
        with self._cleanup:
            if self._stream is None or self._container is None:
                raise InputError(f"{self._path} should become a video, but 0 frames came")
            with self._named_errors():
                try:
                    self._container.mux(self._stream.encode(None))
                finally:
                    self._close()

    def _next_tick(self, time_ns: int | None) -> int:
        given = round((self._frames / self._rate_hz if time_ns is None else time_ns / 1e9) * _CLOCK_HZ)
        if self._last_tick is None:
            self._first_tick = given
        tick = given - self._first_tick
        if self._last_tick is not None and not 0 < tick - self._last_tick <= _PAUSE_MAX_S * _CLOCK_HZ:
            expected = self._last_tick + max(1, round(_CLOCK_HZ / self._rate_hz))
            self._first_tick += tick - expected
            tick = expected
        self._last_tick = tick
        return tick

    def _open(self) -> None:
        import av

        codec = next((name for name in _ENCODERS if name in av.codecs_available), None)
        if codec is None:
            raise InputError(
                f"{self._path} cannot be written: the FFmpeg of PyAV {av.__version__} has none of the encoders "
                f"{', '.join(_ENCODERS)}; install the `av` wheel"
            )
        height, width = _even(self._size_hw)
        with self._named_errors():
            # faststart: a browser shows the first frame before it has the whole file
            options = {"movflags": "+faststart"}
            self._container = av.open(
                f"file:{self._unfinished.resolve()}", "w", format="mp4", container_options=options
            )
            rate = Fraction(self._rate_hz).limit_denominator(1001)
            stream = self._container.add_stream(codec, rate=rate, options=dict(_ENCODERS[codec]))
        assert isinstance(stream, av.VideoStream)
        self._stream = stream
        context = stream.codec_context
        context.width, context.height, context.pix_fmt = width, height, "yuv420p"
        context.time_base = Fraction(1, _CLOCK_HZ)
        context.color_range = _LIMITED_RANGE
        context.colorspace = context.color_primaries = context.color_trc = _BT709

    def _close(self) -> None:
        container, self._container = self._container, None
        if container is not None:
            container.close()

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        import av

        try:
            yield
        except av.FFmpegError as error:
            raise InputError(
                f"{self._path} cannot be written: {error.strerror}; check the space left on the disk"
            ) from error


def _even(size_hw: tuple[int, int]) -> tuple[int, int]:
    """Colour is stored for pairs of pixels and rows, so both numbers must be even."""
    return size_hw[0] + size_hw[0] % 2, size_hw[1] + size_hw[1] % 2
