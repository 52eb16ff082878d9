from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darkseg_ros.frames.picture_numbers import (
    PICTURE_NUMBERS,
    H264FrameNumbers,
    HevcPictureOrder,
    PictureNumbers,
    _Bits,
)

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
@given(stream=st.sampled_from(list(STREAMS)), lost=st.sets(st.integers(2, 23), max_size=6))
def test_what_is_missing_between_two_pictures_of_a_group_is_counted(stream: str, lost: set[int]) -> None:
    """Behind the first step, which shows by how much H.265 counts."""
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
        ([4, 8, 10, 12], [0, 0, 0, 0]),  # a step seen twice went over nothing
        ([1, 9, 10], [0, 7, 0]),  # half the range at most is a gap
        ([1, 10, 11], [0, 0, 0]),
        ([15, 0], [0, 0]),
    ],
)
def test_the_smallest_step_of_hevc_is_that_of_its_encoder(pictures_seen: list[int], missing: list[int]) -> None:
    numbers = HevcPictureOrder()
    assert numbers.missing_before([HEVC_SPS, HEVC_IDR]) == 0
    assert numbers.range == 16
    assert [numbers.missing_before([hevc_picture(number)]) for number in pictures_seen] == missing


def hevc_parameters(*, layers: list[tuple[int, int]], separate_planes: bool, log2_range_minus4: int) -> bytes:
    """A sequence parameter set up to the range of picture numbers, ITU-T H.265, 7.3.2.2.1 and 7.3.3.

    Args:
        layers: of each temporal layer below the highest, whether its profile and its level are told.
        separate_planes: of 4:4:4, each with slices of its own.
        log2_range_minus4: of the picture numbers.
    """
    told = [(flag, 1) for layer in layers for flag in layer]
    reserved = [(0, 2 * (8 - len(layers)))] if layers else []
    profiles = [(2**size - 1, size) for layer in layers for size in (88 * layer[0], 8 * layer[1]) if size]
    colour = [(0b00100, 5), (int(separate_planes), 1)]
    fields = [(0, 4), (len(layers), 3), (0, 97), *told, *reserved, *profiles, ONE, *colour, ONE, ONE, (0, 1), ONE, ONE]
    golomb = ue(log2_range_minus4)
    return b"\x42\x01" + bits(*fields, (int(golomb, 2), len(golomb)))


@pytest.mark.parametrize("layers", [[], [(0, 0)], [(1, 0)], [(0, 1)], [(1, 1), (0, 1), (1, 0)], [(0, 0)] * 6], ids=str)
@pytest.mark.parametrize("separate_planes", [False, True])
def test_picture_numbers_of_hevc_are_read_behind_its_layers_and_planes(
    layers: list[tuple[int, int]], separate_planes: bool
) -> None:
    numbers = HevcPictureOrder()
    numbers.missing_before([hevc_parameters(layers=layers, separate_planes=separate_planes, log2_range_minus4=2)])
    assert numbers.range == 64
    plane = [(0b10, 2)] if separate_planes else []
    numbers.missing_before([HEVC_IDR])
    seen = [b"\x02\x01" + bits((1, 1), ONE, ONE, *plane, (number, 6)) for number in (1, 2, 3, 6)]
    assert [numbers.missing_before([unit]) for unit in seen] == [0, 0, 0, 2]


@pytest.mark.parametrize("kind", range(64))
def test_only_slices_of_pictures_count_for_hevc(kind: int) -> None:
    """ITU-T H.265, table 7-1: 0…9 are pictures, 16…21 those that decoding can begin with; 19 and 20 start at zero."""
    numbers = HevcPictureOrder()
    numbers.missing_before([HEVC_SPS, HEVC_IDR])
    assert [numbers.missing_before([hevc_picture(number)]) for number in (1, 2)] == [0, 0]
    prior_output = [(0, 1)] if 16 <= kind <= 21 else []
    slice_header = bits((1, 1), *prior_output, ONE, ONE, (5, 4))
    if kind not in (33, 34):  # parameters
        assert numbers.missing_before([bytes([kind << 1, 1]) + slice_header]) == (
            2 if kind in (*range(10), 16, 17, 18, 21) else 0
        )


@pytest.mark.parametrize("output_flag", [0, 1])
@pytest.mark.parametrize("extra_bits", [0, 1, 2, 7])
def test_picture_numbers_of_hevc_are_read_behind_what_picture_parameters_add(extra_bits: int, output_flag: int) -> None:
    """ITU-T H.265, 7.3.2.3.1: ids, dependent slices, output flag, extra bits of the slice header."""
    numbers = HevcPictureOrder()
    picture_parameters = b"\x44\x01" + bits((0b011, 3), ONE, (1, 1), (output_flag, 1), (extra_bits, 3))
    numbers.missing_before([HEVC_SPS, picture_parameters, HEVC_IDR])
    added = [(2**extra_bits - 1, extra_bits)] if extra_bits else []
    output = [(0, 1)] if output_flag else []
    seen = [b"\x02\x01" + bits((1, 1), (0b011, 3), *added, ONE, *output, (number, 4)) for number in (1, 2, 6)]
    assert [numbers.missing_before([unit]) for unit in seen] == [0, 0, 3]


def test_further_slices_of_a_picture_of_hevc_count_for_nothing() -> None:
    numbers = HevcPictureOrder()
    numbers.missing_before([HEVC_SPS, HEVC_IDR])
    further = b"\x02\x01" + bits((0, 1), ONE, ONE, (9, 4))
    seen = [hevc_picture(1), further, hevc_picture(2), further, hevc_picture(4)]
    assert [numbers.missing_before([unit]) for unit in seen] == [0, 0, 0, 0, 1]


@pytest.mark.parametrize(("log2_minus4", "expected"), [(0, 16), (1, 32), (12, 65536), (40, 65536)])
def test_picture_numbers_of_hevc_start_anew_after_16_to_65536(log2_minus4: int, expected: int) -> None:
    numbers = HevcPictureOrder()
    numbers.missing_before([hevc_parameters(layers=[], separate_planes=False, log2_range_minus4=log2_minus4)])
    assert numbers.range == expected


def test_an_idr_picture_of_hevc_begins_at_zero_whatever_came_before() -> None:
    numbers = HevcPictureOrder()
    numbers.missing_before([HEVC_SPS, HEVC_IDR])
    assert [numbers.missing_before([hevc_picture(number)]) for number in (1, 2, 3)] == [0, 0, 0]
    assert numbers.missing_before([b"\x28\x01" + HEVC_IDR[2:]]) == 0  # without leading pictures
    assert [numbers.missing_before([hevc_picture(number)]) for number in (1, 3)] == [0, 1]


def test_pictures_before_the_parameters_tell_nothing() -> None:
    numbers = HevcPictureOrder()
    assert [numbers.missing_before([hevc_picture(number)]) for number in (1, 5, 9)] == [0, 0, 0]


@pytest.mark.parametrize("numbers", [H264FrameNumbers(), HevcPictureOrder()])
def test_a_header_that_ends_early_is_an_index_error(numbers: PictureNumbers) -> None:
    for unit in (b"\x67\x42", b"\x42\x01\x01"):
        if isinstance(numbers, HevcPictureOrder) == (unit[0] == 0x42):
            with pytest.raises(IndexError):
                numbers.missing_before([unit])


# --- headers of H.264, written bit by bit


def ue(value: int) -> str:
    """The bits of an unsigned Exp-Golomb code, ITU-T H.264, 9.1."""
    binary = f"{value + 1:b}"
    return "0" * (len(binary) - 1) + binary


def se(value: int) -> str:
    """The bits of a signed one, 9.1.1."""
    return ue(2 * value - 1 if value > 0 else -2 * value)


def h264_unit(kind: int, bits: str) -> bytes:
    """A NAL unit of a reference picture or of parameters."""
    bits += "1"
    bits += "0" * (-len(bits) % 8)
    content = int(bits, 2).to_bytes(len(bits) // 8, "big")
    return bytes([0x60 | kind]) + re.sub(rb"\0\0(?=[\0-\3])", b"\0\0\3", content)  # emulation prevention, 7.4.1


def parameters(profile: int, between: str, *, log2_max_frame_num_minus4: int) -> bytes:
    """A sequence parameter set, up to the range of frame numbers (7.3.2.1.1)."""
    return h264_unit(7, f"{profile:08b}{0:08b}{30:08b}{ue(3)}{between}{ue(log2_max_frame_num_minus4)}")


def slice_of(frame_num: int, bits: int, *, plane: str = "") -> bytes:
    """A slice header, up to the frame number (7.3.3)."""
    return h264_unit(1, f"{ue(0)}{ue(5)}{ue(2)}{plane}{frame_num:0{bits}b}")


DEPTHS = f"{ue(1)}{ue(2)}0"
"""Bit depths of luma and chroma, no transform bypass."""

NO_LISTS = "0"
ALL_LISTS = "1" + ("1" + se(3) * 16) * 6 + ("1" + (se(-1) + se(1)) * 32) * 2
ONE_LIST = "1" + "0" * 5 + "1" + se(-4) + se(-4) + "0" * 2
"""The second delta makes the next scale 0, so the rest of the list is not sent (7.3.2.1.1.1)."""

MANY_LISTS = "1" + ("1" + se(1) * 16) * 6 + ("1" + se(1) * 64) * 6


HIGH_PROFILES = (100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135)
"""Those whose parameters tell a colour format, 7.3.2.1.1."""

BETWEEN = {
    "baseline": (66, "", ""),
    "main": (77, "", ""),
    **{f"profile {each}": (each, f"{ue(1)}{DEPTHS}{NO_LISTS}", "") for each in HIGH_PROFILES},
    "all lists": (100, f"{ue(1)}{DEPTHS}{ALL_LISTS}", ""),
    "one list": (100, f"{ue(1)}{DEPTHS}{ONE_LIST}", ""),
    "4:4:4": (244, f"{ue(3)}0{DEPTHS}{NO_LISTS}", ""),
    "4:4:4 in separate planes": (244, f"{ue(3)}1{DEPTHS}{NO_LISTS}", "10"),
    "4:4:4 with all lists": (244, f"{ue(3)}0{DEPTHS}{MANY_LISTS}", ""),
}
"""Profile, the bits between its parameters' id and the range of frame numbers, and those of a plane's id in a slice."""


@pytest.mark.parametrize(("profile", "between", "plane"), BETWEEN.values(), ids=BETWEEN)
def test_frame_numbers_are_read_behind_whatever_parameters_stand_before_them(
    profile: int, between: str, plane: str
) -> None:
    numbers = H264FrameNumbers()
    first = [parameters(profile, between, log2_max_frame_num_minus4=2), h264_unit(5, ue(0))]
    assert numbers.missing_before(first) == 0
    assert numbers.range == 64
    counted = [numbers.missing_before([slice_of(number, 6, plane=plane)]) for number in (1, 2, 2, 5, 63, 0)]
    assert counted == [0, 0, 0, 2, 57, 0]


@pytest.mark.parametrize(("log2_minus4", "expected"), [(0, 16), (4, 256), (12, 65536), (40, 65536)])
def test_frame_numbers_start_anew_after_16_to_65536(log2_minus4: int, expected: int) -> None:
    numbers = H264FrameNumbers()
    assert numbers.range == 16
    numbers.missing_before([parameters(66, "", log2_max_frame_num_minus4=log2_minus4)])
    assert numbers.range == expected


def test_pictures_that_nobody_refers_to_do_not_count() -> None:
    numbers = H264FrameNumbers()
    numbers.missing_before([h264_unit(5, ue(0))])
    unreferenced = bytes([1]) + slice_of(1, 4)[1:]
    assert [numbers.missing_before([unreferenced]) for _ in range(3)] == [0, 0, 0]
    assert numbers.missing_before([slice_of(1, 4)]) == 0
    assert numbers.missing_before([slice_of(3, 4)]) == 1


@pytest.mark.parametrize("log2_minus4", range(5))
def test_frame_numbers_have_as_many_bits_as_their_range(log2_minus4: int) -> None:
    numbers = H264FrameNumbers()
    numbers.missing_before([parameters(66, "", log2_max_frame_num_minus4=log2_minus4), h264_unit(5, ue(0))])
    counted = [numbers.missing_before([slice_of(number, 4 + log2_minus4)]) for number in (1, 2, 15, 0)]
    assert counted == [0, 0, 12, 16 * (2**log2_minus4 - 1)]


def test_a_lost_picture_shows_though_only_such_came_that_nobody_refers_to() -> None:
    numbers = H264FrameNumbers()
    numbers.missing_before([h264_unit(5, ue(0))])
    seen = [bytes([1]) + slice_of(number, 4)[1:] for number in (1, 2)]  # the reference picture of number 1 is missing
    assert [numbers.missing_before([unit]) for unit in seen] == [0, 1]


@pytest.mark.parametrize("kind", [kind for kind in range(32) if kind != 7])
def test_only_slices_of_pictures_count_for_h264(kind: int) -> None:
    """ITU-T H.264, table 7-1: 1 is a slice of a picture that others precede."""
    numbers = H264FrameNumbers()
    numbers.missing_before([h264_unit(5, ue(0))])
    unit = bytes([0x60 | kind]) + slice_of(3, 4)[1:]
    assert numbers.missing_before([unit]) == (2 if kind == 1 else 0)


def test_a_packet_without_a_picture_misses_nothing() -> None:
    hevc = HevcPictureOrder()
    assert hevc.missing_before([]) == H264FrameNumbers().missing_before([]) == 0
    assert hevc.missing_before([HEVC_SPS, bytes([39 << 1, 1, 80])]) == 0
    assert H264FrameNumbers().missing_before([h264_unit(6, ue(0)), h264_unit(9, ue(0))]) == 0


def test_other_units_before_a_slice_do_not_hide_it() -> None:
    h264, hevc = H264FrameNumbers(), HevcPictureOrder()
    h264.missing_before([h264_unit(5, ue(0))])
    assert h264.missing_before([h264_unit(9, ue(0)), h264_unit(6, ue(0)), slice_of(3, 4)]) == 2
    hevc.missing_before([HEVC_SPS, HEVC_IDR])
    hevc.missing_before([hevc_picture(1)])
    assert hevc.missing_before([bytes([35 << 1, 1, 80]), bytes([39 << 1, 1, 80]), hevc_picture(4)]) == 2


def test_parameters_without_colour_planes_take_back_those_with() -> None:
    numbers = H264FrameNumbers()
    profile, between, _ = BETWEEN["4:4:4 in separate planes"]
    numbers.missing_before([parameters(profile, between, log2_max_frame_num_minus4=0)])
    numbers.missing_before([parameters(66, "", log2_max_frame_num_minus4=0), h264_unit(5, ue(0))])
    assert [numbers.missing_before([slice_of(number, 4)]) for number in (1, 2, 4)] == [0, 0, 1]


def test_the_first_number_of_a_stream_misses_nothing_and_is_counted_from() -> None:
    numbers = H264FrameNumbers()
    assert numbers.missing_before([bytes([1]) + slice_of(7, 4)[1:]]) == 0
    assert numbers.missing_before([slice_of(9, 4)]) == 1
    assert numbers.missing_before([h264_unit(6, ue(0))]) == 0


@given(st.lists(st.integers(0, 2**16), max_size=8), st.integers(1, 9))
def test_numbers_are_read_as_they_were_written(values: list[int], width: int) -> None:
    bits = _Bits(h264_unit(1, "".join(map(ue, values)) + f"{1:0{width}b}")[1:])
    assert [bits.exp_golomb() for _ in values] == values
    assert bits.number(width) == 1


def test_bytes_that_prevent_a_start_code_are_no_content() -> None:
    assert _Bits(b"\0\0\3\1").number(24) == 1


def test_only_idr_pictures_of_h264_are_keyframes() -> None:
    assert [kind for kind in range(1, 24) if H264FrameNumbers.is_keyframe(bytes([0x60 | kind]))] == [5]


def test_only_pictures_that_decoding_can_begin_with_are_keyframes_of_hevc() -> None:
    assert [kind for kind in range(64) if HevcPictureOrder.is_keyframe(bytes([kind << 1, 1]))] == [*range(16, 22)]
