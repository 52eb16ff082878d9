"""Plays a labelled bag to segmentation_node, scores its class maps and ends with a report.

ros2 launch darkseg_ros evaluate_bag.launch.py bag:=night_drive output:=report

With lockstep:=true every frame of the bag is scored, whatever the machine's speed, and the figures are those of
`darkseg evaluate`, which does it without ROS.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

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
from launch_ros.actions import Node
from launch_ros.substitutions import ExecutableInPackage

from darkseg_ros.nodes.launch_arguments import SWITCH, Given, shared_arguments
from launch import LaunchContext, LaunchDescription

_LAST_FRAMES_S = 3.0
"""From the end of the bag until the report is written: frames on their way are still scored."""

_REPORT_S = "120"
"""Time to write the report before launch loses patience."""


def _actions(context: LaunchContext) -> list[Node | ExecuteProcess | RegisterEventHandler]:
    given = Given(context)
    bag, label = given["bag"], given["label"]
    if not Path(bag).exists():
        raise FileNotFoundError(f"there is no bag {bag}; name the folder or file of a rosbag2 bag")
    transport = {"transport": given["transport"]}
    segmentation = given.node(
        "segmentation_node",
        parameters={**given.parameters("bundle", "backend", "device"), **transport},
        remappings=given.image_remappings(),
    )
    thresholds = {name: _parts(given[name]) for name in ("at_least", "at_most") if given[name]}
    evaluation = given.node(
        "evaluation_node",
        parameters={**given.parameters("bundle"), "output": given["output"], **thresholds, **transport},
        remappings=[*given.image_remappings(), ("class_map", "segmentation_node/class_map"), ("label", label)],
        sigterm_timeout=_REPORT_S,
    )
    prefix = "/".join(["", *filter(None, given["namespace"].split("/"))]).rstrip("/")
    image = given["image"]
    player = ExecuteProcess(
        cmd=[
            ExecutableInPackage("darkseg", "darkseg_ros"),
            *("bag", "play", bag, "--rate", given["rate"]),
            *("--topic", image if given["transport"] == "raw" else f"{image}/{given['transport']}"),
            *("--topic", label),
            # opening the engine takes seconds; without this the first frames would be lost
            *("--wait-for", f"{prefix}/segmentation_node", "--wait-for", f"{prefix}/evaluation_node"),
            *(("--clock",) if given.is_on("use_sim_time") else ()),
            *(("--lockstep", f"{prefix}/evaluation_node/taken") if given.is_on("lockstep") else ()),
        ],
        output="screen",
    )
    report = EmitEvent(event=ShutdownProcess(process_matcher=matches_action(evaluation)))
    end_with_report = [TimerAction(period=_LAST_FRAMES_S, actions=[report])]
    return [
        segmentation,
        evaluation,
        player,
        _at_the_end_of(player, "the player", then=end_with_report),
        _at_the_end_of(segmentation, "segmentation_node", then=[]),
        _at_the_end_of(evaluation, "evaluation_node", then=[Shutdown(reason="the evaluation ended")]),
    ]


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")]


def _at_the_end_of(process: ExecuteProcess, name: str, *, then: list[Any]) -> RegisterEventHandler:
    """Go on where the process ended well, else end launch with a status other than 0."""

    def judge(event: Any, context: LaunchContext) -> list[Any]:
        if event.returncode != 0 and not context.is_shutdown:
            # raised in a handler it makes `ros2 launch` end everything, and end with status 1
            raise RuntimeError(f"{name} ended with status {event.returncode}; its last lines say why")
        return then

    on_exit: Callable[[Any, LaunchContext], list[Any]] = judge
    return RegisterEventHandler(OnProcessExit(target_action=process, on_exit=on_exit))


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments, start nodes and player, and end with the bag."""
    return LaunchDescription(
        [
            DeclareLaunchArgument("bag", description="rosbag2 bag with camera images and label maps"),
            DeclareLaunchArgument("output", description="folder for the report"),
            DeclareLaunchArgument("rate", default_value="1.0", description="2.0 plays twice as fast as recorded"),
            DeclareLaunchArgument(
                "lockstep",
                default_value="false",
                choices=SWITCH,
                description="play each frame when the one before was scored: none is dropped, whatever the speed",
            ),
            DeclareLaunchArgument(
                "at_least",
                default_value="",
                description="thresholds, such as miou_present=0.2,frames_in=100; launch fails where one is missed",
            ),
            DeclareLaunchArgument(
                "at_most", default_value="", description="the same for upper limits, such as latency_p99_ms=50"
            ),
            *shared_arguments(
                *("namespace", "params_file", "use_sim_time", "image", "label", "transport"),
                *("bundle", "backend", "device", "log_level"),
                image="/camera/image_raw",
                label="/camera/label_map",
                transport="raw",
            ),
            OpaqueFunction(function=_actions),
        ]
    )
