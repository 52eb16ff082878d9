"""Encodings of sensor_msgs/Image: how each lies in memory and becomes BGR. A new one is a row of `ENCODINGS`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from darkseg_ros.errors import ImageMessageError

Planes = Callable[[memoryview, int, int, int], np.ndarray]
"""(data, height, width, step of the first plane) → what the conversion takes."""


@dataclass(frozen=True)
class Encoding:
    """One value of the field `encoding`.

    Attributes:
        channels: values of a pixel in the rows that `step` counts.
        to_bgr: code for ``cv2.cvtColor``, a function of the pixels, or None where they are BGR already.
        itemsize: bytes of a value.
        least_px: least width and height.
        even_width: whether pairs of columns share their colour.
        even_height: whether pairs of rows do.
        planes: reads the planes of a planar encoding; None where each pixel's values lie together.
        planes_size: bytes of all planes, in pixels of the first one.
    """

    channels: int
    to_bgr: int | Callable[[np.ndarray], np.ndarray] | None
    itemsize: int = 1
    least_px: int = 1
    even_width: bool = False
    even_height: bool = False
    planes: Planes | None = None
    planes_size: float = 1.0


def _bayer(to_bgr: int, *, itemsize: int = 1) -> Encoding:
    # OpenCV interpolates from neighbours on both sides and answers black for anything smaller
    return Encoding(1, to_bgr, itemsize=itemsize, least_px=3)


def _half_size_chroma(to_bgr: int, planes: Planes) -> Encoding:
    return Encoding(1, to_bgr, even_width=True, even_height=True, planes=planes, planes_size=1.5)


def _interleaved_rows(data: memoryview, height: int, width: int, step: int) -> np.ndarray:
    """NV12, NV21: rows of brightness, then half as many rows of colour pairs, all with the same step."""
    return np.ndarray((height * 3 // 2, width), np.uint8, buffer=data, strides=(step, 1))


def _separate_planes(data: memoryview, height: int, width: int, step: int) -> np.ndarray:
    """I420: rows of brightness, then both colours with half the width and half the step."""
    if step == width:
        return np.ndarray((height * 3 // 2, width), np.uint8, buffer=data)
    luma = np.ndarray((height, width), np.uint8, buffer=data, strides=(step, 1))
    chroma = np.ndarray((height, width // 2), np.uint8, buffer=data, offset=height * step, strides=(step // 2, 1))
    return np.concatenate([luma, chroma.reshape(height // 2, width)])


def _full_size_chroma(data: memoryview, height: int, width: int, step: int) -> np.ndarray:
    """NV24: rows of brightness, then as many rows of colour pairs with twice the step; as (H, W, 3) Y, U, V."""
    luma = np.ndarray((height, width), np.uint8, buffer=data, strides=(step, 1))
    chroma = np.ndarray((height, width, 2), np.uint8, buffer=data, offset=height * step, strides=(2 * step, 2, 1))
    return np.dstack([luma, chroma])


# BT.601 of limited range, as OpenCV's other YUV conversions: rows B, G, R; columns Y, U, V, 1
_YUV_TO_BGR = np.array(
    [
        [1.164, 2.018, 0.0, -1.164 * 16 - 2.018 * 128],
        [1.164, -0.391, -0.813, -1.164 * 16 + (0.391 + 0.813) * 128],
        [1.164, 0.0, 1.596, -1.164 * 16 - 1.596 * 128],
    ]
)


def _bgr_from_yuv444(yuv: np.ndarray) -> np.ndarray:
    return cv2.transform(yuv, _YUV_TO_BGR)  # rounds, and keeps to 0…255


_UYVY = Encoding(2, cv2.COLOR_YUV2BGR_UYVY, even_width=True)
_YUYV = Encoding(2, cv2.COLOR_YUV2BGR_YUY2, even_width=True)
_MONO8 = Encoding(1, cv2.COLOR_GRAY2BGR)
_BGR8 = Encoding(3, None)
_BGRA8 = Encoding(4, cv2.COLOR_BGRA2BGR)

# ROS names a Bayer mosaic from its first row and column on, OpenCV from the second row and column on
ENCODINGS: dict[str, Encoding] = {
    "bgr8": _BGR8,
    "8UC3": _BGR8,
    "rgb8": Encoding(3, cv2.COLOR_RGB2BGR),
    "bgra8": _BGRA8,
    "8UC4": _BGRA8,
    "rgba8": Encoding(4, cv2.COLOR_RGBA2BGR),
    "mono8": _MONO8,
    "8UC1": _MONO8,
    "yuv422": _UYVY,
    "uyvy": _UYVY,
    "yuv422_yuy2": _YUYV,
    "yuyv": _YUYV,
    "nv12": _half_size_chroma(cv2.COLOR_YUV2BGR_NV12, _interleaved_rows),
    "nv21": _half_size_chroma(cv2.COLOR_YUV2BGR_NV21, _interleaved_rows),
    "i420": _half_size_chroma(cv2.COLOR_YUV2BGR_I420, _separate_planes),
    "nv24": Encoding(1, _bgr_from_yuv444, planes=_full_size_chroma, planes_size=3.0),
    "bayer_rggb8": _bayer(cv2.COLOR_BayerBG2BGR),
    "bayer_bggr8": _bayer(cv2.COLOR_BayerRG2BGR),
    "bayer_gbrg8": _bayer(cv2.COLOR_BayerGR2BGR),
    "bayer_grbg8": _bayer(cv2.COLOR_BayerGB2BGR),
    "bgr16": Encoding(3, None, itemsize=2),
    "rgb16": Encoding(3, cv2.COLOR_RGB2BGR, itemsize=2),
    "bgra16": Encoding(4, cv2.COLOR_BGRA2BGR, itemsize=2),
    "rgba16": Encoding(4, cv2.COLOR_RGBA2BGR, itemsize=2),
    "mono16": Encoding(1, cv2.COLOR_GRAY2BGR, itemsize=2),
    "bayer_rggb16": _bayer(cv2.COLOR_BayerBG2BGR, itemsize=2),
    "bayer_bggr16": _bayer(cv2.COLOR_BayerRG2BGR, itemsize=2),
    "bayer_gbrg16": _bayer(cv2.COLOR_BayerGR2BGR, itemsize=2),
    "bayer_grbg16": _bayer(cv2.COLOR_BayerGB2BGR, itemsize=2),
}

LABEL_ENCODINGS = ("mono8", "8UC1")
"""Of label maps: a train id a pixel."""


def pixels_of(data: memoryview, name: str, *, height: int, width: int, step: int, big_endian: bool) -> np.ndarray:
    """The values of an image as they lie in its data.

    The planes of nv12, nv21, nv24 and i420 follow one another; `step` is that of the brightness, and colours have the
    same padding. Publishers disagree on it (sensor_msgs/Image has one plane in mind), so data that are exactly as long
    as planes without padding are taken for such, whatever the step.

    Args:
        data: of the message.
        name: one of `ENCODINGS`.
        height: of the image, 1 or more.
        width: of the image, 1 or more.
        step: of the message.
        big_endian: byte order of values of two bytes.

    Returns:
        What `Encoding.to_bgr` takes, uint8 or uint16 of the message's byte order; a view of the data where possible.

    Raises:
        ImageMessageError: if size, step and data do not fit one another or the encoding.
    """
    encoding = ENCODINGS[name]
    if min(height, width) < encoding.least_px:
        raise ImageMessageError(
            f"{name} needs at least {encoding.least_px}×{encoding.least_px} pixels, got {width}×{height}"
        )
    for side, even, size in (("width", encoding.even_width, width), ("height", encoding.even_height, height)):
        if even and size % 2:
            raise ImageMessageError(
                f"{name} shares colour between pairs of pixels, so its {side} must be even, got {size}"
            )
    row_bytes = width * encoding.channels * encoding.itemsize
    if step < row_bytes:
        raise ImageMessageError(f"step must be at least {row_bytes} for {width} pixels of {name}, got {step}")
    if encoding.planes is not None and len(data) == int(height * width * encoding.planes_size):
        step = width
    data_bytes = int(height * step * encoding.planes_size)
    if len(data) < data_bytes:
        rows = "height × step" if encoding.planes is None else f"height × step × {encoding.planes_size:g}"
        raise ImageMessageError(f"data must hold {rows} = {data_bytes} bytes, got {len(data)}")
    if encoding.planes is not None:
        return encoding.planes(data, height, width, step)
    dtype = "u1" if encoding.itemsize == 1 else (">u2" if big_endian else "<u2")
    shape: tuple[int, ...] = (height, width)
    strides: tuple[int, ...] = (step, encoding.channels * encoding.itemsize)
    if encoding.channels > 1:
        shape, strides = (*shape, encoding.channels), (*strides, encoding.itemsize)
    return np.ndarray(shape, dtype, buffer=data, strides=strides)


def bgr_from_pixels(pixels: np.ndarray, name: str, *, view: bool = False) -> np.ndarray:
    """Convert the pixels of an encoding.

    Args:
        pixels: as `pixels_of` gives them, made uint8 where they were wider.
        name: one of `ENCODINGS`.
        view: whether pixels that are BGR already are given back as they are.

    Returns:
        (H, W, 3) uint8 BGR; else C-contiguous, writable and not shared with `pixels`.
    """
    to_bgr = ENCODINGS[name].to_bgr
    if to_bgr is None:
        return pixels if view else pixels.copy(order="C")
    return cv2.cvtColor(pixels, to_bgr) if isinstance(to_bgr, int) else to_bgr(pixels)
