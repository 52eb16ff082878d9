from __future__ import annotations

import sys
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darkseg_ros.errors import ImageMessageError
from darkseg_ros.frames.image_stream import ImageStream
from darkseg_ros.frames.video_packets import VideoDecoder, _packet, _Pause, _units, is_video_packet

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
    assert decoder.lost == 1  # a count that goes back says that something is missing, not how much


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
    assert not is_video_packet(SimpleNamespace(timestamp=None, points=[]))
    assert not is_video_packet(SimpleNamespace(header=None))


LONG_GROUP = encode(pictures(40, height=32, width=48), keyframe_every=100)
"""Frame numbers of 4 bits, which cannot tell 16 lost pictures from none."""


def test_the_packets_own_count_tells_what_the_numbers_of_pictures_cannot() -> None:
    decoder = VideoDecoder()
    stream = [ffmpeg_packet(data, index=index) for index, data in enumerate(LONG_GROUP)]
    assert len(decoded(decoder, stream[:10])) == 10
    with pytest.raises(ImageMessageError, match="16 video packets were lost; frames are shown from the next keyframe"):
        decoder.bgr(stream[26])
    assert decoder.lost == 16


def test_a_packet_lost_before_a_keyframe_is_counted_where_packets_are_and_hides_nothing() -> None:
    decoder = VideoDecoder()
    frames = decoded(decoder, messages("h265", "ffmpeg", lost=(7,)))
    assert decoder.lost == 1
    assert list(frames) == [*range(7), *range(8, 24)]


@pytest.mark.parametrize(("idle", "lost"), [(0, 0), (6, 0), (7, 0), (8, 1), (20, 1)])
def test_a_camera_may_rest_for_half_the_range_of_its_numbers(idle: int, lost: int) -> None:
    """Of the same pictures without any missing, stamped so many frames later from the tenth on."""
    decoder = VideoDecoder()
    stream = [
        compressed_video(data, index=index + (idle if index >= 10 else 0)) for index, data in enumerate(LONG_GROUP[:14])
    ]
    frames = decoded(decoder, stream)
    assert decoder.lost == lost
    assert len(frames) == (10 if lost else 14)


def test_a_rest_before_a_keyframe_is_no_loss() -> None:
    decoder = VideoDecoder()
    stream = [
        compressed_video(data, index=index + (100 if index >= 8 else 0)) for index, data in enumerate(PACKETS["h264"])
    ]
    assert len(decoded(decoder, stream)) == 24
    assert decoder.lost == 0


def test_a_stream_of_another_codec_begins_anew() -> None:
    decoder = VideoDecoder()
    decoded(decoder, messages("h264", "foxglove")[:8])
    other = messages("h265", "foxglove")
    with pytest.raises(ImageMessageError, match="does not begin with a keyframe"):
        decoder.bgr(other[11])
    assert list(decoded(decoder, other[12:])) == list(range(4, 12))


def test_after_a_damaged_packet_nothing_is_shown_up_to_the_next_keyframe_and_the_damage_is_told() -> None:
    decoder = VideoDecoder()
    stream = messages("h264", "foxglove")
    decoded(decoder, stream[:3])
    stream[3].data = stream[3].data[: len(stream[3].data) // 2]
    with pytest.raises(ImageMessageError, match="the h264 packet"):
        decoder.bgr(stream[3])
    with pytest.raises(ImageMessageError, match=r"the h264 packet .*; frames are shown from the next keyframe on"):
        decoder.bgr(stream[4])
    assert list(decoded(decoder, stream[8:])) == list(range(16))


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("h264", "h264"),
        ("H264", "h264"),
        ("libx264", "h264"),
        ("libopenh264", "h264"),
        ("h264_nvenc", "h264"),
        ("h264;yuv420p;bgr8;bgr8", "h264"),
        ("h265", "hevc"),
        ("hevc", "hevc"),
        ("libx265", "hevc"),
        (" HEVC_vaapi ;nv12", "hevc"),
    ],
)
def test_a_codec_is_known_by_its_name_and_those_of_its_encoders(name: str, codec: str) -> None:
    assert _packet(ffmpeg_packet(b"", index=0, encoding=name)).codec == codec
    assert _packet(compressed_video(b"", index=0, codec=name)).codec == codec


def test_both_messages_have_a_stamp_and_only_one_a_count() -> None:
    packet = _packet(ffmpeg_packet(b"ab", index=31, pts=7))
    assert (packet.data, packet.stamp_ns, packet.number) == (b"ab", 101_033_333_333, 7)
    packet = _packet(compressed_video(b"ab", index=31))
    assert (packet.data, packet.stamp_ns, packet.number) == (b"ab", 101_033_333_333, None)


@pytest.mark.parametrize(("limit", "fits"), [(4, True), (3, False)])
def test_a_packet_may_be_as_long_as_the_limit(limit: int, fits: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("darkseg_ros.frames.video_packets._PACKET_BYTES_MAX", limit)
    message = compressed_video(b"abcd", index=0)
    if fits:
        assert _packet(message).data == b"abcd"
    else:
        with pytest.raises(ImageMessageError, match="has 4 bytes, expected at most 3"):
            _packet(message)


@pytest.mark.parametrize(
    ("data", "units"),
    [
        (b"", []),
        (b"ab", []),
        (b"\0\0\1", []),
        (b"\0\0\1a", [b"a"]),
        (b"xy\0\0\1ab\0\0\1c", [b"ab", b"c"]),  # what stands before the first start code belongs to none
        (b"\0\0\1\0\0\1c", [b"c"]),
        (b"\0\0\0\1ab\0\0\0\1c", [b"ab\0", b"c"]),
    ],
)
def test_units_stand_between_start_codes(data: bytes, units: list[bytes]) -> None:
    assert list(_units(data)) == units


def test_without_pyav_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ImageMessageError, match=r"video packets need PyAV .*; run `pip install av`"):
        VideoDecoder().bgr(messages("h264", "foxglove")[0])
