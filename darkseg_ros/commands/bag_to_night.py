"""`darkseg bag to-night`: add a night frame for each day frame of a bag."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

from darkseg_ros.commands.options import add_strict_option
from darkseg_ros.errors import one_line
from darkseg_ros.frames.bad_frames import BadFrames
from darkseg_ros.model.translator import TRANSLATOR_BACKENDS
from darkseg_ros.night.bag_translation import check_bags, translate_bag
from darkseg_ros.night.day_to_night import NIGHT_TOPIC, NightSettings, open_day_to_night


def declare(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    parser.description = f"Copy a bag and add night frames on {NIGHT_TOPIC}, with the stamps of the day frames."
    parser.add_argument("bag", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="the bag, a folder that does not exist yet")
    parser.add_argument("--topic", help="image topic of a bag that has several")
    parser.add_argument("--bundle", type=Path, help="translator's bundle; without one, light is made up by --seed")
    parser.add_argument(
        "--backend", choices=TRANSLATOR_BACKENDS, default="auto", help="inference library of the bundle"
    )
    parser.add_argument("--seed", type=_seed, help="without a bundle: another seed is another street; default: 0")
    parser.add_argument("--night-images", type=Path, help="without a bundle: folder of images to take the light of")
    add_strict_option(parser)
    parser.set_defaults(run=partial(_run, parser))


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 on, got {text!r}")
    return int(text)


def _run(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    if arguments.bundle is not None and (arguments.seed is not None or arguments.night_images is not None):
        parser.error("--seed and --night-images make up the light, --bundle translates; give one or the other")
    check_bags(arguments.bag, arguments.out, topic=arguments.topic)
    settings = NightSettings(
        bundle=arguments.bundle,
        backend=arguments.backend,
        seed=arguments.seed or 0,
        night_images=arguments.night_images,
    )
    bad_frames = BadFrames(strict=arguments.strict)
    day_to_night = open_day_to_night(settings)
    try:
        translated = translate_bag(
            arguments.bag, arguments.out, day_to_night=day_to_night, topic=arguments.topic, bad_frames=bad_frames
        )
    finally:
        day_to_night.close()
    print(
        f"{translated.frames} night frames on {NIGHT_TOPIC} in {arguments.out}, by {day_to_night.name}"
        f"{bad_frames.summary()}"
    )
    if translated.skipped_topics:
        topics = ", ".join(translated.skipped_topics)
        print(f"not copied, as their types are none of ROS 2's own: {one_line(topics)}", file=sys.stderr)
