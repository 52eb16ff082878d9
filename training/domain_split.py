"""Split a folder of images into day and night by their histogram level, and pick a band of levels.

    python -m training.domain_split --images FOLDER --out FOLDER [--night-threshold 65] [--band 15 20 | --no-band]

Writes the image lists day.txt, night.txt and band.txt, the level of every image in levels.csv, and distribution.png.
A side of the split without images gets no list; a band without images is an error.
"""

from __future__ import annotations

import csv
import io
import math
from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from darkseg_ros.errors import InputError
from darkseg_ros.frames.source import image_files, read_image
from training.data.image_lists import write_image_list
from training.runs.fabric import one_line_errors, write_picture, write_result

NIGHT_THRESHOLD = 65.0
BAND = (15.0, 20.0)
RED_WEIGHT = 0.5


@dataclass(frozen=True)
class SplitSettings:
    """Where day ends and which levels are chosen.

    Attributes:
        night_threshold: an image with a lower level is night.
        band: lowest and highest level chosen, both within; None chooses none.
        red_weight: weight of the red channel, green and blue have 1.
    """

    night_threshold: float = NIGHT_THRESHOLD
    band: tuple[float, float] | None = BAND
    red_weight: float = RED_WEIGHT


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


def require_band(band: tuple[float, float]) -> None:
    """Raise InputError unless a band goes from a lower to a higher level."""
    if not 0 <= band[0] <= band[1] <= 255:
        raise InputError(f"the band {band[0]:g} {band[1]:g} is none; expected two levels of 0…255, the lower first")


def histogram_level(bgr: np.ndarray, *, red_weight: float = RED_WEIGHT) -> float:
    """How bright an image is, red counting less: at night lamps are red and would make a dark street look lit.

    level = mean of (w R + G + B) / (w + 2) over the pixels

    Args:
        bgr: (H, W, 3) uint8.
        red_weight: w, at least 0.

    Returns:
        0 (black) … 255 (white).

    Source: equation 4.1 of the thesis, S = w R + G + B with w = 0.5.
    Differs: the thesis does not say how S becomes one number on which night is below 65 and the band is 15…20. Here it
        is the mean over the pixels divided by the sum of the weights, as only so 65 lies between night and day: of
        BDD100K 1000 of 1000 night and 1 of 250 day images are below it, of Cityscapes' day images 15 %. Undivided,
        49 % of the night images are above 65 and 18 of them within the band; divided by 3, 49 % of Cityscapes' day
        images are below 65.
    """
    blue, green, red, _ = cv2.mean(bgr)
    return (red_weight * red + green + blue) / (red_weight + 2)


def histogram_levels(paths: list[Path], *, red_weight: float = RED_WEIGHT) -> np.ndarray:
    """Levels of image files, (N,) float64, read one at a time.

    Raises:
        InputError: if the weight is negative or an image cannot be read.
    """
    if not red_weight >= 0:
        raise InputError(f"red weight {red_weight:g}; expected 0 or more, the thesis has 0.5")
    progress = tqdm(paths, desc="levels", unit="image", mininterval=10)
    return np.array([histogram_level(read_image(path), red_weight=red_weight) for path in progress])


def level_quantiles(levels: np.ndarray) -> dict[str, float]:
    """Levels at the quantiles that describe a distribution, by the quantile's name."""
    shares = (0, 0.05, 0.25, 0.5, 0.75, 0.95, 1)
    return {f"{share:g}": float(level) for share, level in zip(shares, np.quantile(levels, shares), strict=True)}


def write_image_figures(path: Path, names: Sequence[str], figures: dict[str, np.ndarray]) -> None:
    """Write a CSV file of one line an image: its name, then its figures.

    Args:
        path: the file.
        names: of the images.
        figures: by column name, (N,) each.

    Raises:
        InputError: as `stage_run.write_result`.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["name", *figures])
    for name, *row in zip(names, *figures.values(), strict=True):
        writer.writerow([name, *(f"{figure:.10g}" for figure in row)])
    write_result(path, text.getvalue())


_INK, _FAINT, _PAPER = (60, 50, 45), (225, 222, 220), (255, 255, 255)
_NIGHT, _DAY, _CHOSEN = (140, 92, 58), (92, 178, 240), (80, 76, 214)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_SIZE_WH = (1600, 800)
_LEFT, _RIGHT, _TOP, _BOTTOM = 130, 1550, 150, 690


def draw_distribution(levels: np.ndarray, settings: SplitSettings) -> np.ndarray:
    """Histogram of levels, bars stacked by side of the split and band, (800, 1600, 3) uint8 BGR."""
    low, high = settings.band if settings.band is not None else (math.inf, -math.inf)
    chosen_mask = (levels >= low) & (levels <= high)
    night_mask = levels < settings.night_threshold
    parts = [(_CHOSEN, chosen_mask), (_NIGHT, night_mask & ~chosen_mask), (_DAY, ~night_mask & ~chosen_mask)]

    drawn_max = max(float(levels.max()), settings.night_threshold, high)
    tick = next(step for step in (5, 10, 20, 50) if drawn_max <= 16 * step or step == 50)
    axis_max = tick * (math.floor(drawn_max / tick) + 1)
    bins = axis_max if axis_max > 60 else 2 * axis_max
    totals, edges = np.histogram(levels, bins=bins, range=(0, axis_max))
    count_tick = _round_step(int(totals.max()))
    count_max = count_tick * math.ceil(totals.max() / count_tick)
    canvas = np.full((_SIZE_WH[1], _SIZE_WH[0], 3), _PAPER, np.uint8)

    def x_of(level: float) -> int:
        return round(_LEFT + (_RIGHT - _LEFT) * level / axis_max)

    def y_of(count: float) -> int:
        return round(_BOTTOM - (_BOTTOM - _TOP) * count / count_max)

    if settings.band is not None:
        cv2.rectangle(canvas, (x_of(max(low, 0)), _TOP), (x_of(high), _BOTTOM), (232, 231, 250), cv2.FILLED)
    for count in range(0, count_max + 1, count_tick):
        cv2.line(canvas, (_LEFT, y_of(count)), (_RIGHT, y_of(count)), _FAINT, 1)
        _write(canvas, str(count), (_LEFT - 14, y_of(count) + 8), anchor="right")
    floors = np.zeros(bins, np.int64)
    for colour, mask in parts:
        tops = floors + np.histogram(levels[mask], bins=edges)[0]
        for index in np.flatnonzero(tops > floors):
            corner = (x_of(edges[index + 1]) - 2, y_of(floors[index]))
            cv2.rectangle(canvas, (x_of(edges[index]) + 1, y_of(tops[index])), corner, colour, cv2.FILLED)
        floors = tops
    cv2.line(canvas, (_LEFT, _BOTTOM), (_RIGHT, _BOTTOM), _INK, 2)
    for level in range(0, axis_max + 1, tick):
        cv2.line(canvas, (x_of(level), _BOTTOM), (x_of(level), _BOTTOM + 8), _INK, 2)
        _write(canvas, str(level), (x_of(level), _BOTTOM + 36), anchor="middle")
    threshold_px = x_of(settings.night_threshold)
    cv2.line(canvas, (threshold_px, _TOP - 10), (threshold_px, _BOTTOM), _INK, 2, cv2.LINE_AA)

    night = int(night_mask.sum())
    legend = [
        (_NIGHT, f"night, below {settings.night_threshold:g}: {night}"),
        (_DAY, f"day: {len(levels) - night}"),
    ]
    if settings.band is not None:
        legend.append((_CHOSEN, f"band {low:g} to {high:g}: {int(chosen_mask.sum())}"))
    _write(canvas, f"Histogram level of {len(levels)} images", (_LEFT, 58), scale=1.1)
    x = _LEFT
    for colour, text in legend:
        cv2.rectangle(canvas, (x, 92), (x + 24, 116), colour, cv2.FILLED)
        x = _write(canvas, text, (x + 36, 113)) + 50
    axis_text = f"mean of ({settings.red_weight:g} R + G + B) / {settings.red_weight + 2:g}"
    _write(canvas, axis_text, ((_LEFT + _RIGHT) // 2, _BOTTOM + 86), anchor="middle")
    return canvas


def _round_step(count_max: int) -> int:
    """The smallest of 1, 2, 5, 10, 20, 50 … that needs at most six steps."""
    magnitude = 1
    while True:
        for factor in (1, 2, 5):
            if count_max <= 6 * factor * magnitude:
                return factor * magnitude
        magnitude *= 10


def _write(canvas: np.ndarray, text: str, origin: tuple[int, int], *, scale: float = 0.75, anchor: str = "left") -> int:
    """Put text on a picture; returns where it ends in x."""
    thickness = 2 if scale > 1 else 1
    (width, _), _ = cv2.getTextSize(text, _FONT, scale, thickness)
    x = origin[0] - {"left": 0, "middle": width // 2, "right": width}[anchor]
    cv2.putText(canvas, text, (x, origin[1]), _FONT, scale, _INK, thickness, cv2.LINE_AA)
    return x + width


if __name__ == "__main__":
    main()
