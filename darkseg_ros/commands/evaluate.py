"""`darkseg evaluate`: figures of class maps against label maps, with a report and thresholds."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

from darkseg_ros.classes import CITYSCAPES, ClassTable
from darkseg_ros.commands.evaluate_fleet import evaluate_fleet
from darkseg_ros.commands.options import (
    add_model_options,
    add_ray_option,
    add_strict_option,
    bundle_of,
    open_offline_segmenter,
    share,
)
from darkseg_ros.evaluation.bag import (
    BagTopics,
    evaluate_recorded,
    evaluate_with_model,
    find_topics,
    sha256_of_bag,
    sha256_of_files,
)
from darkseg_ros.evaluation.disturbances import DISTURBANCES
from darkseg_ros.evaluation.drive import EvaluatedInput, EvaluationResult
from darkseg_ros.evaluation.fleet.comparison import FALL_MIN
from darkseg_ros.evaluation.folder import evaluate_files
from darkseg_ros.evaluation.metrics import UIOU_MIN_CONFIDENCE
from darkseg_ros.evaluation.report import METRICS_FILE, REPORT_FILE, check_output, table_of, write_report
from darkseg_ros.evaluation.thresholds import Threshold, check_classes, judge
from darkseg_ros.fleet.drives import means_several
from darkseg_ros.frames.bad_frames import BadFrames
from darkseg_ros.frames.bags import LABEL_TOPIC
from darkseg_ros.frames.label_layouts import FORMAT_NAMES, doubt_about, find_pairs
from darkseg_ros.model.bundle import load_classes

_THRESHOLD_MISSED = 3
_TOPIC_OPTIONS = ("label", "class-map", "image", "invalid")


def declare(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    parser.description = (
        "Score class maps against label maps: those that a bag holds, or those that a model makes of the images of a "
        "bag or folder. Without class maps in the bag, or with --bundle, a model makes them. Writes "
        f"{METRICS_FILE} and {REPORT_FILE}."
    )
    parser.epilog = (
        "Many drives, folders of bags, globs and URLs are scored one by one and added up: by drive, camera, hour, "
        "darkness and tag, the worst first. Exit status: 0, 1 for bad input, 2 for a bad command line, 3 when a "
        "threshold was missed or, with --compare, a drive fell."
    )
    parser.add_argument(
        "drives", nargs="*", metavar="drive", help="rosbag2 bag with label maps, and class maps or images; or many"
    )
    parser.add_argument("--images", type=Path, help="instead of a bag: folder of images")
    parser.add_argument("--labels", type=Path, help="its label maps: of the same stems, or of a data set's tree")
    parser.add_argument(
        "--label-format",
        choices=FORMAT_NAMES,
        default="auto",
        help="values of --labels; default: by the names of Cityscapes, ACDC, Dark Zurich, Nighttime Driving and "
        "BDD100K, else colours of the class table, or train ids (palette indices too; 255 = none)",
    )
    parser.add_argument("--out", required=True, help=f"folder for {METRICS_FILE} and {REPORT_FILE}; of many a URL too")
    parser.add_argument("--label-topic", help=f"default: {LABEL_TOPIC}")
    parser.add_argument("--class-map-topic", help="default: the bag's only topic …/class_map")
    parser.add_argument("--image-topic", help="default: the bag's only camera topic")
    parser.add_argument(
        "--classes",
        type=Path,
        metavar="BUNDLE",
        help="bundle with the class table of the bag's class maps; default: Cityscapes' 19 classes",
    )
    parser.add_argument(
        "--sidecar",
        type=Path,
        metavar="BAG",
        help="predictions beside the bag, as `darkseg segment --sidecar` wrote them: score its class maps",
    )
    parser.add_argument("--invalid-topic", help="masks of indiscernible pixels (0 = clear), for the UIoU")
    bounds: tuple[tuple[str, Literal["at least", "at most"], str], ...] = (
        ("--at-least", "at least", "miou_present=0.2"),
        ("--at-most", "at most", "latency_p99_ms=50"),
    )
    for option, bound, example in bounds:
        parser.add_argument(
            option,
            dest="thresholds",
            action="append",
            type=partial(_threshold, bound),
            metavar="FIGURE=LIMIT",
            help=f"a threshold on a figure of {METRICS_FILE}, such as {example}; may be repeated",
        )
    parser.add_argument(
        "--invalid-below",
        type=share,
        default=UIOU_MIN_CONFIDENCE,
        metavar="CONFIDENCE",
        help=f"UIoU takes predictions of less confidence for invalid, 0…1; default: {UIOU_MIN_CONFIDENCE}",
    )
    parser.add_argument(
        "--disturb",
        choices=sorted(DISTURBANCES),
        help="draw it onto every image of --images: what the confidence is worth when the camera meets it",
    )
    _add_fleet_options(parser)
    add_strict_option(parser)
    add_model_options(parser)
    parser.set_defaults(run=partial(_run, parser))


def _add_fleet_options(parser: argparse.ArgumentParser) -> None:
    fleet = parser.add_argument_group("many drives")
    add_ray_option(fleet)
    fleet.add_argument("--resume", action="store_true", help="judge only the drives that have no result in --out yet")
    fleet.add_argument(
        "--unlabelled",
        action="store_true",
        help="look for no label maps: rank by consistency from frame to frame, confidence, camera health and "
        "dispersity",
    )
    fleet.add_argument("--tags", type=Path, metavar="CSV", help="columns drive and, for example, weather")
    fleet.add_argument("--timezone", default="UTC", help="of the hours, such as Europe/Berlin; default: UTC")
    fleet.add_argument("--compare", metavar="OLD", help="--out of an earlier evaluation: list the drives that fell")
    fleet.add_argument(
        "--fall",
        type=share,
        default=FALL_MIN,
        metavar="SHARE",
        help="a drive fell that lost more than this; default: %(default)s",
    )


def _is_fleet(arguments: argparse.Namespace) -> bool:
    asked = (arguments.ray, arguments.resume, arguments.unlabelled, arguments.tags, arguments.compare)
    return bool(arguments.drives) and (any(asked) or means_several(arguments.drives))


def _threshold(bound: Literal["at least", "at most"], text: str) -> Threshold:
    try:
        return Threshold.parse(bound, text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _run(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    arguments.bag = Path(arguments.drives[0]) if len(arguments.drives) == 1 else None
    _check_options(parser, arguments)
    if _is_fleet(arguments):
        return evaluate_fleet(arguments)
    arguments.out = Path(arguments.out)
    check_output(arguments.out)
    evaluate = _evaluate_bag if arguments.bag else _evaluate_folder
    bad_frames = BadFrames(strict=arguments.strict)
    result, evaluated = evaluate(parser, arguments, bad_frames)
    evaluated = replace(evaluated, bad_frames=bad_frames.count)
    thresholds = judge(result, arguments.thresholds or ())
    write_report(result, evaluated, thresholds=thresholds, out=arguments.out)
    print(evaluated.comparison)
    print("\n".join(table_of(result, thresholds)))
    if bad_frames.count:
        print(f"{result.metrics.images} frames scored{bad_frames.summary()}")
    if result.drive is not None and result.drive.label_maps > result.metrics.images:
        unmatched = result.drive.label_maps - result.metrics.images
        print(f"{unmatched} of {result.drive.label_maps} label maps have no class map of their stamp to be scored")
    print(f"report: {arguments.out / REPORT_FILE}")
    return 0 if all(threshold.passed for threshold in thresholds) else _THRESHOLD_MISSED


def _check_options(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    of_bags = {f"--{name}-topic": getattr(arguments, f"{name}_topic".replace("-", "_")) for name in _TOPIC_OPTIONS}
    of_bags["--classes"] = arguments.classes
    of_bags["--sidecar"] = arguments.sidecar
    if not arguments.drives:
        if arguments.images is None or arguments.labels is None:
            parser.error("name a bag, or a folder of images with --images and its label maps with --labels")
        if given := [option for option, value in of_bags.items() if value is not None]:
            parser.error(f"{', '.join(given)} belong to a bag, not to --images")
    elif arguments.images is not None or arguments.labels is not None:
        parser.error("name either a bag or --images and --labels, not both")
    elif arguments.disturb is not None:
        parser.error("--disturb belongs to --images, not to a bag")
    elif arguments.bundle is not None and arguments.class_map_topic is not None:
        parser.error("--bundle makes new class maps, --class-map-topic takes those of the bag; give one of them")
    elif arguments.bundle is not None and arguments.classes is not None:
        parser.error("--bundle makes new class maps, --classes is of those in the bag; give one of them")
    elif arguments.bundle is not None and arguments.sidecar is not None:
        parser.error("--bundle makes new class maps, --sidecar holds some; give one of them")
    elif arguments.sidecar is not None and _is_fleet(arguments):
        parser.error("--sidecar belongs to one drive; evaluate the drives one by one")


def _check_thresholds(parser: argparse.ArgumentParser, arguments: argparse.Namespace, classes: ClassTable) -> None:
    try:
        check_classes(arguments.thresholds or (), classes)
    except ValueError as error:
        parser.error(str(error))


def _evaluate_folder(
    parser: argparse.ArgumentParser, arguments: argparse.Namespace, bad_frames: BadFrames
) -> tuple[EvaluationResult, EvaluatedInput]:
    classes = load_classes(bundle_of(arguments))
    # bad paths are told before an engine opens
    pairs = find_pairs(arguments.images, arguments.labels, classes=classes, label_format=arguments.label_format)
    _check_thresholds(parser, arguments, classes)
    if doubt := doubt_about(pairs, classes):
        print(f"darkseg: {doubt}", file=sys.stderr)
    segmenter = open_offline_segmenter(arguments)
    try:
        result = evaluate_files(
            segmenter,
            pairs,
            uiou_min_confidence=arguments.invalid_below,
            bad_frames=bad_frames,
            disturbance=arguments.disturb,
        )
    finally:
        segmenter.close()
    files = [*(pair.image for pair in pairs), *(pair.label for pair in pairs)]
    evaluated = EvaluatedInput(
        name=arguments.images.resolve().name,
        comparison=f"Class maps of the images of {arguments.images}"
        + (f", {arguments.disturb} drawn onto each," if arguments.disturb else "")
        + f" against the label maps of {arguments.labels}.",
        sha256=sha256_of_files([file for file in files if isinstance(file, Path)]),  # all of these lie on disk
        bundle=segmenter.bundle.name,
        backend=segmenter.engine.name,
    )
    return result, evaluated


def _evaluate_bag(
    parser: argparse.ArgumentParser, arguments: argparse.Namespace, bad_frames: BadFrames
) -> tuple[EvaluationResult, EvaluatedInput]:
    wanted = BagTopics(
        image=arguments.image_topic,
        label=arguments.label_topic or LABEL_TOPIC,
        class_map=arguments.class_map_topic,
        invalid=arguments.invalid_topic,
    )
    bag: Path = arguments.bag
    sidecar: Path | None = arguments.sidecar
    name = bag.resolve().name
    topics = find_topics(bag, wanted, recorded=arguments.bundle is None, sidecar=sidecar)
    bundle = backend = None
    if "class_map" in topics:
        classes = CITYSCAPES if arguments.classes is None else load_classes(arguments.classes)
        _check_thresholds(parser, arguments, classes)
        result = evaluate_recorded(
            bag,
            topics,
            sidecar=sidecar,
            classes=classes,
            uiou_min_confidence=arguments.invalid_below,
            bad_frames=bad_frames,
        )
        maps = f"Class maps of {topics['class_map'].name}, as recorded in {(sidecar or bag).resolve().name},"
    else:
        _check_thresholds(parser, arguments, load_classes(bundle_of(arguments)))
        segmenter = open_offline_segmenter(arguments)
        try:
            result = evaluate_with_model(
                bag, topics, segmenter, uiou_min_confidence=arguments.invalid_below, bad_frames=bad_frames
            )
        finally:
            segmenter.close()
        maps = f"Class maps made of {topics['image'].name} of {name}"
        bundle, backend = segmenter.bundle.name, segmenter.engine.name
    return result, EvaluatedInput(
        name=name,
        comparison=f"{maps} against the label maps of {topics['label_map'].name}.",
        sha256=sha256_of_bag(bag, *([] if sidecar is None else [sidecar])),
        bundle=bundle,
        backend=backend,
    )
