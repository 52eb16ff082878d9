"""`darkseg bag from-video`: turn a video into a bag."""

from __future__ import annotations

import argparse
from pathlib import Path

from darkseg_ros.commands.options import add_new_bag_options, add_strict_option, positive
from darkseg_ros.frames.bad_frames import BadFrames
from darkseg_ros.frames.bags import write_bag_from_video


def declare(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    parser.add_argument("video", type=Path)
    parser.add_argument("--topic", help="default: /camera/image_raw, compressed: /camera/image_raw/compressed")
    parser.add_argument("--rate-hz", type=positive, help="a constant rate; default: the frames' own times")
    add_new_bag_options(parser)
    add_strict_option(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    bad_frames = BadFrames(strict=arguments.strict)
    frames = write_bag_from_video(
        arguments.video,
        arguments.out,
        storage=arguments.storage,
        compressed=arguments.compressed,
        topic=arguments.topic,
        rate_hz=arguments.rate_hz,
        bad_frames=bad_frames,
    )
    print(f"{frames} frames in {arguments.out}{bad_frames.summary()}")
