"""The command line of a node: ``--help`` tells its topics and parameters, everything else is ROS's."""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from rclpy.node import Node
from rclpy.utilities import remove_ros_args

from darkseg_ros.errors import DarksegError
from darkseg_ros.nodes.middleware import run_node
from darkseg_ros.nodes.parameters import Declaration, declarations

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_Node = TypeVar("_Node", bound=Node)

_INDENT = " " * 6
_WIDTH = 100


def node_main(
    name: str,
    create: Callable[[], _Node],
    parameters: type[DataclassInstance],
    *,
    about: str,
    process_failure: Callable[[_Node], DarksegError | None] = lambda node: None,
) -> int:
    """Entry point of a node.

    Args:
        name: of the executable.
        create: makes the node.
        parameters: the class that declares them.
        about: what the node does, with its topics.
        process_failure: as of `run_node`.

    Returns:
        Exit status: 0 after SIGINT or SIGTERM, unless the node has an `exit_status` of its own; 1, and one line on
        stderr, when it cannot start; 2 for an argument that is not ROS's.
    """
    parser = argparse.ArgumentParser(
        prog=name,
        usage=f"{name} [--help] [--ros-args -p PARAMETER:=VALUE … -r NAME:=TOPIC … --params-file FILE]",
        description=about,
        epilog="\n".join(["parameters:", *map(_describe, declarations(parameters))]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.parse_args(remove_ros_args(sys.argv)[1:])
    try:
        return run_node(create, process_failure=process_failure)
    except DarksegError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1


def _describe(declaration: Declaration) -> str:
    allowed = f"  ({declaration.range_text})" if declaration.range_text else ""
    live = "  live" if declaration.live else ""
    head = f"  {declaration.name}:={declaration.yaml_default}{allowed}{live}"
    return "\n".join(
        [head, textwrap.fill(declaration.means, _WIDTH, initial_indent=_INDENT, subsequent_indent=_INDENT)]
    )
