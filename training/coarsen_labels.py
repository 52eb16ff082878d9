"""Make coarse labels from fine ones, as Cityscapes' coarse annotations are to its fine ones.

    python -m training.coarsen_labels --labelled FOLDER --out FOLDER [--margin 0.02]

An annotator of coarse labels draws polygons inside of objects, leaves small objects out and their borders open. Each
region of a class is shrunk by the margin, and what is left of it becomes a polygon that lies no further than the margin
from its outline; all else is ignored. Where a polygon crosses another class, its own counts, as a hasty annotator errs.
FOLDER holds image/ and label/ with train ids; the images are linked, not copied.

Source: Cordts et al., "The Cityscapes dataset", CVPR 2016 (arXiv 1604.01685), section 2.2. Differs: made by a rule.
"""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from darkseg_ros.classes import CITYSCAPES, IGNORE_INDEX
from darkseg_ros.errors import InputError
from darkseg_ros.frames.labelled import read_labelled
from training.data.pairs import find_labelled_images
from training.runs.results import one_line_errors, write_result


def main(arguments: list[str] | None = None) -> None:
    """Run the stage from the command line."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--labelled", type=Path, required=True, help="folder with image/ and label/")
    parser.add_argument("--out", type=Path, required=True, help="folder for links to the images, and coarse label maps")
    parser.add_argument("--margin", type=float, default=0.02, help="share of the image's height (0.02)")
    parsed = parser.parse_args(arguments)
    with one_line_errors("coarsen_labels"):
        coarsen_folder(parsed.labelled, parsed.out, margin=parsed.margin)


def coarsen_folder(labelled: Path, out: Path, *, margin: float) -> None:
    """Write ``out/label`` and link ``out/image``; started again, it skips what is there.

    Args:
        labelled: folder with image/ and label/.
        out: folder for the result.
        margin: of `coarsen`, as a share of the image's height.

    Raises:
        InputError: if a file cannot be used or written, or the margin is no share.
    """
    if not 0 < margin < 0.5:
        raise InputError(f"--margin is {margin:g}; expected a share of the height, such as 0.02")
    kept: list[float] = []
    for pair in tqdm(find_labelled_images(labelled), desc="coarsen", unit="image", mininterval=10):
        label_out, image_out = out / "label" / f"{pair.label.stem}.png", out / "image" / pair.image.name
        if not label_out.is_file():
            _bgr, fine = read_labelled(pair)
            coarse = coarsen(fine, margin_px=max(1, round(margin * fine.shape[0])))
            write_result(label_out, cv2.imencode(".png", coarse)[1].tobytes())
            kept.append(float((coarse != IGNORE_INDEX).mean()))
        if not image_out.is_symlink():
            image_out.parent.mkdir(parents=True, exist_ok=True)
            image_out.symlink_to(pair.image.resolve())
    if kept:
        print(f"{len(kept)} label maps in {out}, {np.mean(kept):.1%} of the pixels labelled")


def coarsen(fine: np.ndarray, *, margin_px: int) -> np.ndarray:
    """A coarse label map: polygons inside of the regions, the rest IGNORE_INDEX.

    Args:
        fine: (H, W) uint8 train ids, IGNORE_INDEX = no label.
        margin_px: by which regions are shrunk, and how far a polygon may lie from the outline of what is left.

    Returns:
        (H, W) uint8.
    """
    coarse = np.full_like(fine, IGNORE_INDEX)
    brush = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * margin_px + 1, 2 * margin_px + 1))
    polygons: list[tuple[float, int, np.ndarray]] = []
    for train_id in range(len(CITYSCAPES)):
        shrunk = cv2.erode((fine == train_id).astype(np.uint8), brush, borderType=cv2.BORDER_CONSTANT, borderValue=1)
        outlines, _hierarchy = cv2.findContours(shrunk, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        for outline in outlines:
            polygon = cv2.approxPolyDP(outline, margin_px, closed=True)
            if len(polygon) >= 3:
                polygons.append((cv2.contourArea(polygon), train_id, polygon))
    for _area, train_id, polygon in sorted(polygons, key=lambda one: -one[0]):  # small objects lie upon large ones
        cv2.fillPoly(coarse, [polygon], train_id)
    coarse[fine == IGNORE_INDEX] = IGNORE_INDEX
    return coarse


if __name__ == "__main__":
    main()
