"""Segments several cameras: for each what segmentation.launch.py starts, in a namespace of the camera's name.

ros2 launch darkseg_ros multi_camera.launch.py cameras:=front,left,right image_topic:=/{camera}/image_raw

With one_engine:=true one segmentation_node serves all of them, with one engine in memory: right for a GPU, and where
memory is short. The topics are the same; a fault of that process is then a fault of all cameras.
"""

from __future__ import annotations

from typing import Any

from launch.actions import DeclareLaunchArgument, GroupAction, IncludeLaunchDescription, OpaqueFunction
from launch.conditions import IfCondition
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from launch import LaunchContext, LaunchDescription

_PASSED_ON = ("params_file", "use_sim_time", "transport", "bundle", "backend", "overlay", "respawn", "log_level")
"""Arguments of segmentation.launch.py that are the same for every camera."""

_SWITCH = ["true", "false", "True", "False"]
"""What an argument that turns something on or off takes: anything else would silently be off."""

_TRANSPORTS = ["", "raw", "compressed"]

_RESPAWN_DELAY_S = 1.0


def _cameras(context: LaunchContext) -> list[GroupAction] | list[Node]:
    cameras = [name.strip() for name in LaunchConfiguration("cameras").perform(context).split(",")]
    if not all(cameras) or len(set(cameras)) < len(cameras):
        raise ValueError(f"cameras must be different names with commas between them, got {','.join(cameras)!r}")
    pattern = LaunchConfiguration("image_topic").perform(context)
    if len(cameras) > 1 and "{camera}" not in pattern:
        raise ValueError(f"image_topic must hold {{camera}}, else all would see the same camera; got {pattern!r}")
    images = {camera: pattern.replace("{camera}", camera) for camera in cameras}
    if LaunchConfiguration("one_engine").perform(context).lower() == "true":
        return _one_engine(context, images)
    return _engine_each(images)


def _engine_each(images: dict[str, str]) -> list[GroupAction]:
    one_camera = PathJoinSubstitution([FindPackageShare("darkseg_ros"), "launch", "segmentation.launch.py"])
    shared = {name: LaunchConfiguration(name) for name in _PASSED_ON}
    return [
        # a group of its own: arguments of one camera must not become those of the next
        GroupAction(
            [
                IncludeLaunchDescription(
                    PythonLaunchDescriptionSource([one_camera]),
                    launch_arguments={**shared, "namespace": camera, "image": image}.items(),
                )
            ]
        )
        for camera, image in images.items()
    ]


def _one_engine(context: LaunchContext, images: dict[str, str]) -> list[Node]:
    def given(*names: str) -> dict[str, Any]:
        values = {name: LaunchConfiguration(name).perform(context) for name in names}
        return {name: value for name, value in values.items() if value}

    params_file = LaunchConfiguration("params_file")
    use_sim_time = {"use_sim_time": LaunchConfiguration("use_sim_time").perform(context).lower() == "true"}
    of_all: dict[str, Any] = {
        "package": "darkseg_ros",
        "arguments": ["--ros-args", "--log-level", LaunchConfiguration("log_level")],
        "output": "screen",
        "respawn": LaunchConfiguration("respawn").perform(context).lower() == "true",
        "respawn_delay": _RESPAWN_DELAY_S,
    }
    remappings = []
    for camera, image in images.items():
        remappings += [(f"{camera}/image", image), (f"{camera}/image/compressed", f"{image}/compressed")]
        remappings += [
            (f"~/{camera}/{answer}", f"{camera}/segmentation_node/{answer}")
            for answer in ("class_map", "confidence", "label_info")
        ]
    segmentation = Node(
        executable="segmentation_node",
        name="segmentation_node",
        parameters=[params_file, use_sim_time, given("bundle", "backend", "transport"), {"cameras": list(images)}],
        remappings=remappings,
        **of_all,
    )
    overlays = [
        Node(
            executable="overlay_node",
            name="overlay_node",
            namespace=camera,
            parameters=[params_file, use_sim_time, given("transport")],
            remappings=[
                ("image", image),
                ("image/compressed", f"{image}/compressed"),
                ("class_map", "segmentation_node/class_map"),
            ],
            condition=IfCondition(LaunchConfiguration("overlay")),
            **of_all,
        )
        for camera, image in images.items()
    ]
    return [segmentation, *overlays]


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments and start the nodes of each camera."""
    shipped_parameters = PathJoinSubstitution([FindPackageShare("darkseg_ros"), "config", "segmentation_node.yaml"])
    return LaunchDescription(
        [
            DeclareLaunchArgument("cameras", description="names, such as front,left,right"),
            DeclareLaunchArgument(
                "image_topic",
                default_value="/{camera}/image_raw",
                description="topic of each camera, with {camera} for its name",
            ),
            DeclareLaunchArgument(
                "one_engine",
                default_value="false",
                choices=_SWITCH,
                description="one segmentation_node for all cameras instead of one for each",
            ),
            DeclareLaunchArgument(
                "params_file", default_value=shipped_parameters, description="YAML file of parameters"
            ),
            DeclareLaunchArgument(
                "use_sim_time", default_value="false", choices=_SWITCH, description="take the time from /clock"
            ),
            DeclareLaunchArgument(
                "transport",
                default_value="",
                choices=_TRANSPORTS,
                description="raw or compressed; empty: as the file says",
            ),
            DeclareLaunchArgument(
                "bundle", default_value="", description="folder of a model bundle; empty: as the file says"
            ),
            DeclareLaunchArgument(
                "backend", default_value="", description="inference library; empty: as the file says"
            ),
            DeclareLaunchArgument(
                "overlay", default_value="false", choices=_SWITCH, description="start an overlay_node for each"
            ),
            DeclareLaunchArgument(
                "respawn",
                default_value="true",
                choices=_SWITCH,
                description="start a node again that ended or was killed",
            ),
            DeclareLaunchArgument("log_level", default_value="info", description="debug, info, warn, error"),
            OpaqueFunction(function=_cameras),
        ]
    )
