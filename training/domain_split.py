"""Split a folder of images into day and night by their histogram level, and pick a band of levels.

    python -m training.domain_split --images FOLDER --out FOLDER [--night-threshold 65] [--band 15 20 | --no-band]

Writes the image lists day.txt, night.txt and band.txt, the level of every image in levels.csv, and distribution.png.
A side of the split without images gets no list; a band without images is an error.
"""

from __future__ import annotations

import math
from argparse import ArgumentParser
from pathlib import Path

import numpy as np

from darkseg_ros.errors import InputError
from darkseg_ros.frames.source import image_files
from training.data.image_lists import write_image_list
from training.runs.results import one_line_errors, write_image_figures, write_picture
from training.selection.charts import draw_distribution
from training.selection.levels import (
    BAND,
    NIGHT_THRESHOLD,
    RED_WEIGHT,
    SplitSettings,
    histogram_levels,
    level_quantiles,
    require_band,
)


def main(arguments: list[str] | None = None) -> None:
    """Run the stage from the command line."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, required=True, help="folder of images")
    parser.add_argument("--out", type=Path, required=True, help="folder for the lists, the levels and the picture")
    parser.add_argument(
        "--night-threshold", type=float, default=NIGHT_THRESHOLD, metavar="LEVEL", help="night is below (65)"
    )
    band = parser.add_mutually_exclusive_group()
    band.add_argument(
        "--band", type=float, nargs=2, default=BAND, metavar=("LOW", "HIGH"), help="levels of band.txt (15 20)"
    )
    band.add_argument("--no-band", action="store_true", help="split only")
    parser.add_argument("--red-weight", type=float, default=RED_WEIGHT, help="weight of red in the level (0.5)")
    parsed = parser.parse_args(arguments)
    settings = SplitSettings(
        night_threshold=parsed.night_threshold,
        band=None if parsed.no_band else tuple(parsed.band),
        red_weight=parsed.red_weight,
    )
    with one_line_errors("domain_split"):
        split_domains(parsed.images, parsed.out, settings)


def split_domains(images: Path, out: Path, settings: SplitSettings) -> None:
    """Write lists, levels and picture into `out`; lists of an earlier run that no longer hold are removed.

    Raises:
        InputError: on an empty folder, an unreadable image, impossible settings, or a band without images (all but
            band.txt is written then).
    """
    if settings.band is not None:
        require_band(settings.band)
    if not 0 <= settings.night_threshold <= 255:
        raise InputError(f"night threshold {settings.night_threshold:g}; expected a level of 0…255, the thesis has 65")
    paths = image_files(images)
    levels = histogram_levels(paths, red_weight=settings.red_weight)
    names = [path.name for path in paths]
    low, high = settings.band if settings.band is not None else (math.inf, -math.inf)
    masks = {
        "day": levels >= settings.night_threshold,
        "night": levels < settings.night_threshold,
        "band": (levels >= low) & (levels <= high),
    }
    write_image_figures(out / "levels.csv", names, {"level": levels})
    write_picture(out / "distribution.png", draw_distribution(levels, settings))
    for part, mask in masks.items():
        if mask.any():
            write_image_list(out / f"{part}.txt", [names[i] for i in np.flatnonzero(mask)])
        else:
            (out / f"{part}.txt").unlink(missing_ok=True)

    quantiles = ", ".join(f"{share}: {level:.1f}" for share, level in level_quantiles(levels).items())
    print(f"{len(names)} images in {images}, levels by quantile {quantiles}")
    for part, mask in masks.items():
        if mask.any():
            print(f"{part}: {mask.sum()} images in {out / f'{part}.txt'}")
        elif part != "band":
            print(f"{part}: no image, no {part}.txt")
    if settings.band is not None and not masks["band"].any():
        raise InputError(
            f"no image of {images} has a level within the band {low:g}…{high:g}: levels are {levels.min():.1f}…"
            f"{levels.max():.1f}; choose a --band from {out / 'distribution.png'}, or --no-band for the split alone"
        )


if __name__ == "__main__":
    main()
