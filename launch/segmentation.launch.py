"""Segments one camera: segmentation_node and, unless told otherwise, the overlay to look at.

ros2 launch darkseg_ros segmentation.launch.py image:=/camera/image_raw
"""

from __future__ import annotations

from launch.actions import OpaqueFunction
from launch_ros.actions import Node

from darkseg_ros.nodes.launch_arguments import OF_ONE_CAMERA, Given, shared_arguments
from launch import LaunchContext, LaunchDescription


def _nodes(context: LaunchContext) -> list[Node]:
    given = Given(context)
    segmentation = given.node(
        "segmentation_node",
        parameters=given.parameters("bundle", "backend", "device", "transport"),
        remappings=given.image_remappings(),
        **given.respawning(),
    )
    viewers = given.viewers({given["namespace"]: given["image"]})
    return [segmentation, *given.overlay_nodes(), *viewers]


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments and start the nodes."""
    return LaunchDescription([*shared_arguments(*OF_ONE_CAMERA), OpaqueFunction(function=_nodes)])
