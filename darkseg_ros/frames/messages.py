"""sensor_msgs/Image and CompressedImage to and from numpy, without ROS.

Messages are duck-typed: those of rclpy, of rosbags and a ``SimpleNamespace`` with the same fields all work.
The middleware checks nothing, so every field is checked here before an array is made from it.
"""

from __future__ import annotations

import array
from typing import Any, TypeVar

import cv2
import numpy as np

from darkseg_ros.errors import ImageMessageError
from darkseg_ros.frames.bgr_check import check_bgr
from darkseg_ros.frames.compressed_images import bgr_from_jpeg_or_png
from darkseg_ros.frames.encodings import ENCODINGS, LABEL_ENCODINGS, bgr_from_pixels, pixels_of
from darkseg_ros.frames.message_fields import byte_field, check_size, integer_field, quoted, text_field
from darkseg_ros.frames.value_range import ValueRange

_Message = TypeVar("_Message")


_CHANNELS_WRITTEN = {"mono8": 1, "bgr8": 3, "rgb8": 3}

_JPEG_SIDE_MAX = 65_500
"""libjpeg's JPEG_MAX_DIMENSION."""


def bgr_from_image(message: Any, *, value_range: ValueRange | None = None, view: bool = False) -> np.ndarray:
    """Decode a sensor_msgs/Image, into an array of its own unless a view will do.

    16-bit values become 8-bit ones as `ValueRange` says. 8UC3 means BGR and 8UC1 grey, as everywhere in
    OpenCV. YUV is BT.601 with limited range. Row padding is dropped.

    Args:
        message: has height, width, encoding, is_bigendian, step and data, the last as bytes,
            ``array.array('B')``, a uint8 array or a memoryview. Not changed.
        value_range: of the stream that the image belongs to; its own if not given.
        view: whether the result may share the message's memory, as it then does where the data are BGR already.

    Returns:
        (H, W, 3) uint8 BGR, C-contiguous and writable; a view has the rows of the message and is not to be written.

    Raises:
        ImageMessageError: if a field is missing or of a wrong type, the encoding is not known here, the
            image is empty or larger than MAX_IMAGE_BYTES, the step is shorter than a row, or the data are
            shorter than ``height * step``: the last row needs its padding too, as sensor_msgs/Image defines.

    Source: sensor_msgs/msg/Image.msg and sensor_msgs/image_encodings.hpp of ROS 2 Jazzy.
    """
    name, pixels = _pixels(message)
    return bgr_from_pixels((value_range or ValueRange()).to_8_bits(pixels), name, view=view)


def bgr_from_message(message: Any, *, value_range: ValueRange | None = None, view: bool = False) -> np.ndarray:
    """Decode a sensor_msgs/Image or CompressedImage, whichever it is.

    Args:
        message: as for `bgr_from_image` or `bgr_from_compressed_image`.
        value_range: of the stream that the image belongs to; its own if not given.
        view: as for `bgr_from_image`.

    Returns:
        (H, W, 3) uint8 BGR; as `bgr_from_image`.

    Raises:
        ImageMessageError: as these two.
    """
    if hasattr(message, "encoding"):
        return bgr_from_image(message, value_range=value_range, view=view)
    return bgr_from_compressed_image(message, value_range=value_range)


def label_map_from_image(message: Any) -> np.ndarray:
    """Decode a sensor_msgs/Image whose pixels are train ids.

    Args:
        message: as for `bgr_from_image`, of encoding mono8 or 8UC1.

    Returns:
        (H, W) uint8, C-contiguous and writable.

    Raises:
        ImageMessageError: as `bgr_from_image`, and for every other encoding: a colour is not a class.
    """
    name, pixels = _pixels(message)
    if name not in LABEL_ENCODINGS:
        raise ImageMessageError(
            f"a label map has encoding mono8 or 8UC1, this image has {name}; "
            "take the topic of the class map, not that of its picture"
        )
    return pixels.copy(order="C")


def bgr_from_compressed_image(message: Any, *, value_range: ValueRange | None = None) -> np.ndarray:
    """Decode a sensor_msgs/CompressedImage holding a JPEG or a PNG.

    The content says which it is; `format` can only forbid. EXIF orientation is ignored: the pixels keep the
    camera's geometry.

    Args:
        message: has format and data, the last as for `bgr_from_image`.
        value_range: of the stream that a 16-bit PNG belongs to; its own if not given.

    Returns:
        (H, W, 3) uint8 BGR, C-contiguous and writable.

    Raises:
        ImageMessageError: if a field is missing or of a wrong type, or the content is depth, a colour mosaic, or
            nothing that `bgr_from_jpeg_or_png` decodes.

    Source: the format strings of compressed_image_transport (ROS 2 Jazzy).
    """
    format_name = text_field(message, "format")
    source_encoding, _, compression = format_name.partition(";")
    if "compressedDepth" in format_name:
        raise ImageMessageError(
            f"format {quoted(format_name)} is a depth image; take the compressed topic of a colour camera"
        )
    if source_encoding.startswith("bayer_") and "compressed bgr" not in compression:
        raise ImageMessageError(
            f"format {quoted(format_name)} is a colour mosaic stored as grey; "
            "take a colour topic, from the camera or from image_proc"
        )
    bgr = bgr_from_jpeg_or_png(byte_field(message, "data"), value_range=value_range)
    if "compressed rgb" in compression:
        # the publisher handed RGB to an encoder that expects BGR: the picture has red and blue swapped
        return cv2.cvtColor(bgr, cv2.COLOR_RGB2BGR)
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
        ValueError: if `bgr` is not (H, W, 3) uint8, or larger than libjpeg writes (65500 pixels a side).
    """
    check_bgr(bgr)
    if max(bgr.shape[:2]) > _JPEG_SIDE_MAX:
        raise ValueError(
            f"a JPEG has at most {_JPEG_SIDE_MAX} pixels a side, got {bgr.shape[1]}×{bgr.shape[0]}; send it raw"
        )
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


def _pixels(message: Any) -> tuple[str, np.ndarray]:
    """Encoding and values of an image, as they lie in its data."""
    name = text_field(message, "encoding")
    if name not in ENCODINGS:
        raise ImageMessageError(f"encoding {quoted(name)} is not supported; known are {', '.join(ENCODINGS)}")
    height, width, step = (integer_field(message, each) for each in ("height", "width", "step"))
    check_size(height, width)
    pixels = pixels_of(
        byte_field(message, "data"),
        name,
        height=height,
        width=width,
        step=step,
        big_endian=bool(integer_field(message, "is_bigendian")) if ENCODINGS[name].itemsize > 1 else False,
    )
    return name, pixels
