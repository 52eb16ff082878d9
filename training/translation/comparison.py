"""The page that compares translators: its rows, and what their figures say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from training.translation.enhancement import Enhancement


@dataclass(frozen=True)
class ComparedRow:
    """What a segmenter is trained on, in the place of the day images.

    Attributes:
        key: names its folder.
        what: in words.
        translator: of `training.translation.catalogue`; None without one.
        enhance: what is done to translations afterwards.
    """

    key: str
    what: str
    translator: str | None = None
    enhance: Enhancement = "none"


COMPARED = (
    ComparedRow("day", "day images as they are"),
    ComparedRow("darkened", "darkened with the light of real night images, without a network"),
    ComparedRow("unit", "UNIT", "unit"),
    ComparedRow("cyclegan", "CycleGAN", "cyclegan"),
    ComparedRow("pix2pix", 'Pix2Pix, which learned the row "darkened"', "pix2pix"),
    ComparedRow("unit_histogram", "UNIT, then the histogram of real night images", "unit", "match_histogram"),
    ComparedRow("unit_equalised", "UNIT, then contrast-limited equalisation", "unit", "equalise"),
)


@dataclass(frozen=True)
class Compared:
    """Figures of a row.

    Attributes:
        fid: distance of its images to real night images.
        miou: of the segmenter on labelled real night, classes present, 0…1.
        low: of its 95 % interval.
        high: of the same.
        pixel_accuracy: 0…1.
    """

    fid: float
    miou: float
    low: float
    high: float
    pixel_accuracy: float


@dataclass(frozen=True)
class Budget:
    """What every row has.

    Attributes:
        translator_steps: of one pair of crops.
        crop_px: of the translators.
        segmenter_steps: of 8 crops.
        images: labelled day images, and as many of the real night for FID.
        seed: of everything.
    """

    translator_steps: int
    crop_px: int
    segmenter_steps: int
    images: int
    seed: int


def page_of(figures: Mapping[str, Compared], budget: Budget, machine: str) -> str:
    """The page in Markdown; rows without figures say "not yet run".

    Args:
        figures: by the key of `COMPARED`.
        budget: of all rows.
        machine: what they ran on, and when.
    """
    lines = [
        "<!-- Written by training/translation_table.py; edit training/translation/comparison.py. -->",
        "# Translators, compared",
        "",
        "    python -m training.translation_table --extractor FILE "
        f"--steps {budget.translator_steps} --crop-px {budget.crop_px} "
        f"--segmenter-steps {budget.segmenter_steps} --images {budget.images}",
        "",
        f"Every row has the same budget, a small one: translators of 16 channels take {budget.translator_steps} "
        f"steps of one pair of {budget.crop_px}² crops, then a slim segmenter takes {budget.segmenter_steps} steps of "
        f"8 crops on {budget.images} Cityscapes day images in the row's light, with their day labels. FID is to "
        f"{budget.images} BDD100K night images: with so few images it is too high, and good for comparing rows alone. "
        "mIoU is that of the classes present in the 17 ACDC night images, with its 95 % interval over images. "
        f"One seed ({budget.seed}). {machine}.",
        "",
        "So it tells what each method gives early, by one seed, and does not rank them at their best. UNIT on larger "
        "crops stands in [the ladder](ladder.md).",
        "",
        "| images | FID to real night | night mIoU, % | pixel accuracy, % |",
        "|---|---|---|---|",
    ]
    for row in COMPARED:
        found = figures.get(row.key)
        if found is None:
            lines.append(f"| {row.what} | not yet run | | |")
            continue
        miou, low, high = (f"{100 * value:.1f}" for value in (found.miou, found.low, found.high))
        lines.append(f"| {row.what} | {found.fid:.0f} | {miou} ({low}–{high}) | {100 * found.pixel_accuracy:.1f} |")
    return "\n".join([*lines, "", *conclusions(figures), ""])


def conclusions(figures: Mapping[str, Compared]) -> list[str]:
    """What the figures say, a sentence each; none before all rows were run."""
    if any(row.key not in figures for row in COMPARED):
        return ["Some rows were not run yet: there is nothing to conclude."]
    nearest = min(COMPARED, key=lambda row: figures[row.key].fid)
    best = max(COMPARED, key=lambda row: figures[row.key].miou)
    day = figures["day"]
    above = [row.what for row in COMPARED if figures[row.key].low > day.high]
    below = [row.what for row in COMPARED if figures[row.key].high < day.low]
    closer = [row.what for row in COMPARED if figures[row.key].fid < day.fid]
    return [
        f"- Nearest to real night by FID: {nearest.what}. Nearer than the day images themselves: "
        f"{'; '.join(closer) or 'none'}.",
        f"- Highest night mIoU: {best.what}.",
        f"- Rows whose interval lies above that of the day images: {'; '.join(above) or 'none'}; below it: "
        f"{'; '.join(below) or 'none'}. The others cannot be told from them.",
    ]
