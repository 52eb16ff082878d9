from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darkseg_ros.frames.picture_numbers import PICTURE_NUMBERS, H264FrameNumbers, HevcPictureOrder, PictureNumbers

from .video_streams import encode, pictures

PICTURES = pictures(24, height=32, width=48)
STREAMS = {
    "h264": encode(PICTURES),
    "hevc": encode(PICTURES, codec="h265"),
    "hevc whose numbers start anew after 16": encode(
        PICTURES, codec="h265", keyframe_every=24, parameters="log2-max-poc-lsb=4"
    ),
    "hevc with open groups": encode(PICTURES, codec="h265", parameters="open-gop=1:min-keyint=8"),
    "hevc in several slices": encode(pictures(24, height=192, width=256), codec="h265", parameters="slices=3"),
    "hevc with layers": encode(PICTURES, codec="h265", parameters="temporal-layers=3"),
    "hevc with cropping": encode(pictures(24, height=34, width=50), codec="h265"),
}


def units(packet: bytes) -> list[bytes]:
    return [unit.rstrip(b"\0") for unit in packet.split(b"\0\0\1")[1:]]


def missing_in(numbers: PictureNumbers, packets: list[bytes]) -> list[int]:
    return [numbers.missing_before(units(packet)) for packet in packets]


def counter(stream: str) -> PictureNumbers:
    return PICTURE_NUMBERS[stream.split()[0]]()


@pytest.mark.parametrize("stream", STREAMS)
def test_nothing_is_missing_from_a_whole_stream(stream: str) -> None:
    assert missing_in(counter(stream), STREAMS[stream]) == [0] * 24


@pytest.mark.parametrize("stream", STREAMS)
def test_a_keyframe_is_known_by_its_unit(stream: str) -> None:
    numbers = counter(stream)
    keyframes = [i for i, packet in enumerate(STREAMS[stream]) if any(map(numbers.is_keyframe, units(packet)))]
    assert keyframes == ([0] if "anew" in stream else [0, 8, 16])


@settings(max_examples=60, deadline=None)
@given(stream=st.sampled_from(list(STREAMS)), lost=st.sets(st.integers(1, 23), max_size=6))
def test_what_is_missing_between_two_pictures_of_a_group_is_counted(stream: str, lost: set[int]) -> None:
    group = 24 if "anew" in stream else 8
    lost -= {index for index in lost if index % group in (0, group - 1)}  # before a keyframe nobody can tell
    came = [packet for index, packet in enumerate(STREAMS[stream]) if index not in lost]
    assert sum(missing_in(counter(stream), came)) == len(lost)


def bits(*numbers: tuple[int, int]) -> bytes:
    """Numbers of so many bits each, filled up with the bit that ends a unit."""
    text = "".join(f"{value:0{size}b}" for value, size in numbers) + "1"
    return int(text.ljust(-(-len(text) // 8) * 8, "0"), 2).to_bytes(-(-len(text) // 8), "big")


ONE = (1, 1)  # zero as Exp-Golomb code
HEVC_SPS = b"\x42\x01" + bits((0, 4), (0, 3), (0, 97), ONE, (0b010, 3), ONE, ONE, (0, 1), ONE, ONE, ONE)


def hevc_picture(number: int) -> bytes:
    """Of the kind TRAIL_R, whose number has four bits."""
    return b"\x02\x01" + bits((1, 1), ONE, ONE, (number, 4))


HEVC_IDR = b"\x26\x01" + bits((1, 1), (0, 1), ONE, ONE)


@pytest.mark.parametrize(
    ("pictures_seen", "missing"),
    [
        ([2, 4, 6], [0, 0, 0]),  # a step of two
        ([2, 4, 8, 14], [0, 0, 1, 2]),
        ([2, 3, 4], [0, 1, 0]),  # the first one was lost, which the second one shows
        ([1, 2, 1, 3], [0, 0, 0, 1]),  # a picture shown out of order is none that was lost
        ([4, 8, 12, 0, 4], [0, 0, 0, 0, 0]),
        ([1, 1, 2], [0, 0, 0]),
    ],
)
def test_the_smallest_step_of_hevc_is_that_of_its_encoder(pictures_seen: list[int], missing: list[int]) -> None:
    numbers = HevcPictureOrder()
    assert numbers.missing_before([HEVC_SPS, HEVC_IDR]) == 0
    assert numbers.range == 16
    assert [numbers.missing_before([hevc_picture(number)]) for number in pictures_seen] == missing


def test_pictures_before_the_parameters_tell_nothing() -> None:
    numbers = HevcPictureOrder()
    assert [numbers.missing_before([hevc_picture(number)]) for number in (1, 5, 9)] == [0, 0, 0]


@pytest.mark.parametrize("numbers", [H264FrameNumbers(), HevcPictureOrder()])
def test_a_header_that_ends_early_is_an_index_error(numbers: PictureNumbers) -> None:
    for unit in (b"\x67\x42", b"\x42\x01\x01"):
        if isinstance(numbers, HevcPictureOrder) == (unit[0] == 0x42):
            with pytest.raises(IndexError):
                numbers.missing_before([unit])
