"""Video files as a stream of frames with their own times, decoded by FFmpeg (PyAV)."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from darkseg_ros.errors import InputError
from darkseg_ros.frames.bad_frames import BadFrames
from darkseg_ros.frames.message_fields import MAX_IMAGE_BYTES

if TYPE_CHECKING:
    import av
    from av.container import InputContainer
    from av.video.stream import VideoStream

_CONTAINERS = (
    "mov,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg,ivf,mxf,nut,rm,dv,gif,obu,h264,hevc,m4v,mjpeg,mpegvideo,vvc"
)
"""FFmpeg's demuxers that read one file. Playlists (hls, dash, concat) and picture series would open others."""

_RATE_HZ_WITHOUT_ONE = Fraction(25)
"""FFmpeg's own assumption. It matters only for frames without a time in a container without a rate."""

_SPLICE_NS = 10_000_000_000
"""A transport stream that jumps ahead by more was joined: ffmpeg's own `-dts_delta_threshold`."""

_TRANSPORT_STREAM_FLAG = 0x0200  # AVFMT_TS_DISCONT of libavformat

_ISO_FIRST_BOXES = (b"ftyp", b"styp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
_ISO_BOXES = (*_ISO_FIRST_BOXES, b"moof", b"mfra", b"sidx", b"uuid", b"meta", b"emsg", b"prft", b"udta")

_EBML_MAGIC = b"\x1aE\xdf\xa3"
_MATROSKA_SEGMENT = b"\x18\x53\x80\x67"


@dataclass(frozen=True)
class VideoFrame:
    """One picture of a video.

    Attributes:
        index: its number in the file, counted from 0; bad frames leave gaps.
        bgr: (H, W, 3) uint8, upright.
        time_ns: since the first frame; rises from frame to frame.
    """

    index: int
    bgr: np.ndarray
    time_ns: int


@dataclass(frozen=True)
class Video:
    """A video file that was opened once and can be read any number of times.

    Attributes:
        path: the file.
        codec: FFmpeg's name of it, such as h264.
        frame_count: what the header says, None where it says nothing. An estimate: a file that was not closed or was
            cut without re-encoding holds more or fewer.
        rate_hz: frames per second on average, None where the container does not say. The frames' own times count.
    """

    path: Path
    codec: str
    frame_count: int | None
    rate_hz: float | None

    def read_frames(self, bad_frames: BadFrames | None = None) -> Iterator[VideoFrame]:
        """Decode one frame after the other.

        Interlaced frames come woven, both fields in one picture. Frames of which the decoder wrote only a part are
        bad.

        Args:
            bad_frames: gets what cannot be decoded and the word that the end is missing; None raises at the first.

        Yields:
            Frames in the order of their times.

        Raises:
            InputError: if the file cannot be opened or holds no frame that can be decoded.
        """
        import av

        bad_frames = bad_frames or BadFrames(strict=True)
        decoded = index = 0
        with _open_container(self.path) as (container, stream):
            clock = _Clock(
                frame_ns=round(1e9 / (stream.average_rate or stream.guessed_rate or _RATE_HZ_WITHOUT_ONE)),
                spliced=_is_transport_stream(container),
            )
            cut_short: set[int] = set()
            failed: list[int] = []  # packets come in the order of decoding, frames in that of their times
            packets = container.demux(stream)
            while True:
                try:
                    packet = next(packets, None)
                except av.FFmpegError as error:
                    bad_frames.miss(f"{self.path} is damaged after frame {index}: {error.strerror}; the rest is lost")
                    break
                if packet is None:
                    break
                # a transport stream calls every packet corrupt that its counter does not expect, at each splice
                if packet.is_corrupt and packet.pts is not None and not _is_transport_stream(container):
                    cut_short.add(packet.pts)
                try:
                    frames = packet.decode()
                except av.FFmpegError as error:
                    place = f"frame {index}"
                    if packet.pts is None or packet.time_base is None:
                        index += 1
                    else:
                        failed.append(packet.pts)
                        place = (
                            f"the frame at {float((packet.pts - (stream.start_time or 0)) * packet.time_base):.3f} s"
                        )
                    bad_frames.skip(f"{place} of {self.path} cannot be decoded as {self.codec}: {error.strerror}")
                    continue
                for frame in frames:
                    before = [pts for pts in failed if frame.pts is not None and pts < frame.pts]
                    index += len(before)
                    failed = [pts for pts in failed if pts not in before]
                    time_ns = clock.time_ns(_time_s(frame))
                    if frame.is_corrupt or frame.pts in cut_short:
                        bad_frames.skip(
                            f"frame {index} of {self.path}, at {time_ns / 1e9:.3f} s: the {self.codec} stream is "
                            "damaged here"
                        )
                    else:
                        _check_size(self.path, frame.width, frame.height)
                        decoded += 1
                        yield VideoFrame(index, _upright_bgr(frame), time_ns)
                    index += 1
        lack = _missing_end(self.path)
        if decoded == 0:
            cause = f": it is cut off ({lack})" if lack else ""
            raise InputError(
                f"{self.path} holds no frame that can be decoded as {self.codec}{cause}; copy or record it again"
            )
        if lack:
            bad_frames.miss(f"{self.path} is cut off: {lack}; {decoded} frames could be decoded")


class _Clock:
    """Turns presentation times into times since the first frame that only rise.

    A step back, and in a transport stream a jump ahead of more than 10 s, is where two recordings were joined: the
    next frame follows one frame later.
    """

    def __init__(self, *, frame_ns: int, spliced: bool) -> None:
        self._frame_ns = frame_ns
        self._spliced = spliced
        self._offset_ns = 0
        self._last_ns: int | None = None

    def time_ns(self, time_s: Fraction | None) -> int:
        """The time of the next frame; None where the container gives it none."""
        given_ns = None if time_s is None else round(time_s * 1_000_000_000)
        if self._last_ns is None:
            self._offset_ns = -(given_ns or 0)
            self._last_ns = 0
            return 0
        expected_ns = self._last_ns + self._frame_ns
        shifted_ns = expected_ns if given_ns is None else given_ns + self._offset_ns
        if shifted_ns <= self._last_ns or (self._spliced and shifted_ns > self._last_ns + _SPLICE_NS):
            self._offset_ns += expected_ns - shifted_ns
            shifted_ns = expected_ns
        self._last_ns = shifted_ns
        return shifted_ns


def open_video(path: Path) -> Video:
    """Open a video file, look at what it promises and close it again.

    Args:
        path: a file that this machine's FFmpeg can decode. Names with a colon are files too, and playlists are none:
            no other file and no address is opened.

    Returns:
        The video, ready to be read.

    Raises:
        InputError: if the file is missing, empty, cut off before its index, has no video stream, or its codec is not
            known here.
    """
    if not path.is_file():
        raise InputError(f"{path} is not a file; expected a video")
    try:
        size = path.stat().st_size
        if size == 0:
            raise InputError(f"{path} is empty; expected a video, copy or record it again")
        with path.open("rb"):
            pass
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}; expected a video") from error
    with _open_container(path) as (_, stream):
        rate = stream.average_rate or stream.guessed_rate
        return Video(
            path=path,
            codec=stream.codec_context.codec.canonical_name,
            # no frame takes less than its chunk's header; a header that was never finished says anything
            frame_count=stream.frames if 0 < stream.frames <= size // 8 else None,
            rate_hz=float(rate) if rate else None,
        )


def opens_as_video(path: Path) -> bool:
    """Whether `open_video` takes a file."""
    try:
        open_video(path)
    except InputError:
        return False
    return True


def frame_time_ns(index: int, *, rate_hz: float) -> int:
    """Time of a frame since the first one at a constant rate, in whole nanoseconds."""
    return round(index / rate_hz * 1e9)


@contextmanager
def _open_container(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    import av

    try:
        container = av.open(
            f"file:{path.resolve()}",  # digits, colons and "http:" in a name mean nothing else then
            mode="r",
            container_options={"format_whitelist": _CONTAINERS, "protocol_whitelist": "file"},
            metadata_errors="replace",
        )
    except av.FFmpegError as error:
        lack = _missing_end(path)
        cause = f"it is cut off: {lack}; copy or record it again" if lack else "it is damaged, or of an unknown kind"
        raise InputError(f"{path} cannot be opened as a video ({error.strerror}): {cause}") from error
    with container:
        stream = container.streams.best("video")
        if not isinstance(stream, av.VideoStream):
            raise InputError(f"{path} holds no pictures; expected a video")
        if stream.codec_context is None:
            raise InputError(
                f"{path} has the codec {_unknown_codec(container)}, which the FFmpeg of PyAV {av.__version__} cannot "
                "decode; convert it: `ffmpeg -i INPUT -c:v libx264 OUTPUT.mp4`"
            )
        _check_size(path, stream.codec_context.width, stream.codec_context.height)
        yield container, stream


def _is_transport_stream(container: InputContainer) -> bool:
    return bool(container.format.flags & _TRANSPORT_STREAM_FLAG)


def _unknown_codec(container: InputContainer) -> str:
    """As FFmpeg prints it, such as ``none (xyzw / 0x777A7978)``: the file's tag is all there is to name it by."""
    import av

    level = av.logging.get_level()
    av.logging.set_level(av.logging.INFO)
    try:
        found = re.search(r"Video: (\w+(?: \([^)]*\))?)", container.dumps_format())  # type: ignore[attr-defined]  # missing in its stubs
    finally:
        av.logging.set_level(level)
    return found.group(1) if found else "unknown"


def _time_s(frame: av.VideoFrame) -> Fraction | None:
    return None if frame.pts is None or frame.time_base is None else frame.pts * frame.time_base


def _check_size(path: Path, width: int, height: int) -> None:
    if width * height * 3 > MAX_IMAGE_BYTES:
        raise InputError(
            f"{path} declares frames of {width}×{height}, expected at most {MAX_IMAGE_BYTES // 3} pixels altogether"
        )


def _upright_bgr(frame: av.VideoFrame) -> np.ndarray:
    bgr = frame.to_ndarray(format="bgr24")
    quarter_turns = round(frame.rotation / 90) % 4  # counterclockwise
    return np.ascontiguousarray(np.rot90(bgr, quarter_turns)) if quarter_turns else bgr


def _missing_end(path: Path) -> str:
    """What a file announces beyond its end, empty where it is whole or does not say.

    Source: ISO/IEC 14496-12, section 4.2; Multimedia Programming Interface (RIFF), IBM and Microsoft 1991, chapter 2.
    """
    with path.open("rb") as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        start = file.read(12)
        if start[4:8] in _ISO_FIRST_BOXES:
            return _missing_end_of_iso(file, size)
        if start.startswith(_EBML_MAGIC):
            return _missing_end_of_matroska(file, size)
        announced = int.from_bytes(start[4:8], "little")
        # all ones stand in a header that was never finished: how much was to come is not known
        if start[:4] == b"RIFF" and size < 8 + announced < 2**32:
            return f"its header announces {8 + announced} bytes, there are {size}"
    return ""


def _missing_end_of_matroska(file: io.BufferedReader, file_size: int) -> str:
    """Compare the size of the segment, which all frames lie in, with that of the file; a live one says none.

    Source: RFC 8794 (EBML), sections 4 and 6; RFC 9559 (Matroska), section 5.1.
    """
    position = 0
    for identifier in (_EBML_MAGIC, _MATROSKA_SEGMENT):
        file.seek(position)
        if file.read(len(identifier)) != identifier:
            return ""
        first = file.read(1) or b"\0"
        width = 9 - first[0].bit_length()  # zeros before the first one tell how many bytes follow
        field = first + file.read(width - 1)
        unknown = (1 << 7 * width) - 1
        size = int.from_bytes(field, "big") & unknown
        if size == unknown:
            return ""
        position += len(identifier) + width + size
    return f"its header announces {position} bytes, there are {file_size}" if position > file_size else ""


def _missing_end_of_iso(file: io.BufferedReader, file_size: int) -> str:
    """Walk the boxes; bytes behind the last one are no box and do not matter."""
    position = 0
    found = set()
    while position + 8 <= file_size:
        file.seek(position)
        header = file.read(16)
        size, kind = int.from_bytes(header[:4], "big"), header[4:8]
        if size == 1:
            size = int.from_bytes(header[8:16], "big")
        if kind not in _ISO_BOXES and b"moov" in found:
            return ""
        if size == 0:  # this box reaches to the end of the file
            size = file_size - position
        if size < 8 or position + size > file_size:
            return f"{size} bytes are announced at {position} of {file_size}"
        found.add(kind)
        position += size
    return "" if found & {b"moov", b"meta"} else "its index (moov) is missing"  # meta: of a still picture, as AVIF
