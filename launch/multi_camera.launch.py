"""Segments several cameras: for each what segmentation.launch.py starts, in a namespace of the camera's name.

ros2 launch darkseg_ros multi_camera.launch.py cameras:=front,left,right image_topic:=/{camera}/image_raw
"""

from __future__ import annotations

from launch.actions import DeclareLaunchArgument, GroupAction, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare

from launch import LaunchContext, LaunchDescription

_PASSED_ON = ("params_file", "use_sim_time", "transport", "bundle", "backend", "overlay", "respawn", "log_level")
"""Arguments of segmentation.launch.py that are the same for every camera; it checks their values."""


def _cameras(context: LaunchContext) -> list[GroupAction]:
    cameras = [name.strip() for name in LaunchConfiguration("cameras").perform(context).split(",")]
    if not all(cameras) or len(set(cameras)) < len(cameras):
        raise ValueError(f"cameras must be different names with commas between them, got {','.join(cameras)!r}")
    pattern = LaunchConfiguration("image_topic").perform(context)
    if len(cameras) > 1 and "{camera}" not in pattern:
        raise ValueError(f"image_topic must hold {{camera}}, else all would see the same camera; got {pattern!r}")
    one_camera = PathJoinSubstitution([FindPackageShare("darkseg_ros"), "launch", "segmentation.launch.py"])
    shared = {name: LaunchConfiguration(name) for name in _PASSED_ON}
    return [
        # a group of its own: arguments of one camera must not become those of the next
        GroupAction(
            [
                IncludeLaunchDescription(
                    PythonLaunchDescriptionSource([one_camera]),
                    launch_arguments={
                        **shared,
                        "namespace": camera,
                        "image": pattern.replace("{camera}", camera),
                    }.items(),
                )
            ]
        )
        for camera in cameras
    ]


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
                "params_file", default_value=shipped_parameters, description="YAML file of parameters"
            ),
            DeclareLaunchArgument("use_sim_time", default_value="false", description="take the time from /clock"),
            DeclareLaunchArgument(
                "transport", default_value="", description="raw or compressed; empty: as the file says"
            ),
            DeclareLaunchArgument(
                "bundle", default_value="", description="folder of a model bundle; empty: as the file says"
            ),
            DeclareLaunchArgument(
                "backend", default_value="", description="inference library; empty: as the file says"
            ),
            DeclareLaunchArgument("overlay", default_value="false", description="start an overlay_node for each"),
            DeclareLaunchArgument(
                "respawn", default_value="true", description="start a node again that ended or was killed"
            ),
            DeclareLaunchArgument("log_level", default_value="info", description="debug, info, warn, error"),
            OpaqueFunction(function=_cameras),
        ]
    )
