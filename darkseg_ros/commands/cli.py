"""The `darkseg` command: work on files, without ROS but for `bag play` and a part of `bench`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np

from darkseg_ros.benchmark.benchmark_run import run_benchmark
from darkseg_ros.benchmark.camera_frames import GENERATED_NAME, generated_frames, read_frames
from darkseg_ros.benchmark.comparison import check_comparable, comparison_text
from darkseg_ros.benchmark.contestants import own_engine, own_segmenter
from darkseg_ros.benchmark.figures import ContestantFigures, Goal, RosFigures
from darkseg_ros.benchmark.goals import GOALS_HW, own_goals
from darkseg_ros.benchmark.machine import read_machine
from darkseg_ros.benchmark.report import REPORT_JSON, REPORT_PAGE, describe_frames, read_report
from darkseg_ros.benchmark.table import table_of as benchmark_table_of
from darkseg_ros.commands.offline_segmentation import segment_files
from darkseg_ros.errors import DarksegError, InputError
from darkseg_ros.evaluation.bag import (
    BagTopics,
    evaluate_recorded,
    evaluate_with_model,
    find_topics,
    sha256_of_bag,
    sha256_of_files,
)
from darkseg_ros.evaluation.drive import EvaluatedInput, EvaluationResult
from darkseg_ros.evaluation.folder import evaluate_files
from darkseg_ros.evaluation.metrics import UIOU_MIN_CONFIDENCE
from darkseg_ros.evaluation.report import METRICS_FILE, REPORT_FILE, check_output, table_of, write_report
from darkseg_ros.evaluation.thresholds import Threshold, judge
from darkseg_ros.frames.bags import LABEL_TOPIC, write_bag_from_video
from darkseg_ros.frames.source import image_files
from darkseg_ros.installed_files import default_bundle
from darkseg_ros.model.backends import BACKENDS
from darkseg_ros.model.segmenter import Segmenter
from darkseg_ros.model.translator import TRANSLATOR_BACKENDS
from darkseg_ros.night.bag_translation import translate_bag
from darkseg_ros.night.day_to_night import NIGHT_TOPIC, NightSettings, open_day_to_night

_THRESHOLD_MISSED = 3
_REGRESSION = 3
_WAIT_FOR_NODES_S = 120.0  # an engine may have to be built first
_TURN_S = 2.0
_ROS_RUN_S = 5.0
_ROS_SEARCH_S = 30.0
_TOPIC_OPTIONS = ("label", "class-map", "image", "invalid")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns:
        The exit status: 0, 1 for bad input, 2 for a bad command line, 3 when a figure of `evaluate` missed a
        threshold or `bench --compare` found a regression, 130 after Ctrl-C.
    """
    arguments = _parser().parse_args(argv)
    try:
        status: int = arguments.run(arguments) or 0
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
    return status


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

    evaluate = commands.add_parser(
        "evaluate",
        help="mIoU and other figures against label maps, with a report",
        description="Score class maps against label maps: those that a bag holds, or those that a model makes of the "
        "images of a bag or folder. Without class maps in the bag, or with --bundle, a model makes them. Writes "
        f"{METRICS_FILE} and {REPORT_FILE}.",
        epilog="Exit status: 0, 1 for bad input, 2 for a bad command line, 3 when a threshold was missed.",
    )
    evaluate.add_argument("bag", nargs="?", type=Path, help="rosbag2 bag with label maps, and class maps or images")
    evaluate.add_argument("--images", type=Path, help="instead of a bag: folder of images")
    evaluate.add_argument("--labels", type=Path, help="its label maps, of the same stems (train ids, 255 = none)")
    evaluate.add_argument("--out", type=Path, required=True, help=f"folder for {METRICS_FILE} and {REPORT_FILE}")
    evaluate.add_argument("--label-topic", help=f"default: {LABEL_TOPIC}")
    evaluate.add_argument("--class-map-topic", help="default: the bag's only topic …/class_map")
    evaluate.add_argument("--image-topic", help="default: the bag's only camera topic")
    evaluate.add_argument("--invalid-topic", help="masks of indiscernible pixels (0 = clear), for the UIoU")
    bounds: tuple[tuple[str, Literal["at least", "at most"], str], ...] = (
        ("--at-least", "at least", "miou_present=0.2"),
        ("--at-most", "at most", "latency_p99_ms=50"),
    )
    for option, bound, example in bounds:
        evaluate.add_argument(
            option,
            dest="thresholds",
            action="append",
            type=partial(_threshold, bound),
            metavar="FIGURE=LIMIT",
            help=f"a threshold on a figure of {METRICS_FILE}, such as {example}; may be repeated",
        )
    evaluate.add_argument(
        "--invalid-below",
        type=_share,
        default=UIOU_MIN_CONFIDENCE,
        metavar="CONFIDENCE",
        help=f"UIoU takes predictions of less confidence for invalid, 0…1; default: {UIOU_MIN_CONFIDENCE}",
    )
    _add_model_options(evaluate)
    evaluate.set_defaults(run=partial(_evaluate, evaluate))

    _add_bench(commands)

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

    to_night = bag_commands.add_parser(
        "to-night",
        help="add a night frame for each day frame of a bag",
        description=f"Copy a bag and add night frames on {NIGHT_TOPIC}, with the stamps of the day frames.",
    )
    to_night.add_argument("bag", type=Path)
    to_night.add_argument("--out", type=Path, required=True, help="the bag, a folder that does not exist yet")
    to_night.add_argument("--topic", help="image topic of a bag that has several")
    to_night.add_argument("--bundle", type=Path, help="translator's bundle; without one, light is made up by --seed")
    to_night.add_argument(
        "--backend", choices=TRANSLATOR_BACKENDS, default="auto", help="inference library of the bundle"
    )
    to_night.add_argument("--seed", type=_seed, help="without a bundle: another seed is another street; default: 0")
    to_night.add_argument("--night-images", type=Path, help="without a bundle: folder of images to take the light of")
    to_night.set_defaults(run=partial(_bag_to_night, to_night))

    play = bag_commands.add_parser("play", help="publish a bag's messages as they were recorded")
    play.add_argument("bag", type=Path)
    play.add_argument("--rate", type=_positive, default=1.0, help="1 = as recorded, 2 = twice as fast")
    play.add_argument("--loop", action="store_true", help="start again at the end, until Ctrl-C")
    play.add_argument("--clock", action="store_true", help="publish /clock for nodes with use_sim_time")
    play.add_argument("--topic", action="append", help="play this topic only; may be repeated")
    play.add_argument(
        "--wait-for",
        action="append",
        type=_node_name,
        default=[],
        metavar="NODE",
        help=f"start once /NODE subscribes to a topic of the bag, within {_WAIT_FOR_NODES_S:g} s; may be repeated",
    )
    play.set_defaults(run=_bag_play)
    return parser


def _add_bench(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    bench = commands.add_parser(
        "bench",
        help="latency, memory and CPU time of a model, alone and through ROS",
        description="Time the engine alone, the whole way from camera frame to class map, and the segmentation node "
        f"through ROS where ROS is installed. Writes {REPORT_JSON} and {REPORT_PAGE}.",
        epilog="Exit status: 0, 1 for bad input, 2 for a bad command line, 3 for a regression against --compare.",
    )
    _add_model_options(bench)
    bench.add_argument(
        "--input", type=Path, help="image, folder of images, video or rosbag2 bag; default: a generated night drive"
    )
    bench.add_argument("--topic", help="image topic of a bag that has several")
    bench.add_argument("--out", type=Path, default=Path("out/benchmark"), help="folder; default: %(default)s")
    bench.add_argument("--rounds", type=_rounds, default=5, help=f"turns of {_TURN_S:g} s each; default: %(default)s")
    bench.add_argument("--no-ros", action="store_true", help="leave the node out")
    bench.add_argument("--compare", type=Path, metavar="OLD.json", help=f"an earlier {REPORT_JSON} of this machine")
    bench.set_defaults(run=partial(_bench, bench))


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number, got {text!r}") from None


def _positive(text: str) -> float:
    number = _number(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text}")
    return number


def _share(text: str) -> float:
    number = _number(text)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"expected a number within 0…1, got {text}")
    return number


def _threshold(bound: Literal["at least", "at most"], text: str) -> Threshold:
    figure, equals, limit = text.rpartition("=")
    try:
        if not equals:
            raise ValueError(f"expected FIGURE=LIMIT such as miou_present=0.2, got {text!r}")
        return Threshold(figure.strip(), bound, _number(limit))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 on, got {text!r}")
    return int(text)


def _rounds(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 on, got {text!r}")
    return int(text)


def _node_name(text: str) -> str:
    return f"/{text.strip('/')}"


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


def _evaluate(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    _check_evaluate_options(parser, arguments)
    check_output(arguments.out)
    result, evaluated = _evaluate_bag(arguments) if arguments.bag else _evaluate_folder(arguments)
    thresholds = judge(result, arguments.thresholds or ())
    write_report(result, evaluated, thresholds=thresholds, out=arguments.out)
    print(evaluated.comparison)
    print("\n".join(table_of(result, thresholds)))
    print(f"report: {arguments.out / REPORT_FILE}")
    return 0 if all(threshold.passed for threshold in thresholds) else _THRESHOLD_MISSED


def _check_evaluate_options(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    topics = {f"--{name}-topic": getattr(arguments, f"{name}_topic".replace("-", "_")) for name in _TOPIC_OPTIONS}
    if arguments.bag is None:
        if arguments.images is None or arguments.labels is None:
            parser.error("name a bag, or a folder of images with --images and its label maps with --labels")
        if given := [option for option, topic in topics.items() if topic is not None]:
            parser.error(f"{', '.join(given)} belong to a bag, not to --images")
    elif arguments.images is not None or arguments.labels is not None:
        parser.error("name either a bag or --images and --labels, not both")
    elif arguments.bundle is not None and arguments.class_map_topic is not None:
        parser.error("--bundle makes new class maps, --class-map-topic takes those of the bag; give one of them")


def _evaluate_folder(arguments: argparse.Namespace) -> tuple[EvaluationResult, EvaluatedInput]:
    segmenter = _open_segmenter(arguments)
    try:
        result = evaluate_files(
            segmenter,
            images=arguments.images,
            labels=arguments.labels,
            uiou_min_confidence=arguments.invalid_below,
        )
    finally:
        segmenter.close()
    evaluated = EvaluatedInput(
        name=arguments.images.resolve().name,
        comparison=f"Class maps of the images of {arguments.images} against the label maps of {arguments.labels}.",
        sha256=sha256_of_files([*image_files(arguments.images), *image_files(arguments.labels)]),
        bundle=segmenter.bundle.name,
        backend=segmenter.engine.name,
    )
    return result, evaluated


def _evaluate_bag(arguments: argparse.Namespace) -> tuple[EvaluationResult, EvaluatedInput]:
    wanted = BagTopics(
        image=arguments.image_topic,
        label=arguments.label_topic or LABEL_TOPIC,
        class_map=arguments.class_map_topic,
        invalid=arguments.invalid_topic,
    )
    bag: Path = arguments.bag
    name = bag.resolve().name
    topics = find_topics(bag, wanted, recorded=arguments.bundle is None)
    bundle = backend = None
    if "class_map" in topics:
        result = evaluate_recorded(bag, topics, uiou_min_confidence=arguments.invalid_below)
        maps = f"Class maps of {topics['class_map'].name}, as recorded in {name},"
    else:
        segmenter = _open_segmenter(arguments)
        try:
            result = evaluate_with_model(bag, topics, segmenter, uiou_min_confidence=arguments.invalid_below)
        finally:
            segmenter.close()
        maps = f"Class maps made of {topics['image'].name} of {name}"
        bundle, backend = segmenter.bundle.name, segmenter.engine.name
    return result, EvaluatedInput(
        name=name,
        comparison=f"{maps} against the label maps of {topics['label_map'].name}.",
        sha256=sha256_of_bag(bag),
        bundle=bundle,
        backend=backend,
    )


def _bench(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    if arguments.topic is not None and arguments.input is None:
        parser.error("--topic belongs to a bag; name it with --input")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the node ends with this process
    check_output(arguments.out)
    bundle = arguments.bundle or default_bundle()
    contestants = (own_engine(bundle, arguments.backend), own_segmenter(bundle, arguments.backend))
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
        ros=None if arguments.no_ros else _ros_benchmark(bundle, arguments.backend, frames),
        goals=partial(_goals, frames.shape[1:3], machine.cores),
        rounds=arguments.rounds,
        turn_s=_TURN_S,
        reference=None,
        out=arguments.out,
        progress=_say,
    )
    print("\n".join(benchmark_table_of(report)))
    print(f"report: {arguments.out / REPORT_PAGE}")
    if earlier is None:
        return 0
    text, has_regression = comparison_text(earlier, report)
    print(f"\n{text}")
    return _REGRESSION if has_regression else 0


def _ros_benchmark(bundle: Path, backend: str, frames: np.ndarray) -> Callable[[], RosFigures] | None:
    if find_spec("rclpy") is None:
        _say(
            "without ROS: rclpy is not installed; source a ROS 2 installation, or use the environment that "
            "`make demo` sets up"
        )
        return None
    from darkseg_ros.benchmark.ros_run import measure_ros

    return partial(
        measure_ros, bundle, backend, frames, seconds=_ROS_RUN_S, search_seconds=_ROS_SEARCH_S, progress=_say
    )


def _goals(
    frame_hw: tuple[int, int], cores: int, figures: tuple[ContestantFigures, ...], ros: RosFigures | None
) -> tuple[Goal, ...]:
    engine, segmenter = figures
    return own_goals(engine, segmenter, ros, cores=cores) if frame_hw == GOALS_HW else ()


def _say(line: str) -> None:
    print(line, file=sys.stderr)


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


def _bag_to_night(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    if arguments.bundle is not None and (arguments.seed is not None or arguments.night_images is not None):
        parser.error("--seed and --night-images make up the light, --bundle translates; give one or the other")
    settings = NightSettings(
        bundle=arguments.bundle,
        backend=arguments.backend,
        seed=arguments.seed or 0,
        night_images=arguments.night_images,
    )
    day_to_night = open_day_to_night(settings)
    try:
        translated = translate_bag(arguments.bag, arguments.out, day_to_night=day_to_night, topic=arguments.topic)
    finally:
        day_to_night.close()
    print(f"{translated.frames} night frames on {NIGHT_TOPIC} in {arguments.out}, by {day_to_night.name}")
    if translated.skipped_topics:
        topics = ", ".join(translated.skipped_topics)
        print(f"not copied, as their types are none of ROS 2's own: {topics}", file=sys.stderr)


def _bag_play(arguments: argparse.Namespace) -> None:
    try:
        from darkseg_ros.nodes.bag_player import play_bag
    except ImportError as error:
        raise InputError(
            f"playing a bag needs ROS 2 ({error}); source a ROS 2 installation, or use the environment that "
            "`make demo` sets up: .venv/bin/darkseg"
        ) from error
    report = play_bag(
        arguments.bag,
        rate=arguments.rate,
        loop=arguments.loop,
        topics=arguments.topic,
        publish_clock=arguments.clock,
        wait_for_subscribers=_WAIT_FOR_NODES_S if arguments.wait_for else 0.0,
        wait_for_nodes=arguments.wait_for,
    )
    print(f"{report.messages} messages in {report.seconds:.1f} s")
    if report.skipped_topics:
        topics = ", ".join(report.skipped_topics)
        print(f"not played, as their types are not installed: {topics}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
