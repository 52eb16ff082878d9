"""The parameters of segmentation_node: meaning, default, range, and which of them are live."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from rcl_interfaces.msg import ParameterDescriptor
from rclpy.node import Node

from darkseg_ros.errors import InputError
from darkseg_ros.model.backends import BACKENDS
from darkseg_ros.nodes.image_subscription import TRANSPORT_CHOICES, TRANSPORT_PARAMETER
from darkseg_ros.nodes.parameters import (
    fixed,
    fixed_integer,
    live_choice,
    live_integer,
    live_number,
    refuse_other_choices,
)
from darkseg_ros.stream.camera_guard import FLAG, SILENCE, UNLABEL

CHOICES = {
    **TRANSPORT_CHOICES,
    "on_unhealthy_camera": (FLAG, UNLABEL, SILENCE),
}
"""The parameters that are one of some words."""

_PARAMETERS: tuple[tuple[str, Any, ParameterDescriptor], ...] = (
    ("autostart", True, fixed("Configure and activate at start; false leaves that to a lifecycle manager.")),
    ("bundle", "", fixed("Folder of the model bundle; empty means the one that is shipped.")),
    ("backend", "auto", fixed(f"Inference library: {', '.join(BACKENDS)}. auto says which one it took.")),
    (
        "threads",
        0,
        fixed_integer(
            "CPU threads of the engine. 0: OpenVINO takes the fastest number, measured at the first start and kept; "
            "ONNX Runtime its own choice.",
            low=0,
            high=256,
        ),
    ),
    TRANSPORT_PARAMETER,
    (
        "cameras",
        [""],  # an empty list has no type in ROS
        fixed("Names of the cameras that share the engine, such as front and rear; one empty name: topics without."),
    ),
    (
        "batch_window_ms",
        0,
        live_integer(
            "So long a frame may wait for those of other cameras, where the engine computes several at once, as a plan "
            "built with --batch does; 0 takes what is there.",
            low=0,
            high=100,
        ),
    ),
    (
        "min_confidence",
        0.0,
        live_number("Pixels of less confidence become 255 (unlabelled); 0 keeps all.", low=0.0, high=1.0),
    ),
    (
        "smoothing_frames",
        0,
        live_integer(
            "Each pixel's class is voted for by so many frames; adds lag at edges that move; 0 = off.", low=0, high=15
        ),
    ),
    (
        "on_unhealthy_camera",
        FLAG,
        live_choice(
            "While the camera is dark, over-exposed, blocked or frozen: flag says so on /diagnostics only, "
            "unlabel makes all pixels 255, silence publishes no class map.",
            choices=CHOICES["on_unhealthy_camera"],
        ),
    ),
    (
        "max_age_ms",
        0,
        live_integer("Frames stamped longer ago are dropped before inference; 0 serves all.", low=0, high=60_000),
    ),
    (
        "max_future_ms",
        1000,
        live_integer(
            "Frames stamped further ahead of the node's clock are dropped: the clocks differ; 0 serves all.",
            low=0,
            high=3_600_000,
        ),
    ),
    (
        "stale_after_ms",
        1000,
        live_integer(
            "STALE when no image came, ERROR when no class map left for so long; 0 = never.", low=0, high=600_000
        ),
    ),
    (
        "engine_timeout_ms",
        1000,
        live_integer("ERROR when one batch takes the engine longer; 0 = never.", low=0, high=600_000),
    ),
)

_CAMERAS_MAX = 16

_TOPIC_TOKEN = re.compile(r"[A-Za-z](_?[A-Za-z0-9])*_?")
"""A part of a topic's name: letters, digits and single underscores, no digit first."""


@dataclass(frozen=True)
class LiveSettings:
    """The parameters that may change at run time; replaced as a whole, so that threads need no lock."""

    batch_window_ms: int
    min_confidence: float
    smoothing_frames: int
    on_unhealthy_camera: str
    max_age_ms: int
    max_future_ms: int
    stale_after_ms: int
    engine_timeout_ms: int

    @classmethod
    def of(cls, node: Node) -> LiveSettings:
        """The values in force."""
        return cls(
            batch_window_ms=node.get_parameter("batch_window_ms").value,
            min_confidence=node.get_parameter("min_confidence").value,
            smoothing_frames=node.get_parameter("smoothing_frames").value,
            on_unhealthy_camera=node.get_parameter("on_unhealthy_camera").value,
            max_age_ms=node.get_parameter("max_age_ms").value,
            max_future_ms=node.get_parameter("max_future_ms").value,
            stale_after_ms=node.get_parameter("stale_after_ms").value,
            engine_timeout_ms=node.get_parameter("engine_timeout_ms").value,
        )


def declare_parameters(node: Node) -> None:
    """Declare all of them; raises rclpy's ParameterException for a value of a wrong type or out of range."""
    for name, default, descriptor in _PARAMETERS:
        node.declare_parameter(name, default, descriptor)
    refuse_other_choices(node, CHOICES)


def camera_names(node: Node) -> tuple[str, ...]:
    """The names of the cameras; one empty name where the node has a single camera.

    Raises:
        InputError: if they cannot be parts of topics, are not distinct, or too many.
    """
    names = tuple(node.get_parameter("cameras").value)
    if names == ("",):
        return names
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
    return names
