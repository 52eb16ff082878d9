"""Segments one camera: segmentation_node and, unless told otherwise, the overlay to look at.

ros2 launch darkseg_ros segmentation.launch.py image:=/camera/image_raw
"""

from __future__ import annotations

from typing import Any

from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.conditions import IfCondition
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


def _nodes(context: LaunchContext) -> list[Node]:
    def given(*names: str) -> dict[str, Any]:
        values = {name: LaunchConfiguration(name).perform(context) for name in names}
        return {name: value for name, value in values.items() if value != _FROM_PARAMS_FILE}

    image = LaunchConfiguration("image").perform(context)
    namespace = LaunchConfiguration("namespace")
    params_file = LaunchConfiguration("params_file")
    use_sim_time = {"use_sim_time": LaunchConfiguration("use_sim_time").perform(context).lower() == "true"}
    log_level = ["--ros-args", "--log-level", LaunchConfiguration("log_level")]
    respawn = LaunchConfiguration("respawn").perform(context).lower() == "true"
    image_remappings = [("image", image), ("image/compressed", f"{image}/compressed")]
    return [
        Node(
            package="darkseg_ros",
            executable="segmentation_node",
            name="segmentation_node",
            namespace=namespace,
            parameters=[params_file, use_sim_time, given("bundle", "backend", "transport")],
            remappings=image_remappings,
            arguments=log_level,
            output="screen",
            respawn=respawn,
            respawn_delay=_RESPAWN_DELAY_S,
        ),
        Node(
            package="darkseg_ros",
            executable="overlay_node",
            name="overlay_node",
            namespace=namespace,
            parameters=[params_file, use_sim_time, given("transport")],
            remappings=[*image_remappings, ("class_map", "segmentation_node/class_map")],
            arguments=log_level,
            output="screen",
            respawn=respawn,
            respawn_delay=_RESPAWN_DELAY_S,
            condition=IfCondition(LaunchConfiguration("overlay")),
        ),
    ]


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments and start the nodes."""
    shipped_parameters = PathJoinSubstitution([FindPackageShare("darkseg_ros"), "config", "segmentation_node.yaml"])
    return LaunchDescription(
        [
            DeclareLaunchArgument("namespace", default_value="", description="namespace of the nodes"),
            DeclareLaunchArgument(
                "params_file", default_value=shipped_parameters, description="YAML file of parameters"
            ),
            DeclareLaunchArgument(
                "use_sim_time", default_value="false", choices=_SWITCH, description="take the time from /clock"
            ),
            DeclareLaunchArgument(
                "image",
                default_value="image",
                description="the camera's topic; compressed images are taken from <image>/compressed",
            ),
            DeclareLaunchArgument(
                "transport",
                default_value=_FROM_PARAMS_FILE,
                choices=_TRANSPORTS,
                description="raw or compressed; empty: as the file says",
            ),
            DeclareLaunchArgument(
                "bundle",
                default_value=_FROM_PARAMS_FILE,
                description="folder of a model bundle; empty: as the file says",
            ),
            DeclareLaunchArgument(
                "backend",
                default_value=_FROM_PARAMS_FILE,
                description="inference library; empty: as the file says",
            ),
            DeclareLaunchArgument(
                "overlay", default_value="true", choices=_SWITCH, description="start overlay_node as well"
            ),
            DeclareLaunchArgument(
                "respawn",
                default_value="true",
                choices=_SWITCH,
                description="start a node again that ended or was killed",
            ),
            DeclareLaunchArgument("log_level", default_value="info", description="debug, info, warn, error"),
            OpaqueFunction(function=_nodes),
        ]
    )
