"""Compare the ways to run a bundle on real frames: torch, ONNX Runtime, OpenVINO in float and int8, TensorRT.

    python -m engines.check_parity --checkpoint runs/segmenter_slim_balanced/checkpoints/last.pt

Without a checkpoint the fused graph in ONNX Runtime is the reference. The images are Cityscapes' validation set and
ACDC's night below DARKSEG_DATA (default ../shared/data), or those that are named; all of them take some minutes. Of
fewer than 400 images the mIoU of int8 is shown and not judged: chance moves it by as much as it may lose.

Exit status: 0, 1 for bad input, 2 for a bad command line, 3 when a backend misses its limits (engines/parity.py).
"""

from __future__ import annotations

import json
import os
import sys
from argparse import ArgumentParser, ArgumentTypeError, RawDescriptionHelpFormatter
from dataclasses import asdict
from pathlib import Path

from darkseg_ros.errors import InputError
from darkseg_ros.frames.labelled import LabelledImage, pair_files
from darkseg_ros.installed_files import bundle_folder
from engines.parity import LIMITS, compare
from training.data.pairs import find_labelled_images
from training.runs.results import one_line_errors, write_result

_LIMIT_MISSED = 3
_DATA_SETS = {"day": "source_day_cityscapes/val", "night": "acdc_night_dev"}


def main(arguments: list[str] | None = None) -> int:
    """Run the comparison from the command line; returns the exit status."""
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, help="the model's folder (default: the shipped one)")
    parser.add_argument("--checkpoint", type=Path, help="that the bundle was exported from: compares with torch")
    parser.add_argument("--images", type=Path, help="folder of images, instead of those below DARKSEG_DATA")
    parser.add_argument("--labels", type=Path, help="its label maps, of the same stems (train ids, 255 = none)")
    parser.add_argument(
        "--count", type=_count, metavar="N", help="at most N images of each set, evenly spread (default: all)"
    )
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="also write the figures to this file")
    parsed = parser.parse_args(arguments)
    if (parsed.images is None) != (parsed.labels is None):
        parser.error("--images and --labels belong together; name both or none")
    with one_line_errors("check_parity"):
        if parsed.images is None:
            sets = data_sets()
        else:
            sets = {parsed.images.resolve().name: pair_files(parsed.images, parsed.labels)}
        report = compare(
            bundle_folder(parsed.bundle),
            parsed.checkpoint,
            {name: spread(pairs, parsed.count) for name, pairs in sets.items()},
        )
        failures = report.failures()
        if parsed.out:
            limits = {precision: asdict(each) for precision, each in LIMITS.items()}
            content = {**asdict(report), "limits": limits, "failures": failures}
            write_result(parsed.out, f"{json.dumps(content, indent=2)}\n")
        print(report.table())
    for line in failures:
        print(f"check_parity: {line}", file=sys.stderr)
    return _LIMIT_MISSED if failures else 0


def data_sets() -> dict[str, list[LabelledImage]]:
    """Day and night images with label maps below DARKSEG_DATA.

    Raises:
        InputError: if they are not there.
    """
    data = Path(os.environ.get("DARKSEG_DATA", "../shared/data"))  # as training/configs have it
    try:
        return {name: find_labelled_images(data / folder) for name, folder in _DATA_SETS.items()}
    except InputError as error:
        raise InputError(
            f"{error}; parity is judged on real frames: set DARKSEG_DATA to a folder with "
            f"{' and '.join(_DATA_SETS.values())}, or name others with --images and --labels"
        ) from error


def spread(pairs: list[LabelledImage], count: int | None) -> list[LabelledImage]:
    """At most `count` of the images, evenly spread: neighbours often show one street. None takes all."""
    count = min(count or len(pairs), len(pairs))
    return [pairs[index * len(pairs) // count] for index in range(count)]


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise ArgumentTypeError(f"expected a whole number from 1 on, got {text!r}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
