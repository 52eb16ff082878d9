"""Turns one camera's day frames into night frames, and records both when a file is named.

ros2 launch darkseg_ros day2night.launch.py image:=/camera/image_raw record:=night_drive pass_labels:=true \
    label:=/camera/label_map
"""

from __future__ import annotations

import re
import shutil
from typing import Any

from launch.actions import DeclareLaunchArgument, ExecuteProcess, OpaqueFunction, Shutdown
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from launch import LaunchContext, LaunchDescription

_FROM_PARAMS_FILE = ""
"""Default of the arguments that, unless given, leave a parameter to the file."""

_SWITCH = ["true", "false", "True", "False"]
"""What an argument that turns something on or off takes: anything else would silently be off."""

_TRANSPORTS = [_FROM_PARAMS_FILE, "raw", "compressed"]

_RESPAWN_DELAY_S = 1.0


def _actions(context: LaunchContext) -> list[Node | ExecuteProcess]:
    def value(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    def is_true(name: str) -> bool:
        return value(name).lower() == "true"

    given: dict[str, Any] = {
        name: value(name)
        for name in ("bundle", "backend", "night_images", "transport")
        if value(name) != _FROM_PARAMS_FILE
    }
    if value("seed") != _FROM_PARAMS_FILE:
        if not value("seed").isdecimal():
            raise ValueError(f"seed must be a whole number from 0 on, got {value('seed')!r}")
        given["seed"] = int(value("seed"))
    if value("pass_labels") != _FROM_PARAMS_FILE:
        given["pass_labels"] = is_true("pass_labels")
    image, namespace = value("image"), value("namespace")
    node = Node(
        package="darkseg_ros",
        executable="day2night_node",
        name="day2night_node",
        namespace=namespace,
        parameters=[LaunchConfiguration("params_file"), {"use_sim_time": is_true("use_sim_time")}, given],
        remappings=[("image", image), ("image/compressed", f"{image}/compressed"), ("label", value("label"))],
        arguments=["--ros-args", "--log-level", LaunchConfiguration("log_level")],
        output="screen",
        respawn=is_true("respawn"),
        respawn_delay=_RESPAWN_DELAY_S,
    )
    if not value("record"):
        return [node]
    if shutil.which("ros2") is None:  # launch itself would report a missing program and go on
        raise RuntimeError(
            "record needs `ros2 bag`, and ros2 is not on the PATH; source a ROS 2 installation, or turn a day bag into "
            "night without recording: `darkseg bag to-night`"
        )
    day = f"{image}/compressed" if value("transport") == "compressed" else image
    topics = [_absolute(name, namespace) for name in (day, "day2night_node/night", "day2night_node/label")]
    # an expression instead of names: Jazzy takes names as they are, later ones want --topics before them
    expression = f"^({'|'.join(map(re.escape, topics))})$"
    sim_time = ["--use-sim-time"] if is_true("use_sim_time") else []
    recorder = ExecuteProcess(
        cmd=["ros2", "bag", "record", "-s", "mcap", "-o", value("record"), "--regex", expression, *sim_time],
        output="screen",
        on_exit=Shutdown(reason="the recorder ended"),
    )
    return [node, recorder]


def _absolute(topic: str, namespace: str) -> str:
    if topic.startswith("/"):
        return topic
    return "/".join(["", *filter(None, namespace.split("/")), topic])


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments and start node and recorder."""
    shipped_parameters = PathJoinSubstitution([FindPackageShare("darkseg_ros"), "config", "day2night_node.yaml"])
    return LaunchDescription(
        [
            DeclareLaunchArgument("namespace", default_value="", description="namespace of the node"),
            DeclareLaunchArgument(
                "params_file", default_value=shipped_parameters, description="YAML file of parameters"
            ),
            DeclareLaunchArgument(
                "use_sim_time", default_value="false", choices=_SWITCH, description="take the time from /clock"
            ),
            DeclareLaunchArgument(
                "image",
                default_value="image",
                description="the day camera's topic; compressed images are taken from <image>/compressed",
            ),
            DeclareLaunchArgument("label", default_value="label", description="topic of the day frames' labels"),
            DeclareLaunchArgument(
                "pass_labels",
                default_value=_FROM_PARAMS_FILE,
                choices=[_FROM_PARAMS_FILE, *_SWITCH],
                description="publish the label of each night frame; empty: as the file says",
            ),
            DeclareLaunchArgument(
                "transport",
                default_value=_FROM_PARAMS_FILE,
                choices=_TRANSPORTS,
                description="raw or compressed, which record has to be told; empty: as the file says",
            ),
            DeclareLaunchArgument(
                "bundle",
                default_value=_FROM_PARAMS_FILE,
                description="folder of a translator's bundle; empty: as the file says",
            ),
            DeclareLaunchArgument(
                "backend",
                default_value=_FROM_PARAMS_FILE,
                description="inference library of the bundle; empty: as the file says",
            ),
            DeclareLaunchArgument(
                "night_images",
                default_value=_FROM_PARAMS_FILE,
                description="folder of night images to take the light of; empty: as the file says",
            ),
            DeclareLaunchArgument(
                "seed",
                default_value=_FROM_PARAMS_FILE,
                description="of the night without a bundle; empty: as the file says",
            ),
            DeclareLaunchArgument(
                "record",
                default_value="",
                description="folder of a new mcap bag of day, night and label; empty: record nothing",
            ),
            DeclareLaunchArgument(
                "respawn",
                default_value="true",
                choices=_SWITCH,
                description="start the node again when it ended or was killed",
            ),
            DeclareLaunchArgument("log_level", default_value="info", description="debug, info, warn, error"),
            OpaqueFunction(function=_actions),
        ]
    )
