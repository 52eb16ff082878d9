"""10,000 messages that no camera sends: most into the node's callback, some over the wire."""

from __future__ import annotations

import array
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from darkseg_ros.stream.frame_gate import DropReason
from tests.ros.conftest import books_balance
from tests.ros.reliability import Row, RowOfFault

if TYPE_CHECKING:
    from tests.ros.conftest import StartNode
    from tests.ros.driven_node import DrivenNode
    from tests.ros.probe import Probe

RAW, COMPRESSED, ON_THE_WIRE = 7_700, 2_000, 300
BATCH = 100
NO_STAMP = 0  # in order after any other
ENCODINGS = ["rgb8", "bgr8", "rgba8", "bgra8", "mono8", "mono16", "8UC3", "16UC3", "rgb16", "yuv422", "yuv422_yuy2"]
ENCODINGS += ["bayer_rggb8", "bayer_gbrg16", "32FC1", "plaid8", "", "RGB8", "\u00fc" * 300]
BATCHES = {
    "deadline": None,
    "derandomize": True,
    "database": None,
    "suppress_health_check": list(HealthCheck),
}


def pick(rng: np.random.Generator, choices: Sequence[Any]) -> Any:
    return choices[int(rng.integers(len(choices)))]


def fuzzed_header(rng: np.random.Generator) -> Any:
    """Without a stamp in three of four: a stamp out of order would keep the rest from being looked at."""
    from std_msgs.msg import Header

    message = Header(frame_id=pick(rng, ["camera", "", "x" * 1000]))
    if rng.random() < 0.25:
        now = int(time.time())
        message.stamp.sec = pick(rng, [0, now, now - int(rng.integers(100)), 2**31 - 1, -(2**31), -1])
        message.stamp.nanosec = int(rng.integers(0, 2**32))
    return message


def fuzzed_image(rng: np.random.Generator) -> Any:
    """Half of them nearly fit: there a wrong bound would show."""
    from sensor_msgs.msg import Image

    message = Image(header=fuzzed_header(rng), encoding=pick(rng, ENCODINGS))
    extremes = [0, 1, 2, 2**16, 2**31, 2**32 - 1]
    if rng.random() < 0.5:
        height, width = (int(size) for size in rng.integers(0, 40, 2))
        step = width * int(rng.integers(1, 9)) + int(rng.integers(-1, 3))
        length = height * step + int(rng.integers(-2, 3))
    else:
        height, width, step = (pick(rng, [*extremes, int(rng.integers(100))]) for _ in range(3))
        length = int(rng.integers(0, 5000))
    message.height, message.width, message.step = height, width, max(step, 0)
    message.is_bigendian = int(rng.integers(0, 256))
    message.data = array.array("B", rng.bytes(max(length, 0)))
    return message


def fuzzed_compressed_image(rng: np.random.Generator) -> Any:
    from sensor_msgs.msg import CompressedImage

    suffix = pick(rng, [".jpg", ".png"])
    data = cv2.imencode(suffix, rng.integers(0, 255, (int(rng.integers(1, 20)), 16, 3)).astype(np.uint8))[1].ravel()
    for _ in range(int(rng.integers(0, 6))):
        data[rng.integers(0, data.size)] = rng.integers(0, 256)
    data = data[: int(rng.integers(0, data.size + 1))] if rng.random() < 0.5 else data
    message = CompressedImage(header=fuzzed_header(rng), format=pick(rng, ["jpeg", "png", "", "h264"]))
    message.data = array.array("B", rng.bytes(int(rng.integers(0, 300))) if rng.random() < 0.2 else data.tobytes())
    return message


def check_survival(driven: DrivenNode, fuzzed: Any, good: Any, *, messages: int) -> Any:
    """Every message is published or dropped as what it is, and the next good frame is served."""

    @settings(max_examples=messages // BATCH, **BATCHES)
    @given(st.integers(0, 2**32 - 1))
    def give_batch(seed: int) -> None:
        rng = np.random.default_rng(seed)
        before = driven.figures.frames_in
        for _ in range(BATCH):
            driven.give(fuzzed(rng))
        published = driven.figures.frames_published
        driven.give(good())
        figures = driven.figures
        assert figures.frames_in == before + BATCH + 1
        assert figures.frames_published == published + 1
        assert figures.frames_in_progress == 0
        # an error that is no ImageMessageError would be taken for one of the engine
        assert figures.frames_dropped[DropReason.ENGINE_ERROR] == 0, figures.last_error

    give_batch()
    figures = driven.figures
    assert figures.frames_in >= messages
    assert figures.frames_dropped[DropReason.UNDECODABLE] > messages / 10
    return figures


@pytest.mark.usefixtures("ros_domain")
def test_ten_thousand_fuzzed_messages_crash_nothing_and_the_next_frame_is_served(
    tiny_bundle: Path, probe: Probe, segmentation_node: StartNode
) -> None:
    from tests.ros.driven_node import driven_node
    from tests.ros.probe import image, jpeg, scene

    row = RowOfFault("fuzz")
    picture = scene((3, 9), seed=0)
    with driven_node(tiny_bundle) as driven:
        raw = check_survival(driven, fuzzed_image, lambda: image(picture, NO_STAMP), messages=RAW)
    with driven_node(tiny_bundle, transport="compressed") as driven:
        compressed = check_survival(
            driven, fuzzed_compressed_image, lambda: jpeg(picture, NO_STAMP), messages=COMPRESSED
        )

    process = segmentation_node(stale_after_ms=0)
    camera, class_maps = probe.connect()
    rng = np.random.default_rng(0)
    for _ in range(ON_THE_WIRE):
        camera.publish(fuzzed_image(rng))
        time.sleep(0.005)
    time.sleep(1.1)  # by now every stamp that was accepted, up to a second ahead, has passed
    stamp = probe.next_stamp()
    camera.publish(image(picture, stamp))
    class_maps.of_stamp(stamp)
    status = probe.status(lambda status: status.number("frames_in_progress") == 0, fresh=True)
    assert books_balance(status)
    assert status.number("frames_in") > ON_THE_WIRE / 2  # best effort: a queue of one may lose some
    assert status.number("dropped_engine_error") == 0
    assert process.alive
    dropped = {
        reason.value: raw.frames_dropped[reason]
        + compressed.frames_dropped[reason]
        + status.number(f"dropped_{reason.value}")
        for reason in DropReason
    }
    row.write(
        Row(
            "fuzz",
            frames_in=raw.frames_in + compressed.frames_in + status.number("frames_in"),
            frames_out=raw.frames_published + compressed.frames_published + status.number("frames_published"),
            dropped={reason: count for reason, count in dropped.items() if count},
            recovery_s=0.0,
            observed=f"{RAW} raw and {COMPRESSED} compressed into the callback, {ON_THE_WIRE} raw over the wire; "
            "no crash, and a good frame after every hundred is served",
        )
    )
