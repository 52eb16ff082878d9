from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from darkseg_ros.errors import ImageMessageError
from darkseg_ros.frames.encodings import pixels_of
from darkseg_ros.frames.messages import bgr_from_image

# BT.601 of limited range, by hand: red is Y 81, U 90, V 240 → R 254; blue is Y 41, U 240, V 110 → B 255;
# Y 16 with U = V = 128 is black, Y 235 white.
RED, BLUE, BLACK, WHITE = [0, 0, 254], [255, 0, 0], [0, 0, 0], [255, 255, 255]
RED_YUV, BLUE_YUV, BLACK_YUV, WHITE_YUV = (81, 90, 240), (41, 240, 110), (16, 128, 128), (235, 128, 128)

# four by two pixels: the left square red, the right one blue
LUMA = [[81, 81, 41, 41], [81, 81, 41, 41]]
SQUARES = [[RED, RED, BLUE, BLUE]] * 2


def image(encoding: str, data: list[int], *, height: int = 2, width: int = 4, step: int = 4) -> Any:
    return SimpleNamespace(height=height, width=width, encoding=encoding, is_bigendian=0, step=step, data=bytes(data))


def luma_with(padding: list[int]) -> list[int]:
    return [value for row in LUMA for value in row + padding]


@pytest.mark.parametrize(
    ("encoding", "chroma"),
    [
        ("nv12", [90, 240, 240, 110]),  # U V of the red square, then of the blue one
        ("nv21", [240, 90, 110, 240]),  # V U
        ("i420", [90, 240, 240, 110]),  # U U, then V V
    ],
)
def test_each_square_of_four_pixels_shares_a_colour(encoding: str, chroma: list[int]) -> None:
    assert bgr_from_image(image(encoding, luma_with([]) + chroma)).tolist() == SQUARES


@pytest.mark.parametrize(
    ("encoding", "chroma"),
    [
        ("nv12", [90, 240, 240, 110, 99, 99]),
        ("nv21", [240, 90, 110, 240, 99, 99]),
        ("i420", [90, 240, 99, 240, 110, 99]),
    ],
)
def test_row_padding_of_planes_is_dropped(encoding: str, chroma: list[int]) -> None:
    padded = image(encoding, luma_with([99, 99]) + chroma, step=6)
    assert bgr_from_image(padded).tolist() == SQUARES


@pytest.mark.parametrize(
    "step", [4, 6, 8]
)  # of the brightness, of all planes, of the two values a pixel that ROS counts
def test_planes_without_padding_are_read_whatever_the_step(step: int) -> None:
    message = image("nv12", [*luma_with([]), 90, 240, 240, 110], step=step)
    assert bgr_from_image(message).tolist() == SQUARES


@pytest.mark.parametrize("padding", [0, 3])
def test_nv24_has_a_colour_for_each_pixel(padding: int) -> None:
    pixels = [RED_YUV, BLUE_YUV, BLACK_YUV, WHITE_YUV, RED_YUV]
    luma = [y for y, _, _ in pixels] + [99] * padding
    chroma = [value for _, u, v in pixels for value in (u, v)] + [99] * 2 * padding
    message = image("nv24", luma + chroma, height=1, width=5, step=5 + padding)
    assert bgr_from_image(message).tolist() == [[RED, BLUE, BLACK, WHITE, RED]]


def test_nv24_and_uyvy_agree_on_every_grey() -> None:
    greys = list(range(256))
    nv24 = bgr_from_image(image("nv24", greys + [128] * 512, height=1, width=256, step=256))
    uyvy = bgr_from_image(image("uyvy", [v for y in greys for v in (128, y)], height=1, width=256, step=512))
    np.testing.assert_allclose(nv24.astype(int), uyvy, atol=1)


@pytest.mark.parametrize(
    ("message", "part_of_error"),
    [
        (image("nv12", [0] * 9, height=2, width=3, step=3), "its width must be even, got 3"),
        (image("i420", [0] * 18, height=3, width=4), "its height must be even, got 3"),
        (image("nv12", [0] * 11), "height × step × 1.5 = 12 bytes, got 11"),
        (image("nv24", [0] * 23), "height × step × 3 = 24 bytes, got 23"),
        (image("nv21", [0] * 12, step=3), "step must be at least 4"),
    ],
)
def test_planes_that_do_not_fit_are_an_error_that_says_what_is_wrong(message: Any, part_of_error: str) -> None:
    with pytest.raises(ImageMessageError, match=part_of_error):
        bgr_from_image(message)


@pytest.mark.parametrize(("big_endian", "value"), [(True, 0x0A01), (False, 0x010A)])
def test_values_of_16_bits_are_read_in_their_byte_order(big_endian: bool, value: int) -> None:
    pixels = pixels_of(memoryview(b"\x0a\x01"), "mono16", height=1, width=1, step=2, big_endian=big_endian)
    assert pixels[0, 0] == value


BGR = [10, 20, 30]
ONE_PIXEL = {
    "bgr8": [10, 20, 30],
    "8UC3": [10, 20, 30],
    "rgb8": [30, 20, 10],
    "bgra8": [10, 20, 30, 99],
    "rgba8": [30, 20, 10, 99],
    "bgr16": [0, 10, 0, 20, 0, 30],
    "rgb16": [0, 30, 0, 20, 0, 10],
    "bgra16": [0, 10, 0, 20, 0, 30, 0, 99],
    "rgba16": [0, 30, 0, 20, 0, 10, 0, 99],
}
"""Little-endian, so that the upper byte of 16 bits comes second."""


@pytest.mark.parametrize("encoding", ONE_PIXEL)
def test_a_colour_is_found_whatever_the_order_of_its_values(encoding: str) -> None:
    data = ONE_PIXEL[encoding]
    row = [*data, *data, 7, 7, 7]  # two pixels and padding
    message = image(encoding, row * 2, height=2, width=2, step=len(row))
    assert bgr_from_image(message).tolist() == [[BGR, BGR]] * 2


@pytest.mark.parametrize("encoding", ["bgr8", "bgra8"])
def test_the_messages_own_bytes_are_given_only_where_a_view_was_asked_for_and_they_are_bgr(encoding: str) -> None:
    data = ONE_PIXEL[encoding] * 8
    message = image(encoding, data, step=len(data) // 2)
    assert np.shares_memory(bgr_from_image(message, view=True), np.frombuffer(message.data, np.uint8)) == (
        encoding == "bgr8"
    )
    own = bgr_from_image(message)
    assert own.flags.writeable
    assert own.flags.owndata
    np.testing.assert_array_equal(own, bgr_from_image(message, view=True))


@pytest.mark.parametrize(("encoding", "data"), [("mono8", [50]), ("8UC1", [50]), ("mono16", [200, 0])])
def test_grey_has_three_equal_values(encoding: str, data: list[int]) -> None:
    # of 16 bits the smallest range is 10 bits: 200 of 1023 are 50 of 255
    assert bgr_from_image(image(encoding, data, height=1, width=1, step=len(data))).tolist() == [[[50] * 3]]


@pytest.mark.parametrize(
    ("encoding", "order"),
    [("uyvy", "uyvy"), ("yuv422", "uyvy"), ("yuyv", "yuyv"), ("yuv422_yuy2", "yuyv")],
)
def test_pairs_of_pixels_share_a_colour(encoding: str, order: str) -> None:
    (y, u, v), (blue_y, blue_u, blue_v) = RED_YUV, BLUE_YUV
    data = {
        "uyvy": [u, y, v, y, blue_u, blue_y, blue_v, blue_y],
        "yuyv": [y, u, y, v, blue_y, blue_u, blue_y, blue_v],
    }[order]
    assert bgr_from_image(image(encoding, data, height=1, width=4, step=8)).tolist() == [[RED, RED, BLUE, BLUE]]


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_a_mosaic_is_named_from_its_first_row_on(pattern: str, bits: int) -> None:
    level = {"r": 200, "g": 100, "b": 50}
    values = [level[pattern[2 * (row % 2) + column % 2]] for row in range(4) for column in range(4)]
    if bits == 16:
        values = [byte for value in values for byte in (0, value)]
    message = image(f"bayer_{pattern}{bits}", values, height=4, width=4, step=4 * bits // 8)
    assert bgr_from_image(message)[1:3, 1:3].tolist() == [[[50, 100, 200]] * 2] * 2


@pytest.mark.parametrize(("side", "fits"), [(2, False), (3, True)])
def test_a_mosaic_has_neighbours_on_both_sides(side: int, fits: bool) -> None:
    message = image("bayer_rggb8", [90] * side * 3, height=3, width=side, step=side)
    if fits:
        assert bgr_from_image(message).tolist() == [[[90] * 3] * 3] * 3
    else:
        with pytest.raises(ImageMessageError, match="needs at least 3×3 pixels, got 2×3"):
            bgr_from_image(message)


@pytest.mark.parametrize(("encoding", "step"), [("rgba16", 15), ("bgr8", 5), ("mono16", 3)])
def test_a_step_shorter_than_a_row_is_an_error(encoding: str, step: int) -> None:
    with pytest.raises(ImageMessageError, match=f"step must be at least {step + 1} for 2 pixels of {encoding}"):
        bgr_from_image(image(encoding, [0] * 64, height=2, width=2, step=step))


def test_data_shorter_than_all_rows_are_an_error() -> None:
    with pytest.raises(ImageMessageError, match="data must hold height × step = 12 bytes, got 11"):
        bgr_from_image(image("bgr8", [0] * 11, height=2, width=2, step=6))
