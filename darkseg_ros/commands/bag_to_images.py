"""`darkseg bag to-images`: take images out of a drive, such as for training."""

from __future__ import annotations

import argparse
from pathlib import Path

from darkseg_ros.commands.options import (
    add_selection_options,
    add_strict_option,
    count,
    number,
    positive,
    selection_of,
)
from darkseg_ros.errors import InputError
from darkseg_ros.frames.bad_frames import BadFrames
from darkseg_ros.frames.bag_images import ImageChoice, write_images


def declare(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    parser.description = "Write frames of a bag or video as PNG files, chosen by time and by brightness."
    parser.epilog = (
        "By nearness to a reference (FID): choose here by time, then `python -m training.select_images fid` on the "
        "folder; the features need a network that this command does not carry."
    )
    parser.add_argument("bag", type=Path, help="rosbag2 bag or video")
    parser.add_argument("--out", type=Path, required=True, help="folder for the images, made if needed")
    parser.add_argument("--topic", help="image topic of a bag that has several")
    add_selection_options(parser)
    parser.add_argument("--every-s", type=positive, metavar="S", help="at least S seconds from image to image")
    parser.add_argument(
        "--level",
        type=number,
        nargs=2,
        metavar=("LOW", "HIGH"),
        help="only frames of such a histogram level, 0 (black) to 255; night is below 65",
    )
    parser.add_argument("--count", type=count, metavar="N", help="at most N of these, spread evenly over the drive")
    add_strict_option(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    if arguments.level is not None and not arguments.level[0] <= arguments.level[1]:
        raise InputError("--level names the lower level first")
    bad_frames = BadFrames(strict=arguments.strict)
    choice = ImageChoice(
        selection=selection_of(arguments),
        every_s=arguments.every_s,
        level=None if arguments.level is None else (arguments.level[0], arguments.level[1]),
        count=arguments.count,
    )
    written = write_images(arguments.bag, arguments.out, choice, topic=arguments.topic, bad_frames=bad_frames)
    print(f"{written} images in {arguments.out}{bad_frames.summary()}")
