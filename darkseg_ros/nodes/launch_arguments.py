"""Arguments that several launch files share, each declared once, and what launch files make of them.

Launch files import this module: `ros2 launch` runs them where the package itself imports, as its nodes do.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from darkseg_ros.nodes.viewer_layouts import foxglove_layout, rviz_config
from darkseg_ros.whole_files import write_whole
from launch import LaunchContext

FROM_PARAMS_FILE = ""
"""Default of the arguments that, unless given, leave a parameter to the file."""

SWITCH = ("true", "false", "True", "False")
"""What an argument that turns something on or off takes: anything else would silently be off."""

_RESPAWN_DELAY_S = 1.0


def shipped(*path: str) -> PathJoinSubstitution:
    """A file of the installed package, such as ``shipped("config", "segmentation_node.yaml")``."""
    return PathJoinSubstitution([FindPackageShare("darkseg_ros"), *path])


_SHARED: Mapping[str, Mapping[str, Any]] = {
    "namespace": {"default_value": "", "description": "namespace of the nodes"},
    "params_file": {
        "default_value": shipped("config", "segmentation_node.yaml"),
        "description": "YAML file of parameters",
    },
    "use_sim_time": {
        "default_value": "false",
        "choices": SWITCH,
        "description": "take the time from /clock; a bag that is played publishes it",
    },
    "image": {
        "default_value": "image",
        "description": "the camera's topic; those of another transport are taken from <image>/compressed and so on",
    },
    "label": {"default_value": "label", "description": "topic of the label maps"},
    "transport": {
        "default_value": FROM_PARAMS_FILE,
        "choices": (FROM_PARAMS_FILE, "raw", "compressed", "ffmpeg", "foxglove"),
        "description": "raw, compressed, ffmpeg or foxglove; empty: as the file says",
    },
    "bundle": {
        "default_value": FROM_PARAMS_FILE,
        "description": "folder of a model bundle, for day2night of a translator's; empty: as the file says",
    },
    "backend": {"default_value": FROM_PARAMS_FILE, "description": "inference library; empty: as the file says"},
    "device": {
        "default_value": FROM_PARAMS_FILE,
        "choices": (FROM_PARAMS_FILE, "auto", "cpu", "cuda"),
        "description": "auto, cpu or cuda; empty: as the file says",
    },
    "overlay": {"default_value": "true", "choices": SWITCH, "description": "start overlay_node as well"},
    "respawn": {
        "default_value": "true",
        "choices": SWITCH,
        "description": "start a node again that ended or was killed",
    },
    "log_level": {"default_value": "info", "description": "debug, info, warn, error"},
    "rviz": {"default_value": "false", "choices": SWITCH, "description": "start RViz with the topics of these nodes"},
    "foxglove_layout": {
        "default_value": "",
        "description": "file to write a Foxglove layout of these topics to; empty: none",
    },
}

VIEWERS = ("rviz", "foxglove_layout")
"""Arguments for those who look on."""

OF_EVERY_CAMERA = tuple(name for name in _SHARED if name not in ("namespace", "image", "label", *VIEWERS))
"""What multi_camera.launch.py passes on to segmentation.launch.py, the same for each camera."""

OF_ONE_CAMERA = ("namespace", "image", *OF_EVERY_CAMERA, *VIEWERS)
"""The arguments of segmentation.launch.py."""


def shared_arguments(*names: str, **defaults: Any) -> list[DeclareLaunchArgument]:
    """Declare some of the shared arguments.

    Args:
        names: of the arguments.
        defaults: another default for some of them. Where `transport` has one, "as the file says" is no choice.
    """
    declared = []
    for name in names:
        options = dict(_SHARED[name])
        if name in defaults:
            options["default_value"] = defaults[name]
            if "choices" in options:
                options["choices"] = [word for word in options["choices"] if word != FROM_PARAMS_FILE]
        declared.append(DeclareLaunchArgument(name, **options))
    return declared


def absolute_topic(topic: str, namespace: str) -> str:
    """What a topic of a launch file is called for a node in a namespace."""
    if topic.startswith("/"):
        return topic
    return "/".join(["", *filter(None, namespace.split("/")), topic])


class Given:
    """The values of the arguments in one launch."""

    def __init__(self, context: LaunchContext) -> None:
        self._context = context

    def __getitem__(self, name: str) -> str:
        return LaunchConfiguration(name).perform(self._context)

    def is_on(self, name: str) -> bool:
        """Whether a switch is on."""
        return self[name].lower() == "true"

    def parameters(self, *names: str) -> dict[str, Any]:
        """Those of the arguments that are not left to the file."""
        return {name: self[name] for name in names if self[name] != FROM_PARAMS_FILE}

    def image_remappings(self, image: str | None = None) -> list[tuple[str, str]]:
        """From the nodes' names of the camera's topics to `image`, or to the argument."""
        topic = self["image"] if image is None else image
        return [("image", topic), ("image/compressed", f"{topic}/compressed")]

    def node(
        self,
        executable: str,
        *,
        parameters: Mapping[str, Any],
        remappings: Sequence[tuple[str, str]],
        namespace: str | None = None,
        **options: Any,
    ) -> Node:
        """One of the package's nodes, with what the shared arguments say of every node.

        Args:
            executable: also the node's name.
            parameters: set beside those of the file.
            remappings: topic of the node → topic.
            namespace: the argument's unless given.
            options: further ones of launch_ros's Node.
        """
        return Node(
            package="darkseg_ros",
            executable=executable,
            name=executable,
            namespace=self["namespace"] if namespace is None else namespace,
            parameters=[self["params_file"], {"use_sim_time": self.is_on("use_sim_time")}, dict(parameters)],
            remappings=list(remappings),
            arguments=["--ros-args", "--log-level", self["log_level"]],
            output="screen",
            **options,
        )

    def respawning(self) -> dict[str, Any]:
        """Options of a node that `respawn` starts again."""
        return {"respawn": self.is_on("respawn"), "respawn_delay": _RESPAWN_DELAY_S}

    def viewers(self, images: Mapping[str, str], *, one_engine: bool = False) -> list[Node]:
        """RViz if `rviz` is on; writes the layout that `foxglove_layout` names.

        Args:
            images: the namespace of each camera's nodes → the camera's topic.
            one_engine: whether one segmentation_node serves all; the namespaces are then its names of the cameras.
        """
        pattern = self["foxglove_layout"]
        if pattern and len(images) > 1 and "{camera}" not in pattern:
            raise ValueError(f"foxglove_layout must hold {{camera}}, a file for each; got {pattern!r}")
        for namespace, image in images.items() if pattern else ():
            layout = foxglove_layout(
                namespace=namespace,
                image_topic=absolute_topic(image, "" if one_engine else namespace),
                camera=namespace if one_engine else "",
            )
            write_whole(Path(pattern.replace("{camera}", namespace)), layout.encode())
        if not self.is_on("rviz"):
            return []
        with tempfile.NamedTemporaryFile("w", prefix="darkseg_", suffix=".rviz", delete=False) as config:
            config.write(rviz_config(list(images)))
        return [Node(package="rviz2", executable="rviz2", name="rviz2", arguments=["-d", config.name], output="screen")]

    def overlay_nodes(self, *, image: str | None = None, namespace: str | None = None) -> list[Node]:
        """The overlay_node of a camera if `overlay` is on, beside the segmentation_node of that namespace."""
        if not self.is_on("overlay"):
            return []
        return [
            self.node(
                "overlay_node",
                parameters=self.parameters("bundle", "transport"),
                remappings=[*self.image_remappings(image), ("class_map", "segmentation_node/class_map")],
                namespace=namespace,
                **self.respawning(),
            )
        ]
