"""Fréchet Inception distance (FID) between two folders of images.

python -m training.frechet_distance --images FOLDER --against FOLDER --extractor FILE --out metrics.json
"""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from pathlib import Path

from darkseg_ros.errors import InputError
from darkseg_ros.frames.source import image_files
from darkseg_ros.model.fid import FeatureStatistics, frechet_distance
from darkseg_ros.model.image_features import INCEPTION_INPUT_PX, FeatureExtractor
from training.runs.fabric import add_accelerator, pick_device
from training.runs.results import one_line_errors, write_result
from training.selection.inception import (
    DEFAULT_CACHE,
    load_extractor,
    read_features,
)


def main(arguments: list[str] | None = None) -> None:
    """Run the stage from the command line."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, required=True, help="folder of images, such as translated ones")
    parser.add_argument("--against", type=Path, required=True, help="folder of images, such as real ones")
    parser.add_argument("--extractor", type=Path, required=True, help="TorchScript or ONNX file")
    parser.add_argument("--input-px", type=int, default=INCEPTION_INPUT_PX, help="its input size (299)")
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help=f"folder of features ({DEFAULT_CACHE})")
    parser.add_argument("--out", type=Path, required=True, help="JSON file for the distance")
    add_accelerator(parser)
    parsed = parser.parse_args(arguments)
    with one_line_errors("frechet_distance"):
        device = pick_device(parsed.accelerator)
        extractor = load_extractor(parsed.extractor, input_px=parsed.input_px, device=device)
        write_distance(parsed.images, parsed.against, extractor=extractor, cache=parsed.cache, out=parsed.out)


def write_distance(images: Path, against: Path, *, extractor: FeatureExtractor, cache: Path, out: Path) -> None:
    """Write ``fid``, the counts and, where images are too few, a ``warning`` as JSON.

    Raises:
        InputError: as `read_features`, or if a folder holds fewer than two images.
    """
    statistics = []
    for folder in (images, against):
        gathered = FeatureStatistics()
        gathered.add(read_features(image_files(folder), folder=folder, extractor=extractor, cache=cache))
        if gathered.count < 2:
            raise InputError(f"{folder} holds one image; expected two or more, their spread is part of the distance")
        statistics.append(gathered)
    ours, theirs = statistics
    fid = frechet_distance(ours.mean, ours.covariance, theirs.mean, theirs.covariance)
    metrics: dict[str, float | int | str] = {
        "fid": round(fid, 4),
        "images": ours.count,
        "against": theirs.count,
        "features": len(ours.mean),
    }
    fewest = min(ours.count, theirs.count)
    if fewest <= len(ours.mean):
        metrics["warning"] = (
            f"{fewest} images for {len(ours.mean)} features: the covariance is singular and the distance too high; "
            "compare it only with distances from as many images"
        )
    write_result(out, json.dumps(metrics, indent=2) + "\n")
    print(f"FID {fid:.2f} between {ours.count} images in {images} and {theirs.count} in {against}")
    if "warning" in metrics:
        print(f"warning: {metrics['warning']}", file=sys.stderr)


if __name__ == "__main__":
    main()
