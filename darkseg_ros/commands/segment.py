"""`darkseg segment`: class maps of images, folders, videos and bags, without ROS."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from darkseg_ros.commands.offline_segmentation import Outputs, plan_segmentation, segment_files
from darkseg_ros.commands.options import (
    add_model_options,
    add_selection_options,
    add_strict_option,
    open_segmenter,
    selection_of,
)
from darkseg_ros.commands.sidecar import plan_sidecar, write_sidecar
from darkseg_ros.frames.bad_frames import BadFrames

_PICTURE_OPTIONS = ("overlay", "side_by_side", "color", "palette", "label_ids")
_SELECTION_OPTIONS = ("start", "duration", "every_nth")


def declare(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    parser.add_argument("input", nargs="+", type=Path, help="image, folder of images, video or rosbag2 bag")
    parser.add_argument("--out", type=Path, required=True, help="folder for the class maps (PNG, train ids)")
    parser.add_argument(
        "--sidecar",
        action="store_true",
        help="instead of pictures, write class maps, confidence, label info and diagnostics of each bag to a bag of "
        "their own with the same stamps: OUT/<bag>_predictions",
    )
    parser.add_argument("--overlay", action="store_true", help="also write overlays: JPEGs, for videos and bags an MP4")
    parser.add_argument("--side-by-side", action="store_true", help="overlays with the camera image on their left")
    parser.add_argument("--color", action="store_true", help="also write <name>_color.png, in the classes' colours")
    parser.add_argument("--palette", action="store_true", help="also write <name>_palette.png, train ids with colours")
    parser.add_argument("--label-ids", action="store_true", help="also write <name>_labelIds.png, raw label ids")
    add_selection_options(parser)
    parser.add_argument("--recursive", action="store_true", help="take the images of all folders below a folder")
    parser.add_argument("--resume", action="store_true", help="keep class maps that an earlier run wrote to --out")
    parser.add_argument("--topic", help="image topic of a bag that has several")
    add_strict_option(parser)
    add_model_options(parser)
    parser.set_defaults(run=partial(_run, parser))


def _run(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    if arguments.sidecar:
        _check_sidecar(parser, arguments)
        _write_sidecars(arguments)
    else:
        _write_pictures(arguments)


def _check_sidecar(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    of_pictures = (*_PICTURE_OPTIONS, "recursive", "resume", *_SELECTION_OPTIONS)
    if given := [name for name in of_pictures if getattr(arguments, name) != parser.get_default(name)]:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        parser.error(f"a sidecar holds every frame and no pictures; leave out --sidecar or {options}")


def _write_sidecars(arguments: argparse.Namespace) -> None:
    bad_frames = BadFrames(strict=arguments.strict)
    plans = [plan_sidecar(drive, out=arguments.out, topic=arguments.topic) for drive in arguments.input]
    segmenter = open_segmenter(arguments)
    try:
        for plan in plans:
            sidecar = write_sidecar(plan, segmenter=segmenter, bad_frames=bad_frames)
            print(
                f"predictions of {sidecar.frames} frames in {sidecar.path}, by {segmenter.bundle.name} on "
                f"{segmenter.engine.name}{bad_frames.summary()}"
            )
    finally:
        segmenter.close()


def _write_pictures(arguments: argparse.Namespace) -> None:
    bad_frames = BadFrames(strict=arguments.strict)
    plan = plan_segmentation(
        arguments.input,
        out=arguments.out,
        topic=arguments.topic,
        bad_frames=bad_frames,
        selection=selection_of(arguments),
        recursive=arguments.recursive,
    )
    outputs = Outputs(
        overlay=arguments.overlay,
        side_by_side=arguments.side_by_side,
        color=arguments.color,
        palette=arguments.palette,
        label_ids=arguments.label_ids,
    )
    segmenter = open_segmenter(arguments)
    try:
        segmented = segment_files(plan, segmenter=segmenter, outputs=outputs, resume=arguments.resume)
    finally:
        segmenter.close()
    folders = ", ".join(map(str, segmented.folders))
    print(
        f"{segmented.frames} class maps in {folders}, by {segmenter.bundle.name} on {segmenter.engine.name}"
        f"{bad_frames.summary()}"
    )
