"""The parameters of segmentation_node: meaning, default, range, and which of them are live."""

from __future__ import annotations

import re
from dataclasses import dataclass

from darkseg_ros.errors import InputError
from darkseg_ros.model.backends import BACKENDS, DEVICES
from darkseg_ros.nodes.image_subscription import transport_choice
from darkseg_ros.nodes.parameters import choice, integer, number, switch, text, texts
from darkseg_ros.stream.camera_guard import FLAG, SILENCE, UNLABEL

_CAMERAS_MAX = 16


@dataclass(frozen=True)
class SegmentationParameters:
    """All of them; replaced as a whole when a live one changes, so that threads need no lock."""

    autostart: bool = switch(True, means="Configure and activate at start; false leaves that to a lifecycle manager.")
    bundle: str = text(
        "", values="folder", means="Folder of the model bundle, or the name of a shipped one; empty: darkseg_slim."
    )
    backend: str = text(
        "auto",
        values=", ".join(name for name in BACKENDS if name != "fake"),
        means="Inference library; auto says which one it took.",
    )
    device: str = choice(
        "auto",
        choices=DEVICES,
        means="cuda: the first visible GPU; cpu; auto takes the GPU if the backend can use it, else the CPU.",
    )
    threads: int = integer(
        0,
        low=0,
        high=256,
        means="CPU threads of the engine. 0: OpenVINO takes the fastest number, measured at the first start and kept; "
        "ONNX Runtime takes its own choice.",
    )
    transport: str = transport_choice()
    cameras: tuple[str, ...] = texts(
        values=f"up to {_CAMERAS_MAX} names",
        means="Names of the cameras that share the engine, such as front and rear: front/image in, ~/front/class_map "
        "and the others out, a status each. One empty name: one camera, topics without a name.",
    )
    batch_window_ms: int = integer(
        0,
        low=0,
        high=100,
        live=True,
        means="How long a frame waits for frames of other cameras, where the engine computes several at once, as a "
        "plan built with --batch does; 0 takes what is there.",
    )
    min_confidence: float = number(
        0.0, low=0.0, high=1.0, live=True, means="Pixels of less confidence become 255 (unlabelled); 0 keeps all."
    )
    smoothing_frames: int = integer(
        0,
        low=0,
        high=15,
        live=True,
        means="Number of frames that vote for a pixel's class; 0 turns it off. A change shows with the ⌈n/2⌉-th frame.",
    )
    on_unhealthy_camera: str = choice(
        FLAG,
        choices=(FLAG, UNLABEL, SILENCE),
        live=True,
        means="While the camera is dark, over-exposed, blocked or frozen: flag says so on /diagnostics only, unlabel "
        "makes all pixels 255, silence publishes no class map.",
    )
    max_age_ms: int = integer(
        0,
        low=0,
        high=60_000,
        live=True,
        means="Frames stamped longer ago are dropped before inference; 0 serves frames of any age.",
    )
    max_future_ms: int = integer(
        1000,
        low=0,
        high=3_600_000,
        live=True,
        means="Frames stamped further ahead of the node's clock are dropped, because the clocks differ; 0 serves all.",
    )
    stale_after_ms: int = integer(
        1000,
        low=0,
        high=600_000,
        live=True,
        means="STALE when no image came, ERROR when no class map left for so long; 0: never.",
    )
    engine_timeout_ms: int = integer(
        1000, low=0, high=600_000, live=True, means="ERROR when the engine takes longer for one batch; 0: never."
    )


_TOPIC_TOKEN = re.compile(r"[A-Za-z](_?[A-Za-z0-9])*_?")
"""A part of a topic's name: letters, digits and single underscores, no digit first."""


def check_camera_names(names: tuple[str, ...]) -> None:
    """Check the parameter `cameras`.

    Raises:
        InputError: if they cannot be parts of topics, are not distinct, or too many.
    """
    if names == ("",):
        return
    if not 1 <= len(names) <= _CAMERAS_MAX:
        raise InputError(f"cameras has {len(names)} names, expected 1…{_CAMERAS_MAX}; start another node for more")
    for name in names:
        if not _TOPIC_TOKEN.fullmatch(name):
            raise InputError(
                f"cameras has the name {name!r}; expected letters, digits and single underscores, a letter first, as "
                "in a topic's name"
            )
    if len(set(names)) < len(names):
        raise InputError(f"cameras must be distinct, got {', '.join(names)}")
