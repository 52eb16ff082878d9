from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darkseg_ros.errors import ImageMessageError
from darkseg_ros.frames.image_stream import ImageStream
from darkseg_ros.frames.video_packets import VideoDecoder, _Pause, is_video_packet

from .video_streams import compressed_video, encode, ffmpeg_packet, pictures

PICTURES = pictures(24)
PACKETS = {codec: encode(PICTURES, codec=codec) for codec in ("h264", "h265")}


def messages(codec: str, kind: str, *, lost: Sequence[int] = ()) -> list[Any]:
    """Of three groups of eight frames that begin with a keyframe; None in the place of each one lost."""
    packets: list[Any] = []
    for index, data in enumerate(PACKETS[codec]):
        if index in lost:
            packets.append(None)
        elif kind == "foxglove":
            packets.append(compressed_video(data, index=index, codec=codec))
        else:
            packets.append(ffmpeg_packet(data, index=index, encoding={"h264": "libx264", "h265": "hevc_nvenc"}[codec]))
    return packets


def decoded(decoder: VideoDecoder | ImageStream, stream: list[Any]) -> dict[int, np.ndarray]:
    """The frames by the index of their packet."""
    frames = {}
    for index, message in enumerate(stream):
        if message is None:
            continue
        try:
            frames[index] = decoder.bgr(message)
        except ImageMessageError:
            continue
    return frames


@pytest.mark.parametrize("kind", ["foxglove", "ffmpeg"])
@pytest.mark.parametrize("codec", ["h264", "h265"])
def test_each_packet_gives_the_picture_of_its_own_frame(codec: str, kind: str) -> None:
    decoder = VideoDecoder()
    frames = decoded(decoder, messages(codec, kind))
    assert list(frames) == list(range(24))
    assert decoder.lost == 0
    for index, bgr in frames.items():
        assert bgr.dtype == np.uint8
        assert bgr.flags.c_contiguous
        assert bgr.flags.writeable
        error_of = [np.abs(bgr.astype(int) - picture).mean() for picture in PICTURES]
        assert np.argmin(error_of) == index
        assert error_of[index] < 8


@pytest.mark.parametrize("lost", [(3,), (3, 4), (1,), (7,), (3, 11), (0, 1, 2), (5, 6, 7, 8)])
@pytest.mark.parametrize("kind", ["foxglove", "ffmpeg"])
@pytest.mark.parametrize("codec", ["h264", "h265"])
def test_after_a_lost_packet_no_frame_is_shown_up_to_the_next_keyframe(
    codec: str, kind: str, lost: tuple[int, ...]
) -> None:
    whole = decoded(VideoDecoder(), messages(codec, kind))
    decoder = VideoDecoder()
    frames = decoded(decoder, messages(codec, kind, lost=lost))
    shown = {index for index in range(24) if not any(index // 8 * 8 <= gone <= index for gone in lost)}
    assert set(frames) == shown
    for index, bgr in frames.items():
        np.testing.assert_array_equal(bgr, whole[index])


@pytest.mark.parametrize("kind", ["foxglove", "ffmpeg"])
@pytest.mark.parametrize("codec", ["h264", "h265"])
def test_lost_packets_are_counted(codec: str, kind: str) -> None:
    for lost in ((3, 4, 12), (1,), (1, 2, 5, 9, 20)):
        decoder = VideoDecoder()
        decoded(decoder, messages(codec, kind, lost=lost))
        assert decoder.lost == len(lost)


def test_the_error_says_what_was_lost_and_what_is_waited_for() -> None:
    stream = messages("h264", "foxglove", lost=(3,))
    decoder = VideoDecoder()
    decoded(decoder, stream[:4])
    for message in stream[4:6]:
        with pytest.raises(ImageMessageError, match="1 video packet was lost; frames are shown from the"):
            decoder.bgr(message)


@pytest.mark.parametrize("codec", ["h264", "h265"])
def test_a_stream_joined_in_the_middle_begins_with_its_next_keyframe(codec: str) -> None:
    decoder = VideoDecoder()
    stream = messages(codec, "foxglove")[3:]
    with pytest.raises(ImageMessageError, match="does not begin with a keyframe; frames are shown from the next"):
        decoder.bgr(stream[0])
    assert list(decoded(decoder, stream)) == list(range(5, 21))
    assert decoder.lost == 0


def test_as_many_packets_lost_as_the_frame_numbers_count_are_seen_by_the_pause() -> None:
    moving = pictures(40, height=32, width=48)
    packets = encode(moving, keyframe_every=100)
    stream = [compressed_video(data, index=index) for index, data in enumerate(packets)]
    decoder = VideoDecoder()
    assert len(decoded(decoder, stream[:10])) == 10
    assert decoded(decoder, stream[26:]) == {}  # frame numbers of 4 bits: 9 + 16 + 1 has the number that 10 had
    assert decoder.lost >= 1


def test_a_pts_that_is_a_time_is_no_count() -> None:
    decoder = VideoDecoder()
    stream = [
        ffmpeg_packet(data, index=index, pts=1_000_000 * index, encoding="h264;yuv420p;bgr8;bgr8")
        for index, data in enumerate(PACKETS["h264"])
    ]
    assert len(decoded(decoder, stream)) == 24
    assert decoder.lost == 0


def test_several_references_are_one_stream() -> None:
    packets = encode(PICTURES, references=4)
    stream = [compressed_video(data, index=index) for index, data in enumerate(packets)]
    decoder = VideoDecoder()
    assert len(decoded(decoder, stream)) == 24
    assert set(decoded(VideoDecoder(), [*stream[:3], *stream[4:]])) == {0, 1, 2, *range(7, 23)}


@pytest.mark.parametrize("codec", ["h264", "h265"])
def test_a_stream_with_b_frames_is_refused_with_the_cure(codec: str) -> None:
    packets = encode(PICTURES, codec=codec, b_frames=2)
    decoder = VideoDecoder()
    for index, data in enumerate(packets):
        with pytest.raises(ImageMessageError, match="B-frames; let it send none"):
            decoder.bgr(compressed_video(data, index=index, codec=codec))


def test_a_stream_that_starts_anew_is_shown_from_its_keyframe() -> None:
    decoder = VideoDecoder()
    stream = messages("h264", "ffmpeg")
    decoded(decoder, stream[:12])
    assert list(decoded(decoder, stream)) == list(range(24))


@pytest.mark.parametrize(
    ("message", "part_of_error"),
    [
        (compressed_video(b"\0\0\1\x65", index=0, codec="vp9"), "codec 'vp9' is not supported; send h264 or h265"),
        (ffmpeg_packet(b"\0\0\1\x65", index=0, encoding="mjpeg"), "codec 'mjpeg' is not supported"),
        (compressed_video(b"", index=0), "of 0 bytes has no start code; send Annex B"),
        (compressed_video(b"\0\0\0\x05\x65abcd", index=0), "no start code; send Annex B"),
        (compressed_video(b"\0\0\1\x65", index=0), "the h264 packet"),
        (compressed_video(b"\0\0\1\x67\x42", index=0), "a header ends early"),
        (compressed_video([1, 2], index=0), "data must be contiguous bytes"),  # type: ignore[arg-type]
        (SimpleNamespace(timestamp=None, format=None), "format must be a string"),
        (SimpleNamespace(pts=0), "field encoding"),
        (SimpleNamespace(pts=0, encoding="h264", data=b""), "field header"),
    ],
)
def test_a_wrong_packet_is_an_error_that_says_what_is_wrong(message: Any, part_of_error: str) -> None:
    with pytest.raises(ImageMessageError, match=part_of_error):
        VideoDecoder().bgr(message)


def test_a_size_beyond_the_limit_is_refused_before_memory_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("darkseg_ros.frames.video_packets._MAX_PIXELS", 64 * 96 - 1)
    with pytest.raises(ImageMessageError, match="damaged"):
        VideoDecoder().bgr(messages("h264", "foxglove")[0])


@settings(max_examples=150, deadline=None)
@given(
    codec=st.sampled_from(["h264", "h265"]),
    changes=st.lists(st.tuples(st.integers(0, 23), st.integers(0, 10_000), st.integers(0, 255)), max_size=4),
    data=st.lists(st.binary(max_size=60).map(lambda tail: b"\0\0\1" + tail), max_size=3),
)
def test_any_packet_decodes_or_raises_image_message_error(
    codec: str, changes: list[tuple[int, int, int]], data: list[bytes]
) -> None:
    packets = [bytearray(packet) for packet in PACKETS[codec]]
    for packet, place, value in changes:
        packets[packet][place % len(packets[packet])] = value
    stream = [compressed_video(bytes(each), index=index, codec=codec) for index, each in enumerate([*data, *packets])]
    for bgr in decoded(ImageStream(), stream).values():
        assert bgr.ndim == 3
        assert bgr.dtype == np.uint8


def test_a_gap_of_more_than_as_many_mean_intervals_is_a_pause() -> None:
    pause = _Pause()
    assert not pause.before(1_000, keyframe=True, longest=8)
    assert not pause.before(900_000, keyframe=False, longest=8)  # the first interval is the mean itself
    pause.before(1_000_000, keyframe=True, longest=8)
    told = [pause.before(stamp, keyframe=False, longest=8) for stamp in (1_000_100, 1_000_200, 1_001_000, 1_003_401)]
    # means of 100, 100 and 1000 / 3: a gap of 800 is 8 of them, one of 2,401 more
    assert told == [False, False, False, False]
    assert not pause.before(1_010_000, keyframe=False, longest=8)
    assert pause.before(1_030_000, keyframe=False, longest=8)
    assert not pause.before(1_090_000, keyframe=False, longest=8)  # counted anew from the pause on


def test_a_compressed_image_is_no_video_packet() -> None:
    assert not is_video_packet(SimpleNamespace(header=None, format="jpeg", data=b""))
    assert is_video_packet(SimpleNamespace(timestamp=None, format="h264", data=b""))
    assert is_video_packet(SimpleNamespace(header=None, encoding="h264", pts=0, data=b""))
