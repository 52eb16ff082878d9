"""`darkseg segment`: class maps of images, folders, videos and bags, without ROS."""

from __future__ import annotations

import argparse
from pathlib import Path

from darkseg_ros.commands.offline_segmentation import Outputs, plan_segmentation, segment_files
from darkseg_ros.commands.options import (
    add_model_options,
    add_selection_options,
    add_strict_option,
    open_segmenter,
    selection_of,
)
from darkseg_ros.frames.bad_frames import BadFrames


def declare(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    parser.add_argument("input", nargs="+", type=Path, help="image, folder of images, video or rosbag2 bag")
    parser.add_argument("--out", type=Path, required=True, help="folder for the class maps (PNG, train ids)")
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
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
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
