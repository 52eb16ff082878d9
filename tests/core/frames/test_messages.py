from __future__ import annotations

import array
import copy
import struct
import zlib
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darkseg_ros.errors import ImageMessageError
from darkseg_ros.frames.compressed_images import bgr_from_jpeg_or_png
from darkseg_ros.frames.encodings import ENCODINGS
from darkseg_ros.frames.messages import (
    bgr_from_compressed_image,
    bgr_from_image,
    bgr_from_message,
    fill_compressed_image,
    fill_image,
    label_map_from_image,
)


def image(height: Any, width: Any, encoding: Any, data: Any, *, step: Any, is_bigendian: Any = 0) -> Any:
    return SimpleNamespace(
        header=SimpleNamespace(frame_id="camera"),
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=is_bigendian,
        step=step,
        data=data,
    )


def compressed(data: Any, *, format_name: Any = "bgr8; jpeg compressed bgr8") -> Any:
    return SimpleNamespace(header=SimpleNamespace(frame_id="camera"), format=format_name, data=data)


# A picture of two pixels: pure-ish blue then pure-ish red, with three different values each.
TWO_PIXELS_BGR = [[[10, 20, 30], [40, 50, 60]]]


@pytest.mark.parametrize(
    ("encoding", "data", "expected_bgr"),
    [
        ("bgr8", [10, 20, 30, 40, 50, 60], TWO_PIXELS_BGR),
        ("8UC3", [10, 20, 30, 40, 50, 60], TWO_PIXELS_BGR),
        ("rgb8", [30, 20, 10, 60, 50, 40], TWO_PIXELS_BGR),
        ("bgra8", [10, 20, 30, 7, 40, 50, 60, 8], TWO_PIXELS_BGR),
        ("8UC4", [10, 20, 30, 7, 40, 50, 60, 8], TWO_PIXELS_BGR),
        ("rgba8", [30, 20, 10, 7, 60, 50, 40, 8], TWO_PIXELS_BGR),
        ("mono8", [10, 250], [[[10, 10, 10], [250, 250, 250]]]),
        ("8UC1", [10, 250], [[[10, 10, 10], [250, 250, 250]]]),
        # U Y V Y: neutral chroma, Y 16 is black and 235 is white in limited range
        ("yuv422", [128, 16, 128, 235], [[[0, 0, 0], [255, 255, 255]]]),
        ("uyvy", [128, 16, 128, 235], [[[0, 0, 0], [255, 255, 255]]]),
        # Y U Y V
        ("yuv422_yuy2", [16, 128, 235, 128], [[[0, 0, 0], [255, 255, 255]]]),
        ("yuyv", [16, 128, 235, 128], [[[0, 0, 0], [255, 255, 255]]]),
        # BT.601 red is Y 81, U 90, V 240: R = 1.164·65 + 1.596·112 = 254, G and B below 0
        ("yuv422", [90, 81, 240, 81], [[[0, 0, 254], [0, 0, 254]]]),
        ("yuyv", [81, 90, 81, 240], [[[0, 0, 254], [0, 0, 254]]]),
        ("bgra16", [9, 10, 9, 20, 9, 30, 0, 7, 9, 40, 9, 50, 9, 60, 0, 8], TWO_PIXELS_BGR),
        ("rgba16", [9, 30, 9, 20, 9, 10, 0, 7, 9, 60, 9, 50, 9, 40, 0, 8], TWO_PIXELS_BGR),
        # little endian: 0x0A01 is [0x01, 0x0A], its upper byte 10
        ("mono16", [1, 10, 255, 250], [[[10, 10, 10], [250, 250, 250]]]),
        ("bgr16", [9, 10, 9, 20, 9, 30, 9, 40, 9, 50, 9, 60], TWO_PIXELS_BGR),
        ("rgb16", [9, 30, 9, 20, 9, 10, 9, 60, 9, 50, 9, 40], TWO_PIXELS_BGR),
    ],
)
def test_each_encoding_decodes_to_the_values_worked_by_hand(
    encoding: str, data: list[int], expected_bgr: list[list[list[int]]]
) -> None:
    bgr = bgr_from_image(image(1, 2, encoding, bytes(data), step=len(data)))
    assert bgr.tolist() == expected_bgr
    assert bgr.dtype == np.uint8


@pytest.mark.parametrize(
    ("encoding", "data", "expected_bgr"),
    [
        ("mono16", [10, 1, 250, 255], [[[10, 10, 10], [250, 250, 250]]]),
        ("bgr16", [10, 9, 20, 9, 30, 9, 40, 9, 50, 9, 60, 9], TWO_PIXELS_BGR),
        ("rgb16", [30, 9, 20, 9, 10, 9, 60, 9, 50, 9, 40, 9], TWO_PIXELS_BGR),
    ],
)
def test_big_endian_16_bit_puts_the_upper_byte_first(
    encoding: str, data: list[int], expected_bgr: list[list[list[int]]]
) -> None:
    message = image(1, 2, encoding, bytes(data), step=len(data), is_bigendian=1)
    assert bgr_from_image(message).tolist() == expected_bgr


def test_byte_order_does_not_touch_8_bit_images() -> None:
    message = image(1, 2, "bgr8", bytes([10, 20, 30, 40, 50, 60]), step=6, is_bigendian=1)
    assert bgr_from_image(message).tolist() == TWO_PIXELS_BGR


# One period of each mosaic, as ROS names it: first row, then second row, from the upper left corner.
MOSAICS = {"rggb": "rg gb", "bggr": "bg gr", "gbrg": "gb rg", "grbg": "gr bg"}


@pytest.mark.parametrize("itemsize", [1, 2])
@pytest.mark.parametrize("pattern", MOSAICS)
@pytest.mark.parametrize("bgr", [(0, 0, 255), (255, 0, 0), (10, 20, 200)])
@pytest.mark.parametrize("shape_hw", [(4, 6), (5, 7), (3, 3)])
def test_the_mosaic_of_a_scene_of_one_colour_decodes_to_that_colour(
    itemsize: int, pattern: str, bgr: tuple[int, int, int], shape_hw: tuple[int, int]
) -> None:
    value = dict(zip("bgr", bgr, strict=True))
    rows = MOSAICS[pattern].split()
    height, width = shape_hw
    values = [value[rows[y % 2][x % 2]] for y in range(height) for x in range(width)]
    # in 16 bits, little endian, the lower byte is noise
    data = bytes(values) if itemsize == 1 else bytes(byte for v in values for byte in (7, v))
    message = image(height, width, f"bayer_{pattern}{8 * itemsize}", data, step=width * itemsize)
    assert (bgr_from_image(message) == np.array(bgr)).all()


@pytest.mark.parametrize("shape_hw", [(1, 1), (2, 2), (2, 9), (9, 2)])
def test_a_mosaic_too_small_to_interpolate_is_an_error_not_a_black_image(shape_hw: tuple[int, int]) -> None:
    height, width = shape_hw
    with pytest.raises(ImageMessageError, match="at least 3×3"):
        bgr_from_image(image(height, width, "bayer_rggb8", bytes(height * width), step=width))


@pytest.mark.parametrize("padding", [1, 3, 10])
def test_row_padding_is_dropped(padding: int) -> None:
    fill = bytes([99] * padding)
    data = bytes([1, 2, 3, 4, 5, 6]) + fill + bytes([7, 8, 9, 10, 11, 12]) + fill
    bgr = bgr_from_image(image(2, 2, "bgr8", data, step=6 + padding))
    assert bgr.tolist() == [[[1, 2, 3], [4, 5, 6]], [[7, 8, 9], [10, 11, 12]]]
    assert bgr.flags.c_contiguous
    rgb = bgr_from_image(image(2, 2, "rgb8", data, step=6 + padding))
    assert rgb.tolist() == [[[3, 2, 1], [6, 5, 4]], [[9, 8, 7], [12, 11, 10]]]


def test_row_padding_of_grey_yuv_and_16_bit_images_is_dropped() -> None:
    grey = bgr_from_image(image(2, 1, "mono8", bytes([5, 99, 6, 99]), step=2))
    assert grey.tolist() == [[[5, 5, 5]], [[6, 6, 6]]]
    yuv = bgr_from_image(image(2, 2, "yuyv", bytes([16, 128, 235, 128, 99, 235, 128, 16, 128, 99]), step=5))
    assert yuv[:, :, 0].tolist() == [[0, 255], [255, 0]]
    odd_step = bgr_from_image(image(2, 1, "mono16", bytes([0, 105, 99, 0, 106, 99]), step=3))
    assert odd_step[:, 0, 0].tolist() == [105, 106]


def test_bytes_after_the_last_row_are_ignored() -> None:
    assert bgr_from_image(image(1, 1, "bgr8", bytes([1, 2, 3, 4, 5]), step=3)).tolist() == [[[1, 2, 3]]]


@pytest.mark.parametrize(
    "data",
    [
        bytes([1, 2, 3]),
        bytearray([1, 2, 3]),
        memoryview(bytes([1, 2, 3])),
        array.array("B", [1, 2, 3]),
        np.array([1, 2, 3], np.uint8),
        np.array([[[1, 2, 3]]], np.uint8),
    ],
)
def test_data_may_be_any_contiguous_bytes(data: Any) -> None:
    assert bgr_from_image(image(1, 1, "bgr8", data, step=3)).tolist() == [[[1, 2, 3]]]


@pytest.mark.parametrize(
    "data",
    [
        [1, 2, 3],
        (1, 2, 3),
        "abc",
        None,
        3,
        array.array("H", [1, 2, 3]),
        np.array([1, 2, 3], np.int8),
        np.array([1.0, 2.0, 3.0]),
        np.array([1, 2, 3, 4, 5, 6], np.uint8)[::2],
        np.array(["2026-01-01"], "datetime64[s]"),
    ],
)
def test_data_of_another_kind_are_refused(data: Any) -> None:
    with pytest.raises(ImageMessageError, match="contiguous bytes"):
        bgr_from_image(image(1, 1, "bgr8", data, step=3))


@pytest.mark.parametrize("encoding", ["bgr8", "rgb8", "mono8"])
def test_the_message_is_neither_changed_nor_shared(encoding: str) -> None:
    message = image(1, 2, encoding, array.array("B", [1, 2, 3, 4, 5, 6]), step=6)
    before = copy.deepcopy(message)
    bgr = bgr_from_image(message)
    bgr[:] = 77
    assert message == before
    message.data[0] = 200
    assert (bgr == 77).all()


@pytest.mark.parametrize(
    ("message", "part_of_error"),
    [
        (image(1, 2, "bgr8", bytes(6), step=5), "step must be at least 6"),
        (image(1, 2, "bgr8", bytes(6), step=0), "step must be at least 6"),
        (image(1, 2, "bgr8", bytes(6), step=-6), "step must be at least 6"),
        (image(1, 2, "mono16", bytes(4), step=2), "step must be at least 4"),
        (image(2, 2, "bgr8", bytes(11), step=6), "12 bytes, got 11"),
        (image(2, 1, "bgr8", bytes(7), step=4), "8 bytes, got 7"),  # the last row needs its padding
        (image(1, 1, "bgr8", b"", step=3), "3 bytes, got 0"),
        (image(1, 1, "bgr8", np.zeros((0, 3), np.uint8), step=3), "3 bytes, got 0"),
        (image(0, 0, "bgr8", b"", step=0), "empty: 0×0"),
        (image(0, 5, "mono8", b"", step=5), "empty: 5×0"),
        (image(5, 0, "mono8", b"", step=0), "empty: 0×5"),
        (image(-1, 1, "mono8", bytes(3), step=1), "empty: 1×-1"),
        (image(2**32 - 1, 1, "mono8", bytes(3), step=1), "expected at most"),
        (image(2**32 - 1, 2**32 - 1, "bgr8", bytes(3), step=2**32 - 1), "expected at most"),
        (image(1, 3, "yuv422", bytes(6), step=6), "must be even, got 3"),
        (image(1, 1, "yuyv", bytes(2), step=2), "must be even, got 1"),
        (image(1, 1, "", bytes(3), step=3), "encoding '' is not supported; known are bgr8"),
        (image(1, 1, "BGR8", bytes(3), step=3), "encoding 'BGR8' is not supported"),
        (image(1, 1, "16UC1", bytes(3), step=3), "encoding '16UC1' is not supported"),
        (image(1, 1, "32FC1", bytes(4), step=4), "encoding '32FC1' is not supported"),
        (image(1, 1, None, bytes(3), step=3), "encoding must be a string"),
        (image(1, 1, ["bgr8"], bytes(3), step=3), "encoding must be a string"),
        (image(1.0, 1, "bgr8", bytes(3), step=3), "height must be an integer, got float"),
        (image(1, "1", "bgr8", bytes(3), step=3), "width must be an integer, got str"),
        (image(1, 1, "bgr8", bytes(3), step=None), "step must be an integer, got NoneType"),
        (image(1, 1, "mono16", bytes(2), step=2, is_bigendian="no"), "is_bigendian must be an integer"),
        (SimpleNamespace(height=1, width=1, encoding="bgr8", step=3), "field data"),
        (SimpleNamespace(), "field encoding"),
        (None, "field encoding, got NoneType"),
    ],
)
def test_a_wrong_message_is_an_error_that_says_what_is_wrong(message: Any, part_of_error: str) -> None:
    with pytest.raises(ImageMessageError, match=part_of_error):
        bgr_from_image(message)


def test_a_long_encoding_is_cut_short_in_the_error() -> None:
    with pytest.raises(ImageMessageError) as caught:
        bgr_from_image(image(1, 1, "x" * 100_000, bytes(3), step=3))
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("encoding", ["bgr8", "rgba8", "mono8", "mono16"])
def test_one_pixel_is_an_image(encoding: str) -> None:
    bgr = bgr_from_image(image(1, 1, encoding, bytes([150] * 4), step=4))
    assert bgr.tolist() == [[[150, 150, 150]]]


def test_numpy_integers_are_taken_as_sizes() -> None:
    message = image(np.uint32(1), np.uint32(2), "mono8", bytes([1, 2]), step=np.uint32(2))
    assert bgr_from_image(message)[0, :, 0].tolist() == [1, 2]


@pytest.mark.parametrize("encoding", ["mono8", "8UC1"])
def test_a_label_map_keeps_its_values(encoding: str) -> None:
    label_map = label_map_from_image(image(2, 2, encoding, bytes([0, 18, 99, 255, 7, 99]), step=3))
    assert label_map.tolist() == [[0, 18], [255, 7]]
    assert label_map.flags.writeable
    assert label_map.flags.c_contiguous


@pytest.mark.parametrize("encoding", ["bgr8", "rgb8", "mono16", "yuyv", "bayer_rggb8"])
def test_a_label_map_is_never_made_from_colours(encoding: str) -> None:
    with pytest.raises(ImageMessageError, match="mono8 or 8UC1"):
        label_map_from_image(image(4, 4, encoding, bytes(96), step=24))


FIELD = st.one_of(
    st.integers(-3, 12),
    st.integers(-(2**70), 2**70),
    st.none(),
    st.floats(),
    st.text(max_size=3),
    st.booleans(),
)
ENCODING = st.one_of(st.sampled_from(sorted(ENCODINGS)), st.text(max_size=8), st.none(), st.binary())
DATA = st.one_of(
    st.binary(max_size=600),
    st.binary(max_size=600).map(lambda data: array.array("B", data)),
    st.binary(max_size=600).map(lambda data: np.frombuffer(data, np.uint8)),
    st.lists(st.integers(0, 255), max_size=5),
    st.none(),
    st.text(max_size=5),
)


@settings(max_examples=500, deadline=None)
@given(height=FIELD, width=FIELD, encoding=ENCODING, step=FIELD, is_bigendian=FIELD, data=DATA)
def test_any_message_decodes_or_raises_image_message_error(
    height: Any, width: Any, encoding: Any, step: Any, is_bigendian: Any, data: Any
) -> None:
    message = image(height, width, encoding, data, step=step, is_bigendian=is_bigendian)
    for decode, ndim in ((bgr_from_image, 3), (label_map_from_image, 2)):
        try:
            pixels = decode(message)
        except ImageMessageError:
            continue
        assert pixels.shape == (height, width, 3)[:ndim]
        assert pixels.dtype == np.uint8
        assert pixels.flags.c_contiguous


@settings(max_examples=300, deadline=None)
@given(
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    encoding=st.sampled_from(sorted(ENCODINGS)),
    padding=st.integers(0, 9),
    is_bigendian=st.booleans(),
    surplus=st.integers(-1, 2),
)
def test_a_message_whose_sizes_fit_decodes_at_its_size(
    height: int, width: int, encoding: str, padding: int, is_bigendian: bool, surplus: int
) -> None:
    bytes_per_pixel = ENCODINGS[encoding].channels * ENCODINGS[encoding].itemsize
    step = width * bytes_per_pixel + padding
    size = height * step * {"nv24": 6, "nv12": 3, "nv21": 3, "i420": 3}.get(encoding, 2) // 2
    message = image(height, width, encoding, bytes(size + surplus), step=step, is_bigendian=is_bigendian)
    too_small = encoding.startswith("bayer") and min(height, width) < 3
    odd = encoding in ("yuv422", "uyvy", "yuyv", "yuv422_yuy2") and width % 2 == 1
    odd |= encoding in ("nv12", "nv21", "i420") and (width % 2 == 1 or height % 2 == 1)
    if surplus < 0 or too_small or odd:
        with pytest.raises(ImageMessageError):
            bgr_from_image(message)
    else:
        assert bgr_from_image(message).shape == (height, width, 3)


def test_fill_image_writes_every_field_and_keeps_the_header_object() -> None:
    header = object()
    pixels = np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8)
    message = fill_image(SimpleNamespace(), pixels, encoding="rgb8", header=header)
    assert message.header is header
    assert (message.height, message.width, message.step) == (1, 2, 6)
    assert type(message.height) is int
    assert type(message.width) is int
    assert type(message.step) is int
    assert (message.encoding, message.is_bigendian) == ("rgb8", 0)
    assert message.data == array.array("B", [1, 2, 3, 4, 5, 6])


@settings(max_examples=100, deadline=None)
@given(
    height=st.integers(1, 7),
    width=st.integers(1, 7),
    encoding=st.sampled_from(["mono8", "bgr8", "rgb8"]),
    seed=st.integers(0, 2**32 - 1),
    transpose=st.booleans(),
)
def test_what_is_filled_in_decodes_to_itself(
    height: int, width: int, encoding: str, seed: int, transpose: bool
) -> None:
    shape = (height, width) if encoding == "mono8" else (height, width, 3)
    pixels = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    if transpose:  # a view that is not contiguous
        pixels = pixels.swapaxes(0, 1)
    message = fill_image(SimpleNamespace(), pixels, encoding=encoding, header=None)
    if encoding == "mono8":
        np.testing.assert_array_equal(label_map_from_image(message), pixels)
    else:
        expected = pixels if encoding == "bgr8" else pixels[:, :, ::-1]
        np.testing.assert_array_equal(bgr_from_image(message), expected)


@pytest.mark.parametrize(
    ("shape", "dtype", "encoding"),
    [
        ((2, 2, 3), np.uint8, "mono8"),
        ((2, 2, 3, 1), np.uint8, "bgr8"),
        ((2,), np.uint8, "mono8"),
        ((2, 2), np.uint8, "bgr8"),
        ((2, 2, 4), np.uint8, "bgr8"),
        ((2, 2), np.int64, "mono8"),
        ((0, 2), np.uint8, "mono8"),
        ((2, 2), np.uint8, "mono16"),
    ],
)
def test_pixels_that_do_not_fit_the_encoding_are_not_filled_in(
    shape: tuple[int, ...], dtype: type, encoding: str
) -> None:
    with pytest.raises(ValueError, match=r"mono8|bgr8"):
        fill_image(SimpleNamespace(), np.zeros(shape, dtype), encoding=encoding, header=None)


def gradient_bgr(height: int, width: int) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return np.stack([columns * 255 // width, rows * 255 // height, np.full_like(rows, 90)], axis=2).astype(np.uint8)


def jpeg_of(bgr: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", bgr)[1].tobytes()


def png_of(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".png", pixels)[1].tobytes()


@pytest.mark.parametrize("format_name", ["jpeg", "bgr8; jpeg compressed bgr8", "rgb8; jpeg compressed bgr8", "png", ""])
def test_a_jpeg_decodes_whatever_the_format_calls_it(format_name: str) -> None:
    red = np.full((16, 24, 3), (0, 0, 250), np.uint8)
    bgr = bgr_from_compressed_image(compressed(jpeg_of(red), format_name=format_name))
    assert bgr.shape == (16, 24, 3)
    assert np.abs(bgr.astype(int) - red).max() <= 3


def test_a_png_decodes_exactly() -> None:
    picture = gradient_bgr(13, 7)
    assert (bgr_from_compressed_image(compressed(array.array("B", png_of(picture)))) == picture).all()


def test_a_grey_jpeg_becomes_bgr() -> None:
    grey = np.full((8, 8), 128, np.uint8)
    bgr = bgr_from_compressed_image(compressed(jpeg_of(grey), format_name="mono8; jpeg compressed mono8"))
    assert bgr.tolist() == np.full((8, 8, 3), 128).tolist()


def test_a_16_bit_png_keeps_the_upper_byte() -> None:
    bgr = bgr_from_compressed_image(compressed(png_of(np.full((2, 3), 200 * 256 + 9, np.uint16))))
    assert (bgr == 200).all()


def test_a_png_with_alpha_drops_it() -> None:
    bgra = np.full((2, 3, 4), (1, 2, 3, 9), np.uint8)
    assert bgr_from_compressed_image(compressed(png_of(bgra))).tolist() == [[[1, 2, 3]] * 3] * 2


def test_swapped_colours_announced_by_the_format_are_swapped_back() -> None:
    picture = np.full((2, 2, 3), (250, 20, 10), np.uint8)
    message = compressed(png_of(picture), format_name="rgb8; png compressed rgb8")
    assert bgr_from_compressed_image(message)[0, 0].tolist() == [10, 20, 250]


def with_exif_quarter_turn(jpeg: bytes) -> bytes:
    tiff = b"II*\x00\x08\x00\x00\x00" + struct.pack("<HHHIHHI", 1, 0x0112, 3, 1, 6, 0, 0)
    exif = b"Exif\x00\x00" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]


def test_exif_orientation_never_turns_a_camera_frame() -> None:
    turned = with_exif_quarter_turn(jpeg_of(gradient_bgr(16, 32)))
    assert bgr_from_compressed_image(compressed(turned)).shape == (16, 32, 3)
    assert bgr_from_jpeg_or_png(turned, upright=True).shape == (32, 16, 3)


@pytest.mark.parametrize("kept", [0.02, 0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("encode", [jpeg_of, png_of])
def test_a_picture_cut_off_never_decodes(encode: Any, kept: float) -> None:
    content = encode(np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8))
    with pytest.raises(ImageMessageError):
        bgr_from_compressed_image(compressed(content[: int(len(content) * kept)]))


def test_a_jpeg_without_its_last_byte_is_cut_off() -> None:
    content = jpeg_of(gradient_bgr(32, 32))
    with pytest.raises(ImageMessageError, match="cut off"):
        bgr_from_compressed_image(compressed(content[:-1]))


def test_the_end_marker_of_a_thumbnail_does_not_hide_a_cut() -> None:
    whole = jpeg_of(np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8))
    thumbnail = jpeg_of(np.zeros((8, 8, 3), np.uint8))
    with_thumbnail = whole[:2] + b"\xff\xe2" + struct.pack(">H", len(thumbnail) + 2) + thumbnail + whole[2:]
    assert bgr_from_compressed_image(compressed(with_thumbnail)).shape == (64, 64, 3)
    with pytest.raises(ImageMessageError, match="cut off"):
        bgr_from_compressed_image(compressed(with_thumbnail[: len(with_thumbnail) // 2]))


def test_padding_after_the_end_marker_is_allowed() -> None:
    content = jpeg_of(gradient_bgr(16, 16)) + bytes(100)
    assert bgr_from_compressed_image(compressed(content)).shape == (16, 16, 3)


def test_a_png_with_a_changed_byte_is_corrupt() -> None:
    content = bytearray(png_of(np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)))
    content[len(content) // 2] ^= 0x55
    with pytest.raises(ImageMessageError):
        bgr_from_compressed_image(compressed(bytes(content)))


def png_declaring(width: int, height: int) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_a_decompression_bomb_is_refused_before_decoding() -> None:
    with pytest.raises(ImageMessageError, match="expected at most"):
        bgr_from_compressed_image(compressed(png_declaring(30_000, 30_000)))
    jpeg = bytearray(jpeg_of(gradient_bgr(16, 16)))
    start_of_frame = jpeg.index(b"\xff\xc0")
    jpeg[start_of_frame + 5 : start_of_frame + 9] = struct.pack(">HH", 65_000, 65_000)
    with pytest.raises(ImageMessageError, match="expected at most"):
        bgr_from_compressed_image(compressed(bytes(jpeg)))


def progressive_jpeg() -> bytes:
    bgr = np.random.default_rng(2).integers(0, 256, (32, 32, 3), np.uint8)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()


def test_a_progressive_jpeg_is_read_as_long_as_its_scans_are_few() -> None:
    content = progressive_jpeg()
    scans = content.count(b"\xff\xda")
    assert 1 < scans < 20
    assert bgr_from_compressed_image(compressed(content)).shape == (32, 32, 3)
    last_scan = content[content.rindex(b"\xff\xda") : -2]
    bomb = content[:-2] + last_scan * (65 - scans) + content[-2:]
    with pytest.raises(ImageMessageError, match="the JPEG has 65 scans, expected at most 64"):
        bgr_from_compressed_image(compressed(bomb))


def test_a_jpeg_of_two_sizes_is_refused() -> None:
    content = jpeg_of(gradient_bgr(16, 16))
    start = content.index(b"\xff\xc0")
    length = 2 + int.from_bytes(content[start + 2 : start + 4], "big")
    huge = content[start : start + 5] + struct.pack(">HH", 65_000, 65_000) + content[start + 9 : start + length]
    with pytest.raises(ImageMessageError, match="cut off or corrupt"):
        bgr_from_compressed_image(compressed(content[:start] + huge + content[start:]))


@pytest.mark.parametrize(
    ("message", "part_of_error"),
    [
        (compressed(b""), r"got 0 bytes starting \(empty\)"),
        (compressed(b"not a picture"), "expected the content of a JPEG or PNG"),
        (compressed(b"\xff\xd8\xff"), "cut off or corrupt"),
        (compressed(b"\xff\xd8\xff\xd9"), "cut off or corrupt"),
        (compressed(b"\xff\xd8\xff\xda\x00\x02\xff\xd9"), "cut off or corrupt"),
        (compressed(png_declaring(0, 4)), "empty: 0×4"),
        (compressed([1, 2, 3]), "contiguous bytes"),
        (compressed(b"", format_name=None), "format must be a string"),
        (compressed(b"", format_name="16UC1; compressedDepth png"), "depth image"),
        (compressed(b"", format_name="bayer_rggb8; jpeg compressed "), "mosaic"),
        (SimpleNamespace(data=b""), "field format"),
        (SimpleNamespace(format="jpeg"), "field data"),
    ],
)
def test_a_wrong_compressed_message_is_an_error_that_says_what_is_wrong(message: Any, part_of_error: str) -> None:
    with pytest.raises(ImageMessageError, match=part_of_error):
        bgr_from_compressed_image(message)


SMALL_PICTURES = [encode(gradient_bgr(9, 11)) for encode in (jpeg_of, png_of)]


@settings(max_examples=300, deadline=None)
@given(
    content=st.one_of(
        st.binary(max_size=80),
        st.binary(max_size=80).map(lambda tail: b"\xff\xd8\xff" + tail),
        st.binary(max_size=80).map(lambda tail: b"\x89PNG\r\n\x1a\n" + tail),
        st.tuples(st.sampled_from(SMALL_PICTURES), st.integers(0, 10**6), st.integers(0, 255)).map(
            lambda change: bytes(
                change[2] if i == change[1] % len(change[0]) else byte for i, byte in enumerate(change[0])
            )
        ),
    ),
    format_name=st.one_of(st.sampled_from(["jpeg", "rgb8; jpeg compressed rgb8"]), st.text(max_size=20), st.none()),
)
def test_any_compressed_message_decodes_or_raises_image_message_error(content: bytes, format_name: Any) -> None:
    try:
        bgr = bgr_from_compressed_image(compressed(content, format_name=format_name))
    except ImageMessageError:
        return
    assert bgr.ndim == 3
    assert bgr.shape[2] == 3
    assert bgr.dtype == np.uint8


def test_fill_compressed_image_round_trips_within_jpeg_loss() -> None:
    header = object()
    picture = np.full((17, 31, 3), (30, 80, 160), np.uint8)
    message = fill_compressed_image(SimpleNamespace(), picture, header=header)
    assert message.header is header
    assert message.format == "bgr8; jpeg compressed bgr8"
    assert isinstance(message.data, array.array)
    assert np.abs(bgr_from_compressed_image(message).astype(int) - picture).max() <= 3


@pytest.mark.parametrize("shape", [(4, 4), (0, 4, 3), (1, 65_501, 3), (65_501, 1, 3)])
def test_what_is_no_jpeg_picture_is_not_filled_in(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected|at most 65500"):
        fill_compressed_image(SimpleNamespace(), np.zeros(shape, np.uint8), header=None)


def test_real_ros_messages_round_trip() -> None:
    sensor_msgs = pytest.importorskip(
        "sensor_msgs.msg", reason="ROS 2 messages are not installed", exc_type=ImportError
    )
    std_msgs = pytest.importorskip("std_msgs.msg", reason="ROS 2 messages are not installed", exc_type=ImportError)
    header = std_msgs.Header(frame_id="camera")
    header.stamp.sec, header.stamp.nanosec = 12, 34
    picture = gradient_bgr(5, 7)
    message = fill_image(sensor_msgs.Image(), picture, encoding="bgr8", header=header)
    assert (message.header.stamp.sec, message.header.stamp.nanosec, message.header.frame_id) == (
        12,
        34,
        "camera",
    )
    np.testing.assert_array_equal(bgr_from_image(message), picture)
    class_map = np.array([[0, 18, 255]], np.uint8)
    message = fill_image(sensor_msgs.Image(), class_map, encoding="mono8", header=header)
    np.testing.assert_array_equal(label_map_from_image(message), class_map)
    jpeg = fill_compressed_image(sensor_msgs.CompressedImage(), picture, header=header)
    assert bgr_from_compressed_image(jpeg).shape == picture.shape
    with pytest.raises(ImageMessageError, match="encoding '' is not supported"):
        bgr_from_image(sensor_msgs.Image())


@pytest.mark.parametrize("shape", [(1, 65_500, 3), (65_500, 1, 3), (1, 1, 3)])
def test_the_longest_and_the_smallest_jpeg_are_filled_in(shape: tuple[int, int, int]) -> None:
    message = fill_compressed_image(SimpleNamespace(), np.full(shape, 90, np.uint8), header=None)
    assert bgr_from_compressed_image(message).shape == shape


def test_a_jpeg_of_more_quality_is_larger_and_nearer() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    sizes, errors = [], []
    for quality in (20, 90, 100):
        message = fill_compressed_image(SimpleNamespace(), picture, header=None, quality=quality)
        sizes.append(len(message.data))
        errors.append(np.abs(bgr_from_compressed_image(message).astype(int) - picture).mean())
    assert sizes == sorted(sizes)
    assert errors == sorted(errors, reverse=True)
    usual = fill_compressed_image(SimpleNamespace(), picture, header=None)
    assert len(usual.data) == sizes[1]


def test_a_mosaic_that_was_made_a_colour_picture_before_is_none_any_more() -> None:
    picture = np.full((4, 4, 3), (10, 20, 30), np.uint8)
    message = compressed(png_of(picture), format_name="bayer_rggb8; png compressed bgr8")
    assert (bgr_from_compressed_image(message) == picture).all()


def test_compressed_images_are_told_from_raw_ones_by_their_fields() -> None:
    picture = np.full((2, 3, 3), (10, 20, 30), np.uint8)
    raw = fill_image(SimpleNamespace(), picture, encoding="bgr8", header=None)
    for message in (raw, compressed(png_of(picture))):
        assert (bgr_from_message(message) == picture).all()
    assert np.shares_memory(bgr_from_message(raw, view=True), np.frombuffer(raw.data, np.uint8))


def test_a_label_map_is_a_copy_of_its_values_and_never_a_colour() -> None:
    values = np.array([[0, 18, 255]], np.uint8)
    message = fill_image(SimpleNamespace(), values, encoding="mono8", header=None)
    label_map = label_map_from_image(message)
    assert label_map.tolist() == values.tolist()
    assert label_map.flags.owndata
    assert label_map.flags.writeable
    message.encoding = "8UC1"
    assert label_map_from_image(message).tolist() == values.tolist()
    with pytest.raises(ImageMessageError, match="this image has bgr8; take the topic of the class map"):
        label_map_from_image(image(1, 1, "bgr8", b"abc", step=3))
