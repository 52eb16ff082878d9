"""H.264 and H.265 of cameras: foxglove_msgs/CompressedVideo and ffmpeg_image_transport_msgs/FFMPEGPacket to numpy.

A video frame is the difference to the frames before it. So each packet of a stream must be decoded, in order, from a
keyframe on; and once a packet is lost, nothing up to the next keyframe is what the camera saw, whatever the decoder
makes of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from darkseg_ros.errors import ImageMessageError, one_line
from darkseg_ros.frames.message_fields import MAX_IMAGE_BYTES, byte_field, field, integer_field, quoted, text_field
from darkseg_ros.frames.picture_numbers import PICTURE_NUMBERS
from darkseg_ros.frames.stamps import header_of, stamp_ns_of

if TYPE_CHECKING:
    from av.video.codeccontext import VideoCodecContext

_CODEC_OF_NAME = {"libx264": "h264", "libopenh264": "h264", "libx265": "hevc", "h265": "hevc"}
"""Names of encoders that do not begin with that of their codec, and Foxglove's name of HEVC."""

_MAX_PIXELS = MAX_IMAGE_BYTES // 3
_PACKET_BYTES_MAX = 2**26


def is_video_packet(message: Any) -> bool:
    """Whether a message is a CompressedVideo or an FFMPEGPacket, by its fields."""
    return hasattr(message, "pts") or (hasattr(message, "timestamp") and hasattr(message, "format"))


@dataclass(frozen=True)
class _Packet:
    """What both messages have in common.

    Attributes:
        codec: h264 or hevc.
        data: in Annex B form.
        stamp_ns: of the header.
        number: counts the packets where the message has such a count, else None.
    """

    codec: str
    data: bytes
    stamp_ns: int
    number: int | None


class VideoDecoder:
    """Decodes the packets of one stream.

    A lost packet is found by the packets' own count (FFMPEGPacket, unless its pts is a time) and by the numbers that
    H.264 and H.265 give their pictures. They count to 16 at least before they start anew, so a pause of more than half
    that range at the stream's usual rate counts as a loss as well.

    Attributes:
        lost: packets that never came, as far as numbers tell; 1 for a pause.
    """

    def __init__(self) -> None:
        self.lost = 0
        self._codec = ""
        self._decoder: VideoCodecContext | None = None
        self._waits_for: str | None = "the stream does not begin with a keyframe"
        self._number: int | None = None
        self._counts = False
        self._picture_numbers = PICTURE_NUMBERS["h264"]()
        self._pause = _Pause()

    def bgr(self, message: Any) -> np.ndarray:
        """Decode the next packet.

        Args:
            message: a CompressedVideo (timestamp, frame_id, data, format) or an FFMPEGPacket (header, encoding, pts,
                data). Each must hold exactly one frame, as Foxglove demands, so B-frames are an error.

        Returns:
            (H, W, 3) uint8 BGR, C-contiguous and writable.

        Raises:
            ImageMessageError: if a field is missing or of a wrong type, the codec is none of the two, the data are
                damaged or not in Annex B form, or a keyframe is still to come.

        Source: foxglove_msgs/msg/CompressedVideo.msg; ffmpeg_image_transport_msgs/msg/FFMPEGPacket.msg; ITU-T H.264 and
            H.265, annex B.
        """
        packet = _packet(message)
        units = list(_units(packet.data))
        if not units:
            raise ImageMessageError(
                f"the {packet.codec} packet of {len(packet.data)} bytes has no start code; send Annex B, not the form "
                "of MP4 files"
            )
        if packet.codec != self._codec:
            self._codec, self._decoder = packet.codec, None
            self._picture_numbers = PICTURE_NUMBERS[packet.codec]()
            self._waits_for = "the stream does not begin with a keyframe"
        keyframe = any(map(self._picture_numbers.is_keyframe, units))
        self._look_for_losses(packet, units, keyframe=keyframe)
        if keyframe and self._waits_for is not None:
            self._waits_for = None
            if self._decoder is None:
                self._decoder = _open_decoder(packet.codec)
            self._decoder.flush_buffers()
        if self._waits_for is not None:
            raise ImageMessageError(f"{self._waits_for}; frames are shown from the next keyframe on")
        try:
            return self._decode(packet.data)
        except ImageMessageError as error:
            self._waits_for = str(error)
            raise

    def _look_for_losses(self, packet: _Packet, units: list[bytes], *, keyframe: bool) -> None:
        """Count what is missing before a packet, and wait for a keyframe then."""
        missing = 0
        if packet.number is not None and self._number is not None:
            step = packet.number - self._number
            self._counts = self._counts or step == 1
            missing = step - 1 if self._counts else 0
        self._number = packet.number
        paused = self._pause.before(packet.stamp_ns, keyframe=keyframe, longest=self._picture_numbers.range // 2)
        try:
            missing = self._picture_numbers.missing_before(units) or missing or int(paused and not keyframe)
        except IndexError:
            raise ImageMessageError(f"the {packet.codec} packet is damaged: a header ends early") from None
        if missing:
            missing = max(missing, 1)  # a count that goes back is another stream
            self.lost += missing
            self._waits_for = self._waits_for or f"{missing} video packet{'s were' if missing > 1 else ' was'} lost"

    def _decode(self, data: bytes) -> np.ndarray:
        import av

        assert self._decoder is not None
        try:
            frames = self._decoder.decode(av.Packet(data))
        except av.error.FFmpegError as error:
            raise ImageMessageError(f"the {self._codec} packet is damaged: {one_line(error)}") from error
        if len(frames) != 1:
            raise ImageMessageError(
                f"the {self._codec} packet holds {len(frames)} frames, expected one: a packet before it was lost, or "
                "the encoder sends B-frames; let it send none"
            )
        if frames[0].is_corrupt:
            raise ImageMessageError(f"the {self._codec} packet is damaged")
        return frames[0].to_ndarray(format="bgr24")


def _open_decoder(codec: str) -> VideoCodecContext:
    try:
        import av
    except ImportError as error:
        raise ImageMessageError(f"video packets need PyAV ({error}); run `pip install av`") from error
    decoder: VideoCodecContext = av.CodecContext.create(codec, "r")  # type: ignore[assignment]
    decoder.thread_count = 1  # threads of frames would answer later
    decoder.flags |= av.codec.context.Flags.low_delay
    decoder.options = {"max_pixels": str(_MAX_PIXELS), "err_detect": "explode"}
    return decoder


def _packet(message: Any) -> _Packet:
    numbered = hasattr(message, "pts")
    name = text_field(message, "encoding" if numbered else "format").partition(";")[0].strip().lower()
    codec = _CODEC_OF_NAME.get(name, name.partition("_")[0])
    if codec not in ("h264", "hevc"):
        raise ImageMessageError(f"video of codec {quoted(name)} is not supported; send h264 or h265")
    data = byte_field(message, "data")
    if len(data) > _PACKET_BYTES_MAX:
        raise ImageMessageError(f"the video packet has {len(data)} bytes, expected at most {_PACKET_BYTES_MAX}")
    field(message, "header" if numbered else "timestamp")
    return _Packet(
        codec=codec,
        data=bytes(data),
        stamp_ns=stamp_ns_of(header_of(message)),
        number=integer_field(message, "pts") if numbered else None,
    )


def _units(data: bytes) -> Iterator[bytes]:
    """The NAL units of a packet: what follows each start code 00 00 01."""
    start = data.find(b"\0\0\1")
    while start >= 0:
        end = data.find(b"\0\0\1", start + 3)
        unit = data[start + 3 : end if end >= 0 else len(data)]
        if unit:
            yield unit
        start = end


class _Pause:
    """A gap between stamps that is many times the mean since the last keyframe."""

    def __init__(self) -> None:
        self._first_ns = self._last_ns = 0
        self._intervals = 0

    def before(self, stamp_ns: int, *, keyframe: bool, longest: int) -> bool:
        """Whether there is one of more than `longest` intervals; takes note of the stamp."""
        gap_ns = stamp_ns - self._last_ns
        paused = self._intervals > 0 and gap_ns * self._intervals > longest * (self._last_ns - self._first_ns)
        if keyframe or paused:
            self._first_ns, self._intervals = stamp_ns, 0
        else:
            self._intervals += 1
        self._last_ns = stamp_ns
        return paused
