from __future__ import annotations

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from darkseg_ros.frames.compressed_images import bgr_from_jpeg_or_png
from darkseg_ros.frames.messages import bgr_from_message
from darkseg_ros.frames.value_range import ValueRange


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 4, 1023], [0, 1, 255]),  # 10 bits: a step of 4
        ([0, 16, 1024, 4095], [0, 1, 64, 255]),  # 12 bits: a step of 16
        ([63, 64, 4096, 16383], [0, 1, 64, 255]),  # 14 bits: a step of 64
        ([255, 256, 16384, 65535], [0, 1, 64, 255]),  # 16 bits: a step of 256
        ([0, 3], [0, 0]),  # a lens cap stays black
    ],
)
def test_grey_is_scaled_by_the_smallest_range_that_holds_it(values: list[int], expected: list[int]) -> None:
    for dtype in ("<u2", ">u2"):
        assert ValueRange().to_8_bits(np.array([values], dtype)).tolist() == [expected]


def test_a_stream_keeps_the_largest_range_so_that_brightness_does_not_flicker() -> None:
    stream = ValueRange()
    dark, lamp = np.array([[800]], np.uint16), np.array([[4000]], np.uint16)
    assert [stream.to_8_bits(each).item() for each in (dark, lamp, dark, lamp)] == [200, 250, 50, 250]


def test_colours_keep_their_upper_byte_whatever_their_range() -> None:
    assert ValueRange().to_8_bits(np.array([[[0, 255, 1023]]], np.uint16)).tolist() == [[[0, 0, 3]]]


def test_8_bits_stay_as_they_are() -> None:
    pixels = np.array([[0, 7]], np.uint8)
    assert ValueRange().to_8_bits(pixels) is pixels


def test_a_12_bit_message_and_a_12_bit_png_look_alike() -> None:
    grey = np.arange(0, 4096, 16, dtype=np.uint16).reshape(16, 16)
    message = SimpleNamespace(
        height=16, width=16, encoding="mono16", is_bigendian=0, step=32, data=grey.astype("<u2").tobytes()
    )
    png = cv2.imencode(".png", grey)[1].tobytes()
    compressed = SimpleNamespace(format="mono16; png compressed mono16", data=png)
    expected = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    for bgr in (bgr_from_message(message), bgr_from_message(compressed), bgr_from_jpeg_or_png(png, upright=True)):
        np.testing.assert_array_equal(bgr, expected)


def test_the_messages_of_a_stream_share_its_range() -> None:
    stream = ValueRange()

    def message(value: int) -> SimpleNamespace:
        data = np.array([value], "<u2").tobytes()
        return SimpleNamespace(height=1, width=1, encoding="mono16", is_bigendian=0, step=2, data=data)

    assert bgr_from_message(message(4095), value_range=stream).max() == 255
    assert bgr_from_message(message(1023), value_range=stream).max() == 63
    png = SimpleNamespace(format="png", data=cv2.imencode(".png", np.array([[1023]], np.uint16))[1].tobytes())
    assert bgr_from_message(png, value_range=stream).max() == 63
    assert bgr_from_message(png).max() == 255


@pytest.mark.parametrize(
    ("largest", "bits"), [(1023, 10), (1024, 12), (4095, 12), (4096, 14), (16383, 14), (16384, 16)]
)
def test_the_range_is_the_smallest_that_holds_the_largest_value(largest: int, bits: int) -> None:
    assert ValueRange().to_8_bits(np.array([[largest]], np.uint16))[0, 0] == largest >> (bits - 8)
