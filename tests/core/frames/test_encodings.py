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
