"""Choose unlabelled night images for self-training, by histogram level or by Fréchet distance to a reference.

    python -m training.select_images histogram --images FOLDER --out list.txt [--band 15 20]
        [--count N | --ratio 0.25 --labelled FOLDER[,FOLDER]]
    python -m training.select_images fid --images FOLDER --reference FOLDER --extractor FILE --out list.txt
        (--threshold 450 | --count N | --ratio 0.25 --labelled FOLDER[,FOLDER])

Beside the list come <list>_scores.csv with every candidate and <list>_sheet.png with the best of the chosen.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

import cv2
import numpy as np

from darkseg_ros.errors import InputError
from darkseg_ros.frames.source import image_files, read_image
from training.data.image_lists import read_image_list, write_image_list
from training.data.pairs import find_labelled_images
from training.domain_split import (
    BAND,
    RED_WEIGHT,
    histogram_levels,
    require_band,
    write_image_figures,
)
from training.frechet_distance import FeatureStatistics
from training.image_features import DEFAULT_CACHE, INCEPTION_INPUT_PX, load_extractor, read_features
from training.runs.fabric import add_accelerator, one_line_errors, pick_device, write_picture

_SHEET_COLUMNS, _SHEET_ROWS = 6, 4
_TILE_WH = (288, 162)
_CAPTION_PX = 30


def main(arguments: list[str] | None = None) -> None:
    """Run the stage from the command line."""
    parser = ArgumentParser(description=__doc__)
    methods = parser.add_subparsers(dest="method", required=True)

    histogram = methods.add_parser("histogram", help="images whose level is within a band")
    histogram.add_argument(
        "--band", type=float, nargs=2, default=BAND, metavar=("LOW", "HIGH"), help="levels chosen (15 20)"
    )
    histogram.add_argument("--red-weight", type=float, default=RED_WEIGHT, help="weight of red in the level (0.5)")

    fid = methods.add_parser("fid", help="images nearest to the features of a reference")
    fid.add_argument("--reference", type=Path, required=True, help="folder of images of the target domain")
    fid.add_argument("--reference-list", type=Path, help="takes only these of the reference")
    fid.add_argument("--extractor", type=Path, required=True, help="TorchScript or ONNX file")
    fid.add_argument("--input-px", type=int, default=INCEPTION_INPUT_PX, help="its input size (299)")
    fid.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help=f"folder of features ({DEFAULT_CACHE})")
    add_accelerator(fid)

    for method in (histogram, fid):
        method.add_argument("--images", type=Path, required=True, help="folder of unlabelled images")
        method.add_argument("--candidates", type=Path, help="image list; only these may be chosen")
        method.add_argument("--out", type=Path, required=True, help="image list of the chosen")
        how_many = method.add_mutually_exclusive_group(required=method is fid)
        if method is fid:
            how_many.add_argument("--threshold", type=float, help="largest distance chosen (thesis: 450)")
        how_many.add_argument("--count", type=int, help="how many to choose, the best first")
        how_many.add_argument("--ratio", type=float, help="as --count, by image of --labelled (thesis: 0.25)")
        method.add_argument("--labelled", help="labelled folders, separated by commas")
    parsed = parser.parse_args(arguments)
    if (parsed.ratio is None) != (parsed.labelled is None):
        parser.error("--ratio and --labelled go together")
    with one_line_errors("select_images"):
        _select(parsed)


def _select(parsed: Namespace) -> None:
    paths = (
        image_files(parsed.images) if parsed.candidates is None else read_image_list(parsed.candidates, parsed.images)
    )
    count = parsed.count
    if parsed.ratio is not None:
        count = count_by_ratio(parsed.ratio, [Path(folder) for folder in parsed.labelled.split(",")])
    if count is not None and count < 1:
        raise InputError(f"{count} images are to be chosen; expected one or more, raise --count or --ratio")

    if parsed.method == "histogram":
        require_band(tuple(parsed.band))
        scores = histogram_levels(paths, red_weight=parsed.red_weight)
        chosen = choose_by_level(scores, tuple(parsed.band), count=count)
        score_name = "level"
    else:
        device = pick_device(parsed.accelerator)
        extractor = load_extractor(parsed.extractor, input_px=parsed.input_px, device=device)
        reference_paths = (
            image_files(parsed.reference)
            if parsed.reference_list is None
            else read_image_list(parsed.reference_list, parsed.reference)
        )
        reference = FeatureStatistics()
        reference.add(read_features(reference_paths, folder=parsed.reference, extractor=extractor, cache=parsed.cache))
        if reference.count < 2:
            raise InputError(f"the reference {parsed.reference} has one image; expected two or more")
        features = read_features(paths, folder=parsed.images, extractor=extractor, cache=parsed.cache)
        scores = distances_to_reference(features, reference)
        chosen = choose_by_distance(scores, threshold=parsed.threshold, count=count)
        score_name = "fid"

    names = [path.relative_to(parsed.images).as_posix() for path in paths]
    chosen_mask = np.zeros(len(paths), bool)
    chosen_mask[chosen] = True
    out, sheet = parsed.out, parsed.out.with_name(f"{parsed.out.stem}_sheet.png")
    figures = {score_name: scores, "chosen": chosen_mask.astype(int)}
    write_image_figures(out.with_name(f"{out.stem}_scores.csv"), names, figures)
    shown = chosen[: _SHEET_COLUMNS * _SHEET_ROWS]
    captions = [f"{paths[i].stem[-16:]}  {score_name} {scores[i]:.1f}" for i in shown]
    write_picture(sheet, draw_contact_sheet([paths[i] for i in shown], captions))
    write_image_list(out, [names[i] for i in chosen])
    print(
        f"{len(chosen)} of {len(paths)} images in {out}: {score_name} {scores[chosen].min():.1f}…"
        f"{scores[chosen].max():.1f}, of all {scores.min():.1f}…{scores.max():.1f}"
    )
    if count is not None and len(chosen) < count:
        print(f"{count} were asked for, there are no more candidates")


def count_by_ratio(ratio: float, labelled_folders: list[Path]) -> int:
    """How many unlabelled images make a ratio to the labelled ones.

    Args:
        ratio: unlabelled by labelled.
        labelled_folders: folders with image/ and label/, counted together.

    Raises:
        InputError: if the ratio is not positive or a folder cannot be used.

    Source: section 4.2.2.3 of the thesis: more unlabelled images than that confuse the network.
    """
    if not ratio > 0:
        raise InputError(f"ratio {ratio:g}; expected more than 0, the thesis has 0.25")
    return round(ratio * sum(len(find_labelled_images(folder)) for folder in labelled_folders))


def choose_by_level(levels: np.ndarray, band: tuple[float, float], *, count: int | None) -> np.ndarray:
    """Images within a band of histogram levels, those nearest its middle first.

    Args:
        levels: (N,) of `domain_split.histogram_levels`, sorted by name.
        band: lowest and highest level, both within.
        count: how many at most; None takes all.

    Returns:
        Indices; equally near ones in the order of their names.

    Raises:
        InputError: if no level is within the band.

    Source: section 4.2.2.3 of the thesis, histogram-based method, band 15…20.
    """
    low, high = band
    order = np.argsort(np.abs(levels - (low + high) / 2), kind="stable")
    chosen = order[(levels[order] >= low) & (levels[order] <= high)][:count]
    if not len(chosen):
        raise InputError(
            f"no candidate has a level within the band {low:g}…{high:g}: levels are {levels.min():.1f}…"
            f"{levels.max():.1f}, half of them {np.quantile(levels, 0.25):.1f}…{np.quantile(levels, 0.75):.1f}; "
            "choose another --band"
        )
    return chosen


def distances_to_reference(features: np.ndarray, reference: FeatureStatistics) -> np.ndarray:
    """Fréchet distance of every image by itself to a set of images.

    One image has the covariance 0, which leaves FID(x) = ‖f_x − μ‖² + Tr Σ of equation 4.2: Tr Σ is the same for all
    images, so the order is that of the distance from the mean.

    Args:
        features: (N, D) of `image_features.read_features`.
        reference: features of the target domain.

    Returns:
        (N,) float64.

    Source: section 4.2.2.3 and equation 4.2 of the thesis, FID-based method.
    """
    trace = float(np.trace(reference.covariance))
    # row by row: a float64 copy of all features would double the memory
    shifts = (row.astype(np.float64) - reference.mean for row in features)
    return np.array([shift @ shift + trace for shift in shifts])


def choose_by_distance(distances: np.ndarray, *, threshold: float | None, count: int | None) -> np.ndarray:
    """Images nearest to a reference, the nearest first.

    Args:
        distances: (N,) of `distances_to_reference`, sorted by name.
        threshold: largest distance chosen; None sets no limit.
        count: how many at most; None takes all.

    Returns:
        Indices; equally near ones in the order of their names.

    Raises:
        InputError: if none is near enough.
    """
    order = np.argsort(distances, kind="stable")
    chosen = order if threshold is None else order[distances[order] <= threshold]
    if not len(chosen):
        raise InputError(
            f"no candidate has a distance of at most {threshold:g}: distances are {distances.min():.1f}…"
            f"{distances.max():.1f}, half of them below {np.median(distances):.1f}; raise --threshold, or use --count"
        )
    return chosen[:count]


def draw_contact_sheet(paths: list[Path], captions: list[str]) -> np.ndarray:
    """Small pictures with captions in rows of six, (H, 1752, 3) uint8 BGR."""
    gap, (width, height) = 4, _TILE_WH
    rows = -(-len(paths) // _SHEET_COLUMNS)
    sheet_wh = (gap + _SHEET_COLUMNS * (width + gap), gap + rows * (height + _CAPTION_PX + gap))
    sheet = np.full((sheet_wh[1], sheet_wh[0], 3), 32, np.uint8)
    for index, (path, caption) in enumerate(zip(paths, captions, strict=True)):
        bgr = read_image(path)
        scale = min(width / bgr.shape[1], height / bgr.shape[0])
        fitted_wh = (max(1, round(bgr.shape[1] * scale)), max(1, round(bgr.shape[0] * scale)))
        tile = cv2.resize(bgr, fitted_wh, interpolation=cv2.INTER_AREA)
        row, column = divmod(index, _SHEET_COLUMNS)
        x, y = gap + column * (width + gap), gap + row * (height + _CAPTION_PX + gap)
        left, top = x + (width - fitted_wh[0]) // 2, y + (height - fitted_wh[1]) // 2
        sheet[top : top + fitted_wh[1], left : left + fitted_wh[0]] = tile
        origin = (x + 4, y + height + 21)
        cv2.putText(sheet, caption, origin, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (220, 220, 220), 1, cv2.LINE_AA)
    return sheet


if __name__ == "__main__":
    main()
