"""Packets of video as cameras send them, for tests."""

from __future__ import annotations

from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import av
import cv2
import numpy as np

ENCODERS = {"h264": "libx264", "h265": "libx265"}


def pictures(count: int, *, height: int = 64, width: int = 96) -> list[np.ndarray]:
    """A camera that pans over a blurred pattern: a frame cannot be guessed from an earlier one."""
    scene = np.random.default_rng(0).integers(0, 256, (height + count, width + 3 * count, 3), np.uint8)
    scene = cv2.GaussianBlur(scene, (0, 0), 2)
    return [np.ascontiguousarray(scene[i : i + height, 3 * i : 3 * i + width]) for i in range(count)]


def encode(
    frames: list[np.ndarray],
    *,
    codec: str = "h264",
    keyframe_every: int = 8,
    b_frames: int = 0,
    references: int = 1,
    parameters: str = "",
) -> list[bytes]:
    """One packet a frame, in Annex B form, in the order of decoding; `parameters` are x265's own."""
    encoder: Any = av.CodecContext.create(ENCODERS[codec], "w")
    encoder.height, encoder.width = frames[0].shape[:2]
    encoder.pix_fmt, encoder.time_base = "yuv420p", Fraction(1, 30)
    encoder.gop_size, encoder.max_b_frames = keyframe_every, b_frames
    encoder.options = {"preset": "ultrafast", "x265-params": f"log-level=none:{parameters}".rstrip(":")}
    if not b_frames:
        encoder.options = {**encoder.options, "tune": "zerolatency", "refs": str(references)}
    packets = []
    for index, bgr in enumerate(frames):
        frame = av.VideoFrame.from_ndarray(bgr, "bgr24")
        frame.pts = index
        packets += encoder.encode(frame)
    return [bytes(packet) for packet in [*packets, *encoder.encode(None)]]


def stamp(index: int) -> SimpleNamespace:
    """Of the frame of that index, at 30 Hz."""
    return SimpleNamespace(sec=100 + index // 30, nanosec=index % 30 * 33_333_333)


def compressed_video(data: bytes, *, index: int, codec: str = "h264") -> SimpleNamespace:
    """A foxglove_msgs/CompressedVideo."""
    return SimpleNamespace(timestamp=stamp(index), frame_id="camera", data=data, format=codec)


def ffmpeg_packet(data: bytes, *, index: int, encoding: str = "libx264", pts: int | None = None) -> SimpleNamespace:
    """An ffmpeg_image_transport_msgs/FFMPEGPacket."""
    return SimpleNamespace(
        header=SimpleNamespace(stamp=stamp(index), frame_id="camera"),
        width=96,
        height=64,
        encoding=encoding,
        pts=index if pts is None else pts,
        flags=0,
        is_bigendian=False,
        data=data,
    )
