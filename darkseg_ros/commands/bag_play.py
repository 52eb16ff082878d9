"""`darkseg bag play`: publish a bag's messages as they were recorded; needs ROS."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from darkseg_ros.commands.options import positive
from darkseg_ros.errors import InputError, one_line

_WAIT_FOR_NODES_S = 120.0  # an engine may have to be built first


def declare(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    parser.add_argument("bag", type=Path)
    parser.add_argument("--rate", type=positive, default=1.0, help="1 = as recorded, 2 = twice as fast")
    parser.add_argument("--loop", action="store_true", help="start again at the end, until Ctrl-C")
    parser.add_argument("--clock", action="store_true", help="publish /clock for nodes with use_sim_time")
    parser.add_argument("--topic", action="append", help="play this topic only; may be repeated")
    parser.add_argument(
        "--wait-for",
        action="append",
        type=_node_name,
        default=[],
        metavar="NODE",
        help=f"start once /NODE subscribes to a topic of the bag, within {_WAIT_FOR_NODES_S:g} s; may be repeated",
    )
    parser.add_argument(
        "--lockstep",
        metavar="ANSWER",
        help="after each message of the first --topic wait for its stamp on this topic (std_msgs/Header), such as "
        "/evaluation_node/taken, instead of the recorded time: no frame is dropped, whatever the machine's speed",
    )
    parser.set_defaults(run=_run)


def _node_name(text: str) -> str:
    return f"/{text.strip('/')}"


def _run(arguments: argparse.Namespace) -> None:
    try:
        from darkseg_ros.nodes.bag_player import Lockstep, play_bag
    except ImportError as error:
        raise InputError(
            f"playing a bag needs ROS 2 ({error}); source a ROS 2 installation, or use the environment that "
            "`make demo` sets up: .venv/bin/darkseg"
        ) from error
    if arguments.lockstep and not arguments.topic:
        raise InputError("--lockstep needs --topic: the first one named is the one whose messages are answered")
    report = play_bag(
        arguments.bag,
        rate=arguments.rate,
        loop=arguments.loop,
        topics=arguments.topic,
        publish_clock=arguments.clock,
        wait_for_subscribers=_WAIT_FOR_NODES_S if arguments.wait_for else 0.0,
        wait_for_nodes=arguments.wait_for,
        lockstep=Lockstep(arguments.topic[0], arguments.lockstep) if arguments.lockstep else None,
    )
    print(f"{report.messages} messages in {report.seconds:.1f} s")
    if report.unanswered:
        print(f"{report.unanswered} messages of {arguments.topic[0]} were not answered in time", file=sys.stderr)
    if report.skipped_topics:
        topics = ", ".join(report.skipped_topics)
        print(f"not played, as their types are not installed: {one_line(topics)}", file=sys.stderr)
