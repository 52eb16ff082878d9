"""JPEG and PNG content to numpy, measured before it is decoded: what it will cost, and whether it is whole.

The decoder obeys what a file declares. A file of a few kilobytes can declare gigabytes, thousands of passes over the
image, or megabytes of packed text; each of these stops a live node for seconds. So size, passes, segments and chunks
are read first, and text, colour profiles and all else that does not change the picture are left out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import islice

import cv2
import numpy as np

from darkseg_ros.errors import ImageMessageError, one_line
from darkseg_ros.frames.message_fields import check_size
from darkseg_ros.frames.value_range import ValueRange

MAX_DECODING_BYTES = 2**28
"""Most memory that decoding may take at its peak, output included: 268 MB. An ordinary picture takes 6 bytes a pixel
(44 million pixels), a JPEG of several scans up to 11."""

MAX_SCANNED_PIXELS = 2**28
"""Most pixels of a JPEG times its scans, since each scan is a pass over the image: ten scans at 26 million pixels."""

_SCANS_MAX = 64
"""Encoders write up to a dozen. A thousand fit into a few kilobytes."""

_SEGMENTS_MAX = 1024
"""Of a JPEG; an embedded colour profile takes up to 255."""

_CHUNKS_MAX = 65536
"""Of a PNG; encoders write up to 8 kB of the picture into each."""

_CURE = "check the camera and its link, or copy the file again"

_JPEG_MAGIC = b"\xff\xd8\xff"
_JPEG_END = b"\xff\xd9"
_JPEG_SEGMENT = re.compile(rb"\xff[\xc0-\xcf\xda-\xfe]")
_SCAN = b"\xff\xda"
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_PNG_PICTURE_CHUNKS = frozenset((b"IHDR", b"PLTE", b"IDAT", b"IEND"))


@dataclass(frozen=True)
class _Measured:
    """What a file declares.

    Attributes:
        kind: JPEG or PNG.
        height: of the picture.
        width: of the picture.
        bytes_per_pixel: of memory, at the peak of decoding.
        grey16: whether its values are 16-bit grey.
        content: of the file, without what does not change the picture.
    """

    kind: str
    height: int
    width: int
    bytes_per_pixel: int
    grey16: bool
    content: bytes


def bgr_from_jpeg_or_png(
    content: bytes | memoryview, *, upright: bool = False, value_range: ValueRange | None = None
) -> np.ndarray:
    """Decode the content of a JPEG or PNG file, but never a part of one.

    Args:
        content: the whole file.
        upright: turn the picture as its EXIF orientation says.
        value_range: of the stream that a 16-bit PNG belongs to; its own if not given.

    Returns:
        (H, W, 3) uint8 BGR, C-contiguous and writable.

    Raises:
        ImageMessageError: if the content is neither JPEG nor PNG, is cut off, cannot be decoded, declares two sizes, or
            would take more than MAX_DECODING_BYTES, 64 scans, MAX_SCANNED_PIXELS, 1,024 segments or 65,536 chunks.
            JPEG has no checksum: damage inside a complete stream may pass.
    """
    content = bytes(content)
    if content.startswith(_JPEG_MAGIC):
        picture = _measure_jpeg(content)
    elif content.startswith(_PNG_MAGIC):
        picture = _measure_png(content, keep_orientation=upright)
    else:
        raise ImageMessageError(
            "expected the content of a JPEG or PNG, "
            f"got {len(content)} bytes starting {content[:4].hex() or '(empty)'}; use jpeg or png"
        )
    kind, height, width = picture.kind, picture.height, picture.width
    check_size(height, width, max_pixels=MAX_DECODING_BYTES // picture.bytes_per_pixel)
    flags = cv2.IMREAD_ANYDEPTH if picture.grey16 else cv2.IMREAD_COLOR
    if not upright:
        flags |= cv2.IMREAD_IGNORE_ORIENTATION
    try:
        pixels = cv2.imdecode(np.frombuffer(picture.content, np.uint8), flags)
    except cv2.error as error:
        raise ImageMessageError(f"{kind} of {width}×{height} cannot be decoded: {one_line(error)}") from error
    if pixels is None:
        raise ImageMessageError(f"{kind} of {width}×{height} is corrupt; {_CURE}")
    turned = upright and pixels.shape[:2] == (width, height)
    if pixels.shape[:2] != (height, width) and not turned:
        raise ImageMessageError(f"{kind} declares {width}×{height} but decodes to {pixels.shape[1]}×{pixels.shape[0]}")
    if picture.grey16:
        return cv2.cvtColor((value_range or ValueRange()).to_8_bits(pixels), cv2.COLOR_GRAY2BGR)
    return pixels


def _measure_jpeg(content: bytes) -> _Measured:
    """Walk the segments up to the first scan, and count those behind it.

    Source: ITU-T T.81, annex B.
    """
    frame: bytes | None = None
    position = 2
    for _ in range(_SEGMENTS_MAX):
        if position + 4 > len(content) or content[position] != 0xFF:
            break
        marker = content[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        if marker == 0x01 or 0xD0 <= marker <= 0xD7:  # these stand alone, without a length
            position += 2
            continue
        length = int.from_bytes(content[position + 2 : position + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # start of frame
            if frame is not None:
                break  # two sizes: the decoder might take the one that was not checked
            frame = content[position + 4 : position + 2 + length]
        position += 2 + length
        if marker == 0xDA:  # start of scan
            # decoders may fill a missing rest with grey and report success; no pixel data hold this marker
            if frame is None or len(frame) < 6 or content.rfind(_JPEG_END, position) < 0:
                break
            return _measure_jpeg_scans(content, frame, position)
    else:
        raise ImageMessageError(f"the JPEG has more than {_SEGMENTS_MAX} segments; check the publisher")
    raise ImageMessageError(f"the JPEG of {len(content)} bytes is cut off or corrupt; {_CURE}")


def _measure_jpeg_scans(content: bytes, frame: bytes, position: int) -> _Measured:
    height, width = int.from_bytes(frame[1:3], "big"), int.from_bytes(frame[3:5], "big")
    markers = [found.group() for found in islice(_JPEG_SEGMENT.finditer(content, position), _SEGMENTS_MAX + 1)]
    if len(markers) > _SEGMENTS_MAX:
        raise ImageMessageError(f"the JPEG has more than {_SEGMENTS_MAX} segments; check the publisher")
    scans = 1 + markers.count(_SCAN)
    if scans > _SCANS_MAX:
        raise ImageMessageError(f"the JPEG has {scans} scans, expected at most {_SCANS_MAX}; check the publisher")
    if scans * height * width > MAX_SCANNED_PIXELS:
        raise ImageMessageError(
            f"the JPEG has {scans} scans of {width}×{height} pixels, expected at most {MAX_SCANNED_PIXELS // scans} "
            "pixels with so many; send baseline JPEG (one scan)"
        )
    bytes_per_pixel = 6 if scans == 1 else max(6, 3 + _coefficient_bytes(frame))
    return _Measured("JPEG", height, width, bytes_per_pixel, grey16=False, content=content)


def _coefficient_bytes(frame: bytes) -> int:
    """Memory a pixel that the decoder keeps between scans: two bytes for each coefficient of each component."""
    factors = [(each >> 4) * (each & 15) for each in frame[7::3]]
    return -(-2 * sum(factors) // max(1, *factors)) if factors else 0


def _measure_png(content: bytes, *, keep_orientation: bool) -> _Measured:
    """Walk the chunks to the last one, and leave out those that do not make the picture.

    Source: W3C Portable Network Graphics (PNG) Specification, sections 5.3 and 11.2.
    """
    kept = _PNG_PICTURE_CHUNKS | {b"eXIf"} if keep_orientation else _PNG_PICTURE_CHUNKS
    header = content[16:26]
    chunks: list[bytes] = []
    position = len(_PNG_MAGIC)
    for _ in range(_CHUNKS_MAX):
        end = position + 12 + int.from_bytes(content[position : position + 4], "big")
        name = content[position + 4 : position + 8]
        if end > len(content) or (name == b"IHDR") != (position == len(_PNG_MAGIC)):
            break
        if name in kept:
            chunks.append(content[position:end])
        position = end
        if name == b"IEND":
            width, height = int.from_bytes(header[:4], "big"), int.from_bytes(header[4:8], "big")
            # bit depth and colour type; the latter 0 for grey, 4 for grey with transparency
            grey16 = header[8] == 16 and header[9] in (0, 4)
            return _Measured("PNG", height, width, 6, grey16=grey16, content=_PNG_MAGIC + b"".join(chunks))
    else:
        raise ImageMessageError(f"the PNG has more than {_CHUNKS_MAX} chunks; check the publisher")
    raise ImageMessageError(f"the PNG of {len(content)} bytes is cut off or corrupt; {_CURE}")
