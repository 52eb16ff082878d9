"""Small videos for tests."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

_CODECS = {".mp4": "mpeg4", ".avi": "mjpeg", ".mkv": "ffv1", ".ts": "mpeg2video"}


def write_video(
    path: Path,
    *,
    frames: int,
    rate_hz: float = 10.0,
    size_hw: tuple[int, int] = (48, 64),
    times_ms: Sequence[int] | None = None,
    codec: str | None = None,
    codec_options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    rotation: int = 0,
) -> Path:
    """Write grey frames of level 20 × index, modulo 240.

    Args:
        path: its suffix chooses container and codec: MPEG-4, MJPG, FFV1 (lossless), MPEG-2.
        frames: how many.
        rate_hz: at a constant rate.
        size_hw: of each frame.
        times_ms: the times of the frames, in the place of the rate.
        codec: another codec.
        codec_options: for the encoder.
        container_options: for the muxer.
        rotation: counterclockwise degrees, told to players.
    """
    height, width = size_hw
    name = codec or _CODECS[path.suffix]
    with av.open(str(path), "w", container_options=container_options) as container:
        stream: Any = container.add_stream(name, rate=Fraction(rate_hz), options=codec_options)
        stream.width, stream.height = width, height
        stream.pix_fmt = {"mjpeg": "yuvj420p", "ffv1": "bgr0"}.get(name, "yuv420p")
        if times_ms is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        if rotation:
            stream.set_display_rotation(rotation)
        container.start_encoding()
        for index in range(frames):
            grey = np.full((height, width, 3), 20 * index % 240, np.uint8)
            frame = av.VideoFrame.from_ndarray(grey, format="bgr24")
            if times_ms is not None:
                frame.pts, frame.time_base = times_ms[index], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path
