"""`darkseg segment`: class maps of images, folders, videos and bags, without ROS."""

from __future__ import annotations

import argparse
from pathlib import Path

from darkseg_ros.commands.offline_segmentation import plan_segmentation, segment_files
from darkseg_ros.commands.options import add_model_options, open_segmenter


def declare(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    parser.add_argument("input", nargs="+", type=Path, help="image, folder of images, video or rosbag2 bag")
    parser.add_argument("--out", type=Path, required=True, help="folder for the class maps (PNG, train ids)")
    parser.add_argument("--overlay", action="store_true", help="also write overlays: JPEGs, for videos and bags an MP4")
    parser.add_argument("--topic", help="image topic of a bag that has several")
    add_model_options(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    plan = plan_segmentation(arguments.input, out=arguments.out, topic=arguments.topic)
    segmenter = open_segmenter(arguments)
    try:
        segmented = segment_files(plan, segmenter=segmenter, overlay=arguments.overlay)
    finally:
        segmenter.close()
    folders = ", ".join(map(str, segmented.folders))
    print(f"{segmented.frames} class maps in {folders}, by {segmenter.bundle.name} on {segmenter.engine.name}")
