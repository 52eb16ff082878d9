"""Plays a labelled bag to segmentation_node, scores its class maps and ends with a report.

ros2 launch darkseg_ros evaluate_bag.launch.py bag:=night_drive output:=report

Without ROS, and with every frame of the bag, whatever the machine's speed: `darkseg evaluate`.
"""

from __future__ import annotations

from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    ExecuteProcess,
    OpaqueFunction,
    RegisterEventHandler,
    Shutdown,
    TimerAction,
)
from launch.event_handlers import OnProcessExit
from launch.events import matches_action
from launch.events.process import ShutdownProcess
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import ExecutableInPackage, FindPackageShare

from launch import LaunchContext, LaunchDescription

_FROM_PARAMS_FILE = ""
"""Default of the arguments that, unless given, leave a parameter to the file."""

_SWITCH = ["true", "false", "True", "False"]
"""What an argument that turns something on or off takes: anything else would silently be off."""

_LAST_FRAMES_S = 3.0
"""From the end of the bag until the report is written: frames on their way are still scored."""

_REPORT_S = "120"
"""Time to write the report before launch loses patience."""


def _actions(context: LaunchContext) -> list[Node | ExecuteProcess | RegisterEventHandler]:
    def value(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    def given(*names: str) -> dict[str, str]:
        return {name: value(name) for name in names if value(name) != _FROM_PARAMS_FILE}

    transport = {"transport": value("transport")}
    simulated = value("use_sim_time").lower() == "true"
    use_sim_time = {"use_sim_time": simulated}
    namespace, params_file = value("namespace"), LaunchConfiguration("params_file")
    log_level = ["--ros-args", "--log-level", LaunchConfiguration("log_level")]
    image, label = value("image"), value("label")
    image_remappings = [("image", image), ("image/compressed", f"{image}/compressed")]

    segmentation = Node(
        package="darkseg_ros",
        executable="segmentation_node",
        name="segmentation_node",
        namespace=namespace,
        parameters=[params_file, use_sim_time, given("bundle", "backend"), transport],
        remappings=image_remappings,
        arguments=log_level,
        output="screen",
    )
    evaluation = Node(
        package="darkseg_ros",
        executable="evaluation_node",
        name="evaluation_node",
        namespace=namespace,
        parameters=[params_file, use_sim_time, {"output": value("output"), **transport}],
        remappings=[*image_remappings, ("class_map", "segmentation_node/class_map"), ("label", label)],
        arguments=log_level,
        output="screen",
        sigterm_timeout=_REPORT_S,
        on_exit=Shutdown(reason="the evaluation ended"),
    )
    prefix = "/".join(["", *filter(None, namespace.split("/"))]).rstrip("/")
    player = ExecuteProcess(
        cmd=[
            ExecutableInPackage("darkseg", "darkseg_ros"),
            *("bag", "play", value("bag"), "--rate", value("rate")),
            *("--topic", f"{image}/compressed" if value("transport") == "compressed" else image),
            *("--topic", label),
            # opening the engine takes seconds; without this the first frames would be lost
            *("--wait-for", f"{prefix}/segmentation_node", "--wait-for", f"{prefix}/evaluation_node"),
            *(("--clock",) if simulated else ()),
        ],
        output="screen",
    )
    report = EmitEvent(event=ShutdownProcess(process_matcher=matches_action(evaluation)))
    at_the_end = OnProcessExit(target_action=player, on_exit=[TimerAction(period=_LAST_FRAMES_S, actions=[report])])
    return [segmentation, evaluation, player, RegisterEventHandler(at_the_end)]


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments, start nodes and player, and end with the bag."""
    shipped_parameters = PathJoinSubstitution([FindPackageShare("darkseg_ros"), "config", "segmentation_node.yaml"])
    return LaunchDescription(
        [
            DeclareLaunchArgument("bag", description="rosbag2 bag with camera images and label maps"),
            DeclareLaunchArgument("output", description="folder for the report"),
            DeclareLaunchArgument("rate", default_value="1.0", description="2.0 plays twice as fast as recorded"),
            DeclareLaunchArgument("namespace", default_value="", description="namespace of the nodes"),
            DeclareLaunchArgument(
                "params_file", default_value=shipped_parameters, description="YAML file of parameters"
            ),
            DeclareLaunchArgument(
                "use_sim_time",
                default_value="false",
                choices=_SWITCH,
                description="take the time from the bag, by way of /clock",
            ),
            DeclareLaunchArgument(
                "image",
                default_value="/camera/image_raw",
                description="the bag's image topic; compressed images are taken from <image>/compressed",
            ),
            DeclareLaunchArgument(
                "label", default_value="/camera/label_map", description="the bag's topic of label maps"
            ),
            DeclareLaunchArgument(
                "transport",
                default_value="raw",
                choices=["raw", "compressed"],
                description="which of the bag's images to play: raw or compressed",
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
            DeclareLaunchArgument("log_level", default_value="info", description="debug, info, warn, error"),
            OpaqueFunction(function=_actions),
        ]
    )
