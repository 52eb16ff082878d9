"""The `darkseg` command: work on files, without ROS but for `bag play`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from darkseg_ros.bags import write_bag_from_video
from darkseg_ros.engine import BACKENDS
from darkseg_ros.errors import DarksegError, InputError
from darkseg_ros.installed_files import default_bundle
from darkseg_ros.offline_evaluation import METRICS_FILE, evaluate_files, table_of, write_metrics
from darkseg_ros.offline_segmentation import segment_files
from darkseg_ros.segmenter import Segmenter


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit status is 0, 1 for bad input, 2 for a bad command line, 130 after Ctrl-C."""
    arguments = _parser().parse_args(argv)
    try:
        arguments.run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # the reader, such as `head`, has seen enough; Python would complain once more at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (DarksegError, OSError) as error:
        print(f"darkseg: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="darkseg", description="Segment night images and videos, make bags.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    segment = commands.add_parser("segment", help="class maps of images, folders, videos and bags")
    segment.add_argument("input", nargs="+", type=Path, help="image, folder of images, video or rosbag2 bag")
    segment.add_argument("--out", type=Path, required=True, help="folder for the class maps (PNG, train ids)")
    segment.add_argument(
        "--overlay", action="store_true", help="also write overlays: JPEGs, for videos and bags an MP4"
    )
    segment.add_argument("--topic", help="image topic of a bag that has several")
    _add_model_options(segment)
    segment.set_defaults(run=_segment)

    evaluate = commands.add_parser("evaluate", help="mIoU and other figures against label maps")
    evaluate.add_argument("--images", type=Path, required=True, help="folder of images")
    evaluate.add_argument(
        "--labels",
        type=Path,
        required=True,
        help="folder of label maps of the same stems (train ids, 255 = none)",
    )
    evaluate.add_argument("--out", type=Path, required=True, help=f"folder for {METRICS_FILE}")
    _add_model_options(evaluate)
    evaluate.set_defaults(run=_evaluate)

    bag = commands.add_parser("bag", help="make and play rosbag2 bags")
    bag_commands = bag.add_subparsers(required=True, metavar="COMMAND")

    from_video = bag_commands.add_parser("from-video", help="turn a video into a bag")
    from_video.add_argument("video", type=Path)
    from_video.add_argument("--out", type=Path, required=True, help="the bag, a folder that does not exist yet")
    from_video.add_argument("--compressed", action="store_true", help="write JPEGs instead of raw images")
    from_video.add_argument("--storage", choices=("mcap", "sqlite3"), default="mcap")
    from_video.add_argument("--topic", help="default: /camera/image_raw, compressed: /camera/image_raw/compressed")
    from_video.add_argument("--rate-hz", type=_positive, help="default: the video's own")
    from_video.set_defaults(run=_bag_from_video)

    play = bag_commands.add_parser("play", help="publish a bag's messages as they were recorded")
    play.add_argument("bag", type=Path)
    play.add_argument("--rate", type=_positive, default=1.0, help="1 = as recorded, 2 = twice as fast")
    play.add_argument("--loop", action="store_true", help="start again at the end, until Ctrl-C")
    play.add_argument("--clock", action="store_true", help="publish /clock for nodes with use_sim_time")
    play.set_defaults(run=_bag_play)
    return parser


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text}")
    return number


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--bundle", type=Path, help="model bundle; default: the one that came with the package")
    parser.add_argument("--backend", choices=BACKENDS, default="auto", help="inference library")


def _open_segmenter(arguments: argparse.Namespace) -> Segmenter:
    return Segmenter.open(arguments.bundle or default_bundle(), backend=arguments.backend)


def _segment(arguments: argparse.Namespace) -> None:
    segmenter = _open_segmenter(arguments)
    try:
        segmented = segment_files(
            arguments.input,
            segmenter=segmenter,
            out=arguments.out,
            overlay=arguments.overlay,
            topic=arguments.topic,
        )
    finally:
        segmenter.close()
    folders = ", ".join(map(str, segmented.folders))
    print(f"{segmented.frames} class maps in {folders}, by {segmenter.bundle.name} on {segmenter.engine.name}")


def _evaluate(arguments: argparse.Namespace) -> None:
    segmenter = _open_segmenter(arguments)
    try:
        metrics = evaluate_files(segmenter, images=arguments.images, labels=arguments.labels)
    finally:
        segmenter.close()
    write_metrics(metrics, arguments.out / METRICS_FILE, bundle=segmenter.bundle.name, engine=segmenter.engine.name)
    print("\n".join(table_of(metrics)))


def _bag_from_video(arguments: argparse.Namespace) -> None:
    frames = write_bag_from_video(
        arguments.video,
        arguments.out,
        storage=arguments.storage,
        compressed=arguments.compressed,
        topic=arguments.topic,
        rate_hz=arguments.rate_hz,
    )
    print(f"{frames} frames in {arguments.out}")


def _bag_play(arguments: argparse.Namespace) -> None:
    try:
        from darkseg_ros.nodes.bag_player import play_bag
    except ImportError as error:
        raise InputError(
            f"playing a bag needs ROS 2 ({error}); source a ROS 2 installation, or use the environment that "
            "`make demo` sets up: .venv/bin/darkseg"
        ) from error
    report = play_bag(arguments.bag, rate=arguments.rate, loop=arguments.loop, publish_clock=arguments.clock)
    print(f"{report.messages} messages in {report.seconds:.1f} s")
    if report.skipped_topics:
        topics = ", ".join(report.skipped_topics)
        print(f"not played, as their types are not installed: {topics}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
