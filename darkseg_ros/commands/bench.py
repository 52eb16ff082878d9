"""`darkseg bench`: time the model alone, the whole way of a frame, and the node through ROS where ROS is installed."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from darkseg_ros.benchmark.benchmark_run import run_benchmark
from darkseg_ros.benchmark.camera_frames import GENERATED_NAME, generated_frames, read_frames
from darkseg_ros.benchmark.comparison import check_comparable, comparison_text
from darkseg_ros.benchmark.contestants import own_engine, own_segmenter
from darkseg_ros.benchmark.figures import RosFigures
from darkseg_ros.benchmark.machine import read_machine
from darkseg_ros.benchmark.report import REPORT_JSON, REPORT_PAGE, describe_frames, read_report
from darkseg_ros.benchmark.table import table_of
from darkseg_ros.commands.options import add_model_options
from darkseg_ros.evaluation.report import check_output
from darkseg_ros.installed_files import bundle_folder

_REGRESSION = 3
_TURN_S = 2.0
_ROS_RUN_S = 5.0
_ROS_SEARCH_S = 30.0


def declare(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    parser.description = (
        "Time the engine alone, the whole way from camera frame to class map, and the segmentation node through ROS "
        f"where ROS is installed. Writes {REPORT_JSON} and {REPORT_PAGE}."
    )
    parser.epilog = "Exit status: 0, 1 for bad input, 2 for a bad command line, 3 for a regression against --compare."
    add_model_options(parser)
    parser.add_argument(
        "--input", type=Path, help="image, folder of images, video or rosbag2 bag; default: a generated night drive"
    )
    parser.add_argument("--topic", help="image topic of a bag that has several")
    parser.add_argument("--out", type=Path, default=Path("out/benchmark"), help="folder; default: %(default)s")
    parser.add_argument("--rounds", type=_rounds, default=5, help=f"turns of {_TURN_S:g} s each; default: %(default)s")
    parser.add_argument("--no-ros", action="store_true", help="leave the node out")
    parser.add_argument("--compare", type=Path, metavar="OLD.json", help=f"an earlier {REPORT_JSON} of this machine")
    parser.set_defaults(run=partial(_run, parser))


def _rounds(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 on, got {text!r}")
    return int(text)


def _run(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    if arguments.topic is not None and arguments.input is None:
        parser.error("--topic belongs to a bag; name it with --input")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the node ends with this process
    check_output(arguments.out)
    bundle = bundle_folder(arguments.bundle)
    contestants = tuple(own(bundle, arguments.backend, arguments.device) for own in (own_engine, own_segmenter))
    earlier = None if arguments.compare is None else read_report(arguments.compare)
    if arguments.input is None:
        frames, input_name = generated_frames(), GENERATED_NAME
    else:
        frames, input_name = read_frames(arguments.input, topic=arguments.topic), arguments.input.resolve().name
    machine = read_machine()
    if earlier is not None:
        check_comparable(earlier, machine, describe_frames(frames, name=input_name))
    report = run_benchmark(
        contestants,
        frames,
        machine=machine,
        input_name=input_name,
        ros=None if arguments.no_ros else _ros_benchmark(bundle, arguments.backend, arguments.device, frames),
        rounds=arguments.rounds,
        turn_s=_TURN_S,
        reference=None,
        out=arguments.out,
        progress=_say,
    )
    print("\n".join(table_of(report)))
    print(f"report: {arguments.out / REPORT_PAGE}")
    if earlier is None:
        return 0
    text, has_regression = comparison_text(earlier, report)
    print(f"\n{text}")
    return _REGRESSION if has_regression else 0


def _ros_benchmark(bundle: Path, backend: str, device: str, frames: np.ndarray) -> Callable[[], RosFigures] | None:
    if find_spec("rclpy") is None:
        _say(
            "without ROS: rclpy is not installed; source a ROS 2 installation, or use the environment that "
            "`make demo` sets up"
        )
        return None
    from darkseg_ros.benchmark.ros_run import measure_ros

    return partial(
        measure_ros,
        bundle,
        backend,
        frames,
        device=device,
        seconds=_ROS_RUN_S,
        search_seconds=_ROS_SEARCH_S,
        progress=_say,
    )


def _say(line: str) -> None:
    print(line, file=sys.stderr)
