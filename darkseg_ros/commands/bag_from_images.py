"""`darkseg bag from-images`: turn images, with or without label maps, into a bag."""

from __future__ import annotations

import argparse
from pathlib import Path

from darkseg_ros.commands.options import add_new_bag_options, add_strict_option, positive
from darkseg_ros.frames.bad_frames import BadFrames
from darkseg_ros.frames.bag_images import write_bag_from_images
from darkseg_ros.frames.bags import IMAGE_TOPIC, LABEL_TOPIC
from darkseg_ros.frames.label_layouts import FORMAT_NAMES


def declare(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    parser.description = f"Images on {IMAGE_TOPIC}, their label maps (train ids) with the same stamps on {LABEL_TOPIC}."
    parser.add_argument("images", type=Path, help="folder of images, in the order of their names")
    parser.add_argument("--labels", type=Path, help="their label maps: of the same stems, or of a data set's tree")
    parser.add_argument("--label-format", choices=FORMAT_NAMES, default="auto", help="as for `darkseg evaluate`")
    parser.add_argument("--rate-hz", type=positive, default=10.0, help="images per second; default: %(default)g")
    add_new_bag_options(parser)
    add_strict_option(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    bad_frames = BadFrames(strict=arguments.strict)
    frames = write_bag_from_images(
        arguments.images,
        arguments.out,
        labels=arguments.labels,
        label_format=arguments.label_format,
        rate_hz=arguments.rate_hz,
        compressed=arguments.compressed,
        storage=arguments.storage,
        bad_frames=bad_frames,
    )
    print(f"{frames} frames in {arguments.out}{bad_frames.summary()}")
