"""Segments several cameras: for each what segmentation.launch.py starts, in a namespace of the camera's name.

ros2 launch darkseg_ros multi_camera.launch.py cameras:=front,left,right image_topic:=/{camera}/image_raw

With one_engine:=true one segmentation_node serves all of them, with one engine in memory: right for a GPU, and where
memory is short. The topics are the same; a fault of that process is then a fault of all cameras.
"""

from __future__ import annotations

from launch.actions import DeclareLaunchArgument, GroupAction, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from darkseg_ros.nodes.launch_arguments import OF_EVERY_CAMERA, SWITCH, VIEWERS, Given, shared_arguments, shipped
from launch import LaunchContext, LaunchDescription


def _cameras(context: LaunchContext) -> list[GroupAction | Node]:
    given = Given(context)
    cameras = [name.strip() for name in given["cameras"].split(",")]
    if not all(cameras) or len(set(cameras)) < len(cameras):
        raise ValueError(f"cameras must be different names with commas between them, got {','.join(cameras)!r}")
    pattern = given["image_topic"]
    if len(cameras) > 1 and "{camera}" not in pattern:
        raise ValueError(f"image_topic must hold {{camera}}, else all would see the same camera; got {pattern!r}")
    images = {camera: pattern.replace("{camera}", camera) for camera in cameras}
    one_engine = given.is_on("one_engine")
    nodes = _one_engine(given, images) if one_engine else _engine_each(images)
    return [*nodes, *given.viewers(images, one_engine=one_engine)]


def _engine_each(images: dict[str, str]) -> list[GroupAction | Node]:
    shared = {name: LaunchConfiguration(name) for name in OF_EVERY_CAMERA}
    return [
        # a group of its own: arguments of one camera must not become those of the next
        GroupAction(
            [
                IncludeLaunchDescription(
                    PythonLaunchDescriptionSource([shipped("launch", "segmentation.launch.py")]),
                    launch_arguments={**shared, "namespace": camera, "image": image}.items(),
                )
            ]
        )
        for camera, image in images.items()
    ]


def _one_engine(given: Given, images: dict[str, str]) -> list[GroupAction | Node]:
    remappings = []
    for camera, image in images.items():
        remappings += [(f"{camera}/{topic}", to) for topic, to in given.image_remappings(image)]
        remappings += [
            (f"~/{camera}/{answer}", f"{camera}/segmentation_node/{answer}")
            for answer in ("class_map", "confidence", "color_mask", "label_info")
        ]
    segmentation = given.node(
        "segmentation_node",
        parameters={**given.parameters("bundle", "backend", "device", "transport"), "cameras": list(images)},
        remappings=remappings,
        namespace="",
        **given.respawning(),
    )
    overlays = [
        overlay for camera, image in images.items() for overlay in given.overlay_nodes(image=image, namespace=camera)
    ]
    return [segmentation, *overlays]


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments and start the nodes of each camera."""
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
                choices=SWITCH,
                description="one segmentation_node for all cameras instead of one for each",
            ),
            *shared_arguments(*OF_EVERY_CAMERA, *VIEWERS, overlay="false"),
            OpaqueFunction(function=_cameras),
        ]
    )
