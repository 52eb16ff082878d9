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

import numpy as np

from darkseg_ros.errors import InputError
from darkseg_ros.frames.levels import RED_WEIGHT
from darkseg_ros.frames.source import image_files
from darkseg_ros.model.fid import FeatureStatistics, choose_by_distance, distances_to_reference
from darkseg_ros.model.image_features import INCEPTION_INPUT_PX
from training.data.image_lists import read_image_list, write_image_list
from training.data.pairs import find_labelled_images
from training.runs.fabric import add_accelerator, pick_device
from training.runs.results import one_line_errors, write_image_figures, write_picture
from training.selection.charts import SHEET_IMAGES, draw_contact_sheet
from training.selection.inception import DEFAULT_CACHE, load_extractor, read_features
from training.selection.levels import BAND, choose_by_level, histogram_levels, require_band


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
    shown = chosen[:SHEET_IMAGES]
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


if __name__ == "__main__":
    main()
