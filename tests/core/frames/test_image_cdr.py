from __future__ import annotations

import ctypes
import random
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rosbags.typesys import Stores, get_typestore

from darkseg_ros.errors import ImageMessageError
from darkseg_ros.frames.image_cdr import OutgoingImage, is_little_endian_cdr, parse_image
from darkseg_ros.frames.messages import bgr_from_image

TYPES = get_typestore(Stores.ROS2_JAZZY)
MUTATIONS = 20_000


def serialised(
    *,
    frame_id: str = "camera",
    encoding: str = "bgr8",
    hw: tuple[int, int] = (2, 3),
    step: int = 9,
    data: bytes = bytes(range(18)),
    stamp: tuple[int, int] = (7, 8),
    little_endian: bool = True,
) -> bytes:
    """By rosbags, which has its own CDR."""
    time, header, image = (
        TYPES.types[name] for name in ("builtin_interfaces/msg/Time", "std_msgs/msg/Header", "sensor_msgs/msg/Image")
    )
    message = image(
        header=header(stamp=time(sec=stamp[0], nanosec=stamp[1]), frame_id=frame_id),
        height=hw[0],
        width=hw[1],
        encoding=encoding,
        is_bigendian=1,
        step=step,
        data=np.frombuffer(data, np.uint8),
    )
    return bytes(TYPES.serialize_cdr(message, "sensor_msgs/msg/Image", little_endian=little_endian))


def address_of(memory: bytearray | memoryview) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


@settings(max_examples=50)
@given(
    frame_id=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=9),
    encoding=st.text("abc8", max_size=7),
    hw=st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)),
    data=st.binary(max_size=300),
    stamp=st.tuples(st.integers(-(2**31), 2**31 - 1), st.integers(0, 2**32 - 1)),
)
def test_every_field_is_read_as_an_independent_implementation_wrote_it(
    frame_id: str, encoding: str, hw: tuple[int, int], data: bytes, stamp: tuple[int, int]
) -> None:
    message = serialised(frame_id=frame_id, encoding=encoding, hw=hw, data=data, stamp=stamp, step=5)
    image = parse_image(memoryview(message))
    assert (image.header.stamp.sec, image.header.stamp.nanosec) == stamp
    assert (image.header.frame_id, image.encoding) == (frame_id, encoding)
    assert (image.height, image.width, image.is_bigendian, image.step) == (*hw, 1, 5)
    assert bytes(image.data) == data


def test_the_pixels_are_a_view_and_decode_without_a_copy() -> None:
    memory = bytearray(serialised())
    image = parse_image(memoryview(memory))
    bgr = bgr_from_image(image, view=True)
    memory[-1] = 99
    assert bgr.tolist() == [[[0, 1, 2], [3, 4, 5], [6, 7, 8]], [[9, 10, 11], [12, 13, 14], [15, 16, 99]]]
    assert bgr_from_image(image).base is None


@settings(max_examples=50)
@given(
    frame_id=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=9),
    hw=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stamp=st.tuples(st.integers(-(2**31), 2**31 - 1), st.integers(0, 2**32 - 1)),
    color=st.booleans(),
)
def test_an_outgoing_image_is_what_an_independent_implementation_writes(
    frame_id: str, hw: tuple[int, int], stamp: tuple[int, int], *, color: bool
) -> None:
    shape = (*hw, 3) if color else hw
    outgoing = OutgoingImage(frame_id=frame_id, encoding="rgb8" if color else "mono8", shape=shape)
    for _ in range(2):  # the second message is written over the first
        outgoing.pixels[:] = np.random.default_rng(0).integers(0, 256, shape)
        outgoing.set_stamp(SimpleNamespace(sec=stamp[0], nanosec=stamp[1]))
    message: Any = TYPES.deserialize_cdr(outgoing.message.tobytes(), "sensor_msgs/msg/Image")
    assert (message.header.stamp.sec, message.header.stamp.nanosec, message.header.frame_id) == (*stamp, frame_id)
    assert (message.height, message.width, message.is_bigendian) == (*hw, 0)
    assert (message.encoding, message.step) == (("rgb8", 3 * hw[1]) if color else ("mono8", hw[1]))
    assert message.data.tobytes() == outgoing.pixels.tobytes()
    assert TYPES.serialize_cdr(message, "sensor_msgs/msg/Image").tobytes() == outgoing.message.tobytes()


def test_no_mutation_of_a_message_leads_outside_its_memory() -> None:
    rng = random.Random(0)
    original = serialised()
    refused = 0
    for number in range(MUTATIONS):
        mutated = bytearray(original[: rng.randrange(len(original))] if number % 3 == 0 else original)
        for _ in range(number % 4 if mutated else 0):
            mutated[rng.randrange(len(mutated))] = rng.choice((0, 1, 127, 128, 255, number % 256))
        try:
            data = parse_image(memoryview(mutated)).data
        except ImageMessageError:
            refused += 1
            continue
        if data:
            begins = address_of(data) - address_of(mutated)
            assert 0 <= begins <= len(mutated) - len(data)
    assert MUTATIONS / 4 < refused < MUTATIONS * 3 / 4


@pytest.mark.parametrize("size", [0, 1, 3, 4, 11, 12, 20, 40, len(serialised()) - 1])
def test_a_message_that_ends_early_is_refused(size: int) -> None:
    with pytest.raises(ImageMessageError, match=r"ends within its header|declares 18 bytes|begins with"):
        parse_image(memoryview(serialised()[:size]))


def test_another_byte_order_is_told_from_the_known_one() -> None:
    message = memoryview(serialised(little_endian=False))
    assert not is_little_endian_cdr(message)
    with pytest.raises(ImageMessageError, match="no little-endian CDR: it begins with 00000000"):
        parse_image(message)
    assert is_little_endian_cdr(memoryview(serialised()))


def test_bytes_of_a_frame_id_that_are_no_text_go_out_as_they_came() -> None:
    message = serialised(frame_id="camera").replace(b"camera", b"cam\xffra")
    frame_id = parse_image(memoryview(message)).header.frame_id
    assert b"cam\xffra\0" in OutgoingImage(frame_id=frame_id, encoding="mono8", shape=(1, 1)).message.tobytes()
