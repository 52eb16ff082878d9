"""sensor_msgs/Image and CompressedImage to and from numpy, without ROS.

Messages are duck-typed: those of rclpy, of rosbags and a ``SimpleNamespace`` with the same fields all work.
The middleware checks nothing, so every field is checked here before an array is made from it.
"""

from __future__ import annotations

import array
import operator
from dataclasses import dataclass
from typing import Any, TypeVar

import cv2
import numpy as np

from darkseg_ros.errors import ImageMessageError, one_line

MAX_IMAGE_BYTES = 2**28
"""Largest decoded image, as BGR: 268 MB, 8192 × 10922 pixels. A larger declared size is taken for a fault."""

_Message = TypeVar("_Message")


@dataclass(frozen=True)
class _Encoding:
    """How the bytes of one encoding become BGR; `conversion` is None where they are BGR already."""

    channels: int
    itemsize: int
    conversion: int | None
    min_px: int = 1
    even_width: bool = False


def _bayer(conversion: int, *, itemsize: int) -> _Encoding:
    # OpenCV interpolates from neighbours on both sides and answers black for anything smaller
    return _Encoding(1, itemsize, conversion, min_px=3)


_UYVY = _Encoding(2, 1, cv2.COLOR_YUV2BGR_UYVY, even_width=True)
_YUYV = _Encoding(2, 1, cv2.COLOR_YUV2BGR_YUY2, even_width=True)
_MONO8 = _Encoding(1, 1, cv2.COLOR_GRAY2BGR)
_BGR8 = _Encoding(3, 1, None)

# ROS names a Bayer mosaic from its first row and column on, OpenCV from the second row and column on
_ENCODINGS: dict[str, _Encoding] = {
    "bgr8": _BGR8,
    "8UC3": _BGR8,
    "rgb8": _Encoding(3, 1, cv2.COLOR_RGB2BGR),
    "bgra8": _Encoding(4, 1, cv2.COLOR_BGRA2BGR),
    "rgba8": _Encoding(4, 1, cv2.COLOR_RGBA2BGR),
    "mono8": _MONO8,
    "8UC1": _MONO8,
    "yuv422": _UYVY,
    "uyvy": _UYVY,
    "yuv422_yuy2": _YUYV,
    "yuyv": _YUYV,
    "bayer_rggb8": _bayer(cv2.COLOR_BayerBG2BGR, itemsize=1),
    "bayer_bggr8": _bayer(cv2.COLOR_BayerRG2BGR, itemsize=1),
    "bayer_gbrg8": _bayer(cv2.COLOR_BayerGR2BGR, itemsize=1),
    "bayer_grbg8": _bayer(cv2.COLOR_BayerGB2BGR, itemsize=1),
    "bgr16": _Encoding(3, 2, None),
    "rgb16": _Encoding(3, 2, cv2.COLOR_RGB2BGR),
    "mono16": _Encoding(1, 2, cv2.COLOR_GRAY2BGR),
    "bayer_rggb16": _bayer(cv2.COLOR_BayerBG2BGR, itemsize=2),
    "bayer_bggr16": _bayer(cv2.COLOR_BayerRG2BGR, itemsize=2),
    "bayer_gbrg16": _bayer(cv2.COLOR_BayerGR2BGR, itemsize=2),
    "bayer_grbg16": _bayer(cv2.COLOR_BayerGB2BGR, itemsize=2),
}

_LABEL_ENCODINGS = ("mono8", "8UC1")
_CHANNELS_WRITTEN = {"mono8": 1, "bgr8": 3, "rgb8": 3}

_JPEG_MAGIC = b"\xff\xd8\xff"
_JPEG_END = b"\xff\xd9"
_JPEG_SCAN = b"\xff\xda"
_JPEG_SCANS_MAX = 64
"""Encoders write up to a dozen scans. Each costs a pass over the whole image; a thousand fit into a few kilobytes."""

_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"IEND\xaeB`\x82"


def bgr_from_image(message: Any) -> np.ndarray:
    """Decode a sensor_msgs/Image into an array of its own.

    16-bit values keep their upper 8 bits. 8UC3 means BGR and 8UC1 grey, as everywhere in OpenCV. YUV is
    BT.601 with limited range. Row padding is dropped.

    Args:
        message: has height, width, encoding, is_bigendian, step and data, the last as bytes,
            ``array.array('B')``, a uint8 array or a memoryview. Neither changed nor shared with the result.

    Returns:
        (H, W, 3) uint8 BGR, C-contiguous and writable.

    Raises:
        ImageMessageError: if a field is missing or of a wrong type, the encoding is not known here, the
            image is empty or larger than MAX_IMAGE_BYTES, the step is shorter than a row, or the data are
            shorter than ``height * step``: the last row needs its padding too, as sensor_msgs/Image defines.

    Source: sensor_msgs/msg/Image.msg and sensor_msgs/image_encodings.hpp of ROS 2 Jazzy.
    """
    name, encoding = _encoding(message)
    pixels = _pixels(message, name, encoding)
    if pixels.dtype != np.uint8:
        pixels = (pixels >> 8).astype(np.uint8)
    if encoding.conversion is None:
        return pixels.copy(order="C")
    return cv2.cvtColor(pixels, encoding.conversion)


def bgr_from_message(message: Any) -> np.ndarray:
    """Decode a sensor_msgs/Image or CompressedImage, whichever it is.

    Args:
        message: as for `bgr_from_image` or `bgr_from_compressed_image`.

    Returns:
        (H, W, 3) uint8 BGR, C-contiguous and writable.

    Raises:
        ImageMessageError: as these two.
    """
    return bgr_from_image(message) if hasattr(message, "encoding") else bgr_from_compressed_image(message)


def label_map_from_image(message: Any) -> np.ndarray:
    """Decode a sensor_msgs/Image whose pixels are train ids.

    Args:
        message: as for `bgr_from_image`, of encoding mono8 or 8UC1.

    Returns:
        (H, W) uint8, C-contiguous and writable.

    Raises:
        ImageMessageError: as `bgr_from_image`, and for every other encoding: a colour is not a class.
    """
    name, encoding = _encoding(message)
    if name not in _LABEL_ENCODINGS:
        raise ImageMessageError(
            f"a label map has encoding mono8 or 8UC1, this image has {name}; "
            "take the topic of the class map, not that of its picture"
        )
    return _pixels(message, name, encoding).copy(order="C")


def bgr_from_compressed_image(message: Any) -> np.ndarray:
    """Decode a sensor_msgs/CompressedImage holding a JPEG or a PNG.

    The content says which it is; `format` can only forbid. EXIF orientation is ignored: the pixels keep the
    camera's geometry.

    Args:
        message: has format and data, the last as for `bgr_from_image`.

    Returns:
        (H, W, 3) uint8 BGR, C-contiguous and writable.

    Raises:
        ImageMessageError: if a field is missing or of a wrong type, or the content is neither JPEG nor PNG,
            is cut off, cannot be decoded, declares more than MAX_IMAGE_BYTES or two sizes, is a JPEG of more than
            64 scans, or is depth or a colour mosaic.
            JPEG has no checksum: damage inside a complete stream may pass.

    Source: the format strings of compressed_image_transport (ROS 2 Jazzy).
    """
    format_name = _field(message, "format")
    if not isinstance(format_name, str):
        raise ImageMessageError(f"format must be a string, got {type(format_name).__name__}")
    source_encoding, _, compression = format_name.partition(";")
    if "compressedDepth" in format_name:
        raise ImageMessageError(
            f"format {_short(format_name)} is a depth image; take the compressed topic of a colour camera"
        )
    if source_encoding.startswith("bayer_") and "compressed bgr" not in compression:
        raise ImageMessageError(
            f"format {_short(format_name)} is a colour mosaic stored as grey; "
            "take a colour topic, from the camera or from image_proc"
        )
    bgr = bgr_from_jpeg_or_png(_byte_view(_field(message, "data")))
    if "compressed rgb" in compression:
        # the publisher handed RGB to an encoder that expects BGR: the picture has red and blue swapped
        return cv2.cvtColor(bgr, cv2.COLOR_RGB2BGR)
    return bgr


def bgr_from_jpeg_or_png(content: bytes | memoryview, *, upright: bool = False) -> np.ndarray:
    """Decode the content of a JPEG or PNG file, but never a part of one.

    Args:
        content: the whole file.
        upright: turn the picture as its EXIF orientation says.

    Returns:
        (H, W, 3) uint8 BGR, C-contiguous and writable.

    Raises:
        ImageMessageError: as `bgr_from_compressed_image`.
    """
    content = bytes(content)
    if content.startswith(_JPEG_MAGIC):
        kind, (height, width) = "JPEG", _jpeg_hw(content)
    elif content.startswith(_PNG_MAGIC):
        kind, (height, width) = "PNG", _png_hw(content)
    else:
        raise ImageMessageError(
            "expected the content of a JPEG or PNG, "
            f"got {len(content)} bytes starting {content[:4].hex() or '(empty)'}; use jpeg or png"
        )
    _check_size(height, width)
    flags = cv2.IMREAD_COLOR if upright else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        bgr = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except cv2.error as error:
        raise ImageMessageError(f"{kind} of {width}×{height} cannot be decoded: {one_line(error)}") from error
    if bgr is None:
        raise ImageMessageError(f"{kind} of {width}×{height} is corrupt; check the camera and its link")
    turned = upright and bgr.shape[:2] == (width, height)
    if bgr.shape[:2] != (height, width) and not turned:
        raise ImageMessageError(f"{kind} declares {width}×{height} but decodes to {bgr.shape[1]}×{bgr.shape[0]}")
    return bgr


def fill_image(message: _Message, pixels: np.ndarray, *, encoding: str, header: Any) -> _Message:
    """Fill an empty sensor_msgs/Image.

    Args:
        message: the message to fill; its `data` becomes an ``array.array('B')``, the fastest for rclpy.
        pixels: (H, W) uint8 for mono8, (H, W, 3) uint8 in their colour order for bgr8 and rgb8; any strides.
        encoding: mono8, bgr8 or rgb8.
        header: assigned as it is, so the stamp and frame_id stay those of the camera.

    Returns:
        `message`.

    Raises:
        ValueError: if the encoding is not one of the three, or the pixels do not have its dtype and shape.
    """
    channels = _CHANNELS_WRITTEN.get(encoding)
    if channels is None:
        raise ValueError(f"encoding must be one of {', '.join(_CHANNELS_WRITTEN)}, got {encoding!r}")
    shape_fits = pixels.ndim == 2 if channels == 1 else pixels.ndim == 3 and pixels.shape[2] == channels
    if pixels.dtype != np.uint8 or not shape_fits or pixels.size == 0:
        expected = "(H, W)" if channels == 1 else f"(H, W, {channels})"
        raise ValueError(f"{encoding} needs {expected} uint8 with H, W ≥ 1, got {pixels.shape} {pixels.dtype}")
    target: Any = message
    target.header = header
    # the middleware raises SystemError at publish for numpy's integers
    target.height = int(pixels.shape[0])
    target.width = int(pixels.shape[1])
    target.encoding = encoding
    target.is_bigendian = 0
    target.step = int(pixels.shape[1]) * channels
    target.data = _byte_array(pixels)
    return message


def fill_compressed_image(message: _Message, bgr: np.ndarray, *, header: Any, quality: int = 90) -> _Message:
    """Fill an empty sensor_msgs/CompressedImage with a JPEG.

    Args:
        message: the message to fill; its `data` becomes an ``array.array('B')``.
        bgr: (H, W, 3) uint8.
        header: assigned as it is.
        quality: JPEG quality, 0…100.

    Returns:
        `message`.

    Raises:
        ValueError: if `bgr` is not (H, W, 3) uint8, or larger than a JPEG can be (65535 pixels a side).
    """
    if bgr.dtype != np.uint8 or bgr.ndim != 3 or bgr.shape[2] != 3 or bgr.size == 0:
        raise ValueError(f"expected (H, W, 3) uint8 BGR with H, W ≥ 1, got {bgr.shape} {bgr.dtype}")
    if max(bgr.shape[:2]) > 65535:
        raise ValueError(f"a JPEG has at most 65535 pixels a side, got {bgr.shape[1]}×{bgr.shape[0]}; send it raw")
    encoded, jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, int(quality)])
    if not encoded:
        raise ValueError(f"OpenCV could not encode {bgr.shape[1]}×{bgr.shape[0]} BGR as JPEG")
    target: Any = message
    target.header = header
    target.format = "bgr8; jpeg compressed bgr8"
    target.data = _byte_array(jpeg)
    return message


def _byte_array(pixels: np.ndarray) -> array.array[int]:
    data = array.array("B")
    data.frombytes(np.ascontiguousarray(pixels).data.cast("B"))
    return data


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:60]}…")


def _field(message: Any, name: str) -> Any:
    try:
        return getattr(message, name)
    except AttributeError:
        raise ImageMessageError(f"expected a message with a field {name}, got {type(message).__name__}") from None


def _integer(message: Any, name: str) -> int:
    value = _field(message, name)
    try:
        return operator.index(value)
    except TypeError:
        raise ImageMessageError(f"{name} must be an integer, got {type(value).__name__}") from None


def _byte_view(data: Any) -> memoryview:
    try:
        view = memoryview(data)
    except (TypeError, ValueError, BufferError):
        view = None
    if view is None or view.format != "B" or not view.c_contiguous:
        raise ImageMessageError(
            f"data must be contiguous bytes (bytes, array('B'), uint8 array), got {type(data).__name__}"
        )
    return view.cast("B") if view.nbytes else memoryview(b"")


def _encoding(message: Any) -> tuple[str, _Encoding]:
    name = _field(message, "encoding")
    if not isinstance(name, str):
        raise ImageMessageError(f"encoding must be a string, got {type(name).__name__}")
    encoding = _ENCODINGS.get(name)
    if encoding is None:
        raise ImageMessageError(f"encoding {_short(name)} is not supported; known are {', '.join(_ENCODINGS)}")
    return name, encoding


def _check_size(height: int, width: int) -> None:
    if height < 1 or width < 1:
        raise ImageMessageError(f"the image is empty: {width}×{height}; check that the camera delivers frames")
    if height * width * 3 > MAX_IMAGE_BYTES:
        raise ImageMessageError(
            f"the image declares {width}×{height} pixels, "
            f"expected at most {MAX_IMAGE_BYTES // 3} altogether; check the publisher"
        )


def _pixels(message: Any, name: str, encoding: _Encoding) -> np.ndarray:
    """(H, W) or (H, W, C) view of the message's data, uint8 or uint16 of the message's byte order."""
    height, width, step = (_integer(message, field) for field in ("height", "width", "step"))
    _check_size(height, width)
    if min(height, width) < encoding.min_px:
        raise ImageMessageError(
            f"{name} needs at least {encoding.min_px}×{encoding.min_px} pixels, got {width}×{height}"
        )
    if encoding.even_width and width % 2:
        raise ImageMessageError(f"{name} shares colour between pairs of pixels, so its width must be even, got {width}")
    row_bytes = width * encoding.channels * encoding.itemsize
    if step < row_bytes:
        raise ImageMessageError(f"step must be at least {row_bytes} for {width} pixels of {name}, got {step}")
    data = _byte_view(_field(message, "data"))
    if len(data) < height * step:
        raise ImageMessageError(f"data must hold height × step = {height * step} bytes, got {len(data)}")
    dtype = "u1" if encoding.itemsize == 1 else (">u2" if _integer(message, "is_bigendian") else "<u2")
    shape: tuple[int, ...] = (height, width)
    strides: tuple[int, ...] = (step, encoding.channels * encoding.itemsize)
    if encoding.channels > 1:
        shape, strides = (*shape, encoding.channels), (*strides, encoding.itemsize)
    return np.ndarray(shape, dtype, buffer=data, strides=strides)


def _jpeg_hw(content: bytes) -> tuple[int, int]:
    """The declared size, after making sure that the stream reaches its end marker and has few scans.

    Source: ITU-T T.81, annex B.
    """
    size_hw: tuple[int, int] | None = None
    position = 2
    while position + 4 <= len(content) and content[position] == 0xFF:
        marker = content[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        if marker == 0x01 or 0xD0 <= marker <= 0xD7:  # these stand alone, without a length
            position += 2
            continue
        length = int.from_bytes(content[position + 2 : position + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # start of frame
            if size_hw is not None:
                break  # two sizes: the decoder might take the one that was not checked
            frame = content[position + 5 : position + 9]
            size_hw = int.from_bytes(frame[:2], "big"), int.from_bytes(frame[2:], "big")
        position += 2 + length
        if marker == 0xDA:  # start of scan
            # decoders may fill a missing rest with grey and report success; no pixel data hold this marker
            if size_hw is None or content.rfind(_JPEG_END, position) < 0:
                break
            scans = 1 + content.count(_JPEG_SCAN, position)
            if scans > _JPEG_SCANS_MAX:
                raise ImageMessageError(
                    f"the JPEG has {scans} scans, expected at most {_JPEG_SCANS_MAX}; check the publisher"
                )
            return size_hw
    raise ImageMessageError(f"the JPEG of {len(content)} bytes is cut off or corrupt; check the camera and its link")


def _png_hw(content: bytes) -> tuple[int, int]:
    """The declared size, after making sure that the file reaches its end.

    Source: W3C Portable Network Graphics (PNG) Specification, sections 5.3 and 11.2.
    """
    if content[12:16] != b"IHDR" or content.rfind(_PNG_END) < 0:
        raise ImageMessageError(f"the PNG of {len(content)} bytes is cut off or corrupt; check the camera and its link")
    width, height = content[16:20], content[20:24]
    return int.from_bytes(height, "big"), int.from_bytes(width, "big")
