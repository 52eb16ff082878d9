"""Turns one camera's day frames into night frames, and records both when a file is named.

ros2 launch darkseg_ros day2night.launch.py image:=/camera/image_raw record:=night_drive pass_labels:=true \
    label:=/camera/label_map
"""

from __future__ import annotations

import re
import shutil

from launch.actions import DeclareLaunchArgument, ExecuteProcess, OpaqueFunction, Shutdown
from launch_ros.actions import Node

from darkseg_ros.nodes.launch_arguments import (
    FROM_PARAMS_FILE,
    SWITCH,
    Given,
    absolute_topic,
    shared_arguments,
    shipped,
)
from launch import LaunchContext, LaunchDescription


def _actions(context: LaunchContext) -> list[Node | ExecuteProcess]:
    given = Given(context)
    parameters = given.parameters("bundle", "backend", "night_images", "transport")
    if given["seed"] != FROM_PARAMS_FILE:
        if not given["seed"].isdecimal():
            raise ValueError(f"seed must be a whole number from 0 on, got {given['seed']!r}")
        parameters["seed"] = int(given["seed"])
    if given["pass_labels"] != FROM_PARAMS_FILE:
        parameters["pass_labels"] = given.is_on("pass_labels")
    image, namespace = given["image"], given["namespace"]
    node = given.node(
        "day2night_node",
        parameters=parameters,
        remappings=[*given.image_remappings(), ("label", given["label"])],
        **given.respawning(),
    )
    if not given["record"]:
        return [node]
    if shutil.which("ros2") is None:  # launch itself would report a missing program and go on
        raise RuntimeError(
            "record needs `ros2 bag`, and ros2 is not on the PATH; source a ROS 2 installation, or turn a day bag into "
            "night without recording: `darkseg bag to-night`"
        )
    day = image if given["transport"] in (FROM_PARAMS_FILE, "raw") else f"{image}/{given['transport']}"
    topics = [absolute_topic(name, namespace) for name in (day, "day2night_node/night", "day2night_node/label")]
    # an expression instead of names: Jazzy takes names as they are, later ones want --topics before them
    expression = f"^({'|'.join(map(re.escape, topics))})$"
    sim_time = ["--use-sim-time"] if given.is_on("use_sim_time") else []
    recorder = ExecuteProcess(
        cmd=["ros2", "bag", "record", "-s", "mcap", "-o", given["record"], "--regex", expression, *sim_time],
        output="screen",
        on_exit=Shutdown(reason="the recorder ended"),
    )
    return [node, recorder]


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments and start node and recorder."""
    return LaunchDescription(
        [
            *shared_arguments(
                *("namespace", "params_file", "use_sim_time", "image", "label", "transport"),
                *("bundle", "backend", "respawn", "log_level"),
                params_file=shipped("config", "day2night_node.yaml"),
            ),
            DeclareLaunchArgument(
                "pass_labels",
                default_value=FROM_PARAMS_FILE,
                choices=[FROM_PARAMS_FILE, *SWITCH],
                description="publish the label of each night frame; empty: as the file says",
            ),
            DeclareLaunchArgument(
                "night_images",
                default_value=FROM_PARAMS_FILE,
                description="folder of night images to take the light of; empty: as the file says",
            ),
            DeclareLaunchArgument(
                "seed",
                default_value=FROM_PARAMS_FILE,
                description="of the night without a bundle; empty: as the file says",
            ),
            DeclareLaunchArgument(
                "record",
                default_value="",
                description="folder of a new mcap bag of day, night and label; empty: record nothing",
            ),
            OpaqueFunction(function=_actions),
        ]
    )
