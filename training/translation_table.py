"""Compare the translators: FID of what they make, and the night mIoU of a segmenter trained on it.

    python -m training.translation_table --extractor FILE [--data FOLDER] [--runs FOLDER] [--out docs/translators.md]

Trains each translator of `training.translation.comparison` with one small budget, translates labelled day images,
trains a segmenter on them, and writes the page after each row. Started again, it goes on where it stopped. FILE is that
of `training.fetch_inception`.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
from argparse import ArgumentParser
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch

from darkseg_ros.errors import InputError
from darkseg_ros.frames.source import image_files, read_image
from darkseg_ros.night.cheap_night import CheapNight, darken
from training.data.pairs import find_labelled_images
from training.frechet_distance import write_distance
from training.runs.config import load_config
from training.runs.results import one_line_errors, write_picture, write_result
from training.segmenter_config import SegmenterConfig
from training.selection.inception import load_extractor
from training.train_segmenter import train as train_segmenter
from training.train_translator import train as train_translator
from training.translate import translate_folder
from training.translation.catalogue import translator_kind
from training.translation.comparison import COMPARED, Budget, Compared, ComparedRow, page_of
from training.translation.tiles import TranslationSettings

_CONFIGS = Path(__file__).parent / "configs"
_CONFIG_OF = {"unit": "unit_mini_no_perceptual.yaml", "cyclegan": "cyclegan_mini.yaml", "pix2pix": "pix2pix_mini.yaml"}


def main(arguments: list[str] | None = None) -> None:
    """Run the comparison from the command line."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--extractor", type=Path, required=True, help="TorchScript file of FID's features")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("DARKSEG_DATA", "../shared/data")))
    parser.add_argument("--runs", type=Path, default=Path("runs/translators"), help="folder for what is trained")
    parser.add_argument("--out", type=Path, default=Path("docs/translators.md"), help="the page, Markdown")
    parser.add_argument("--steps", type=int, default=300, help="of each translator (%(default)s)")
    parser.add_argument("--crop-px", type=int, default=64, help="of its crops, out of twice as many (%(default)s)")
    parser.add_argument("--segmenter-steps", type=int, default=120, help="of each segmenter (%(default)s)")
    parser.add_argument("--images", type=int, default=150, help="labelled day images (%(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parsed = parser.parse_args(arguments)
    budget = Budget(parsed.steps, parsed.crop_px, parsed.segmenter_steps, parsed.images, parsed.seed)
    with one_line_errors("translation_table"):
        compare(parsed.data, parsed.runs, parsed.out, budget=budget, extractor=parsed.extractor)


def compare(data: Path, runs: Path, out: Path, *, budget: Budget, extractor: Path) -> None:
    """Run every row that has no figures yet, and write the page after each.

    Args:
        data: folder with source_day_cityscapes, target_night_unlabelled and acdc_night_dev.
        runs: gets a folder a row and a translator.
        out: the page.
        budget: of all rows.
        extractor: of FID's features.

    Raises:
        InputError: on unusable data, or runs of another budget.
    """
    known, asked = runs / "budget.json", json.dumps(asdict(budget)) + "\n"
    if known.is_file() and known.read_text(encoding="utf-8") != asked:
        raise InputError(f"{runs} has another budget, {known.read_text().strip()}; choose another --runs or remove it")
    loaded = load_extractor(extractor)
    write_result(known, asked)
    _write_common(data, runs, budget)
    figures: dict[str, Compared] = {}
    for row in COMPARED:
        written = runs / row.key / "figures.json"
        if not written.is_file():
            images = _images_of(row, runs, budget)
            fid = runs / row.key / "fid.json"
            write_distance(images / "image", runs / "night", extractor=loaded, cache=runs / "features", out=fid)
            night = _segmenter_figures(images, runs / row.key / "segmenter", data=data, runs=runs, budget=budget)
            low, high = night["ci95"]["miou_present"]
            compared = Compared(
                fid=json.loads(fid.read_text())["fid"],
                miou=night["miou_present"],
                low=low,
                high=high,
                pixel_accuracy=night["pixel_accuracy"],
            )
            write_result(written, json.dumps(asdict(compared)) + "\n")
        figures[row.key] = Compared(**json.loads(written.read_text(encoding="utf-8")))
        machine = f"{os.cpu_count()} CPU cores, {platform.system()}, PyTorch {torch.__version__}, {date.today()}"
        write_result(out, page_of(figures, budget, machine))


def _write_common(data: Path, runs: Path, budget: Budget) -> None:
    """Copy the day and night images that every row shares, and darken the day."""
    pairs = find_labelled_images(data / "source_day_cityscapes" / "train")
    night = image_files(data / "target_night_unlabelled")
    if min(len(pairs), len(night)) < budget.images:
        raise InputError(f"{data} holds {len(pairs)} day and {len(night)} night images; --images asks for more")
    pairs = [pairs[i * len(pairs) // budget.images] for i in range(budget.images)]
    night = [night[i * len(night) // budget.images] for i in range(budget.images)]
    if (runs / "darkened" / "label" / pairs[-1].label.name).is_file():
        return
    for folder in ("night", "day/image", "day/label", "darkened/image", "darkened/label"):
        (runs / folder).mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(budget.seed)
    for pair, path in zip(pairs, night, strict=True):
        shutil.copyfile(path, runs / "night" / path.name)
        write_result(runs / "day" / "image" / pair.image.name, pair.image.read_bytes())
        darkened = darken(read_image(pair.image), read_image(path), CheapNight(), rng)
        write_picture(runs / "darkened" / "image" / f"{pair.image.stem}.png", darkened)
        for row in ("day", "darkened"):
            write_result(runs / row / "label" / pair.label.name, pair.label.read_bytes())


def _images_of(row: ComparedRow, runs: Path, budget: Budget) -> Path:
    """The folder of a row's labelled images; trains its translator if need be."""
    if row.translator is None:
        return runs / row.key
    run = runs / "translators" / row.translator
    kind = translator_kind(row.translator)
    night = runs / ("darkened/image" if kind.paired else "night")
    settings = [
        f"output={run}",
        f"steps={budget.translator_steps}",
        f"seed={budget.seed}",
        f"evaluate_every={budget.translator_steps}",
        f"crop_px={budget.crop_px}",
        f"view_px={2 * budget.crop_px}",
        f"data.day=[{runs / 'day' / 'image'}]",
        f"data.night=[{night}]",
        "data.cache.kind=memory",
    ]
    # the networks are as deep as the crops allow
    if row.translator == "unit":
        settings.append("network.discriminator_scales=2")
    if row.translator == "pix2pix":
        settings.append(f"network.downsamplings={int(np.log2(budget.crop_px))}")
    train_translator(load_config(kind.schema, _CONFIGS / _CONFIG_OF[row.translator], settings))
    out = runs / row.key / "images"
    translate_folder(
        run / "checkpoints" / "last.pt",
        runs / "day",
        out,
        settings=TranslationSettings(enhance=row.enhance),
        labelled=True,
        reference=runs / "night" if row.enhance == "match_histogram" else None,
    )
    return out


def _segmenter_figures(images: Path, run: Path, *, data: Path, runs: Path, budget: Budget) -> dict[str, Any]:
    """Train the segmenter of a row; its figures on labelled night, as metrics.json has them."""
    settings = [
        f"output={run}",
        f"steps={budget.segmenter_steps}",
        f"seed={budget.seed}",
        "batch_size=8",
        "loader_workers=0",
        f"evaluate_every={budget.segmenter_steps}",
        f"data.source=[{images}]",
        f"data.night={runs / 'night'}",
        "data.validation.day=null",
        f"data.validation.night={data / 'acdc_night_dev'}",
        "data.cache.kind=memory",
        f"network.encoder_weights={data / 'weights' / 'mobilenet_v2-b0353104.pth'}",
        "network.input_px=256",
        "augmentation.crop_px=128",
        "augmentation.view_px=192",
        "augmentation.scale_max=1.5",
        "cheap_night.share=0",
        "optimiser.warmup_steps=10",
        "optimiser.average_decay=0.95",
    ]
    train_segmenter(load_config(SegmenterConfig, _CONFIGS / "segmenter_slim.yaml", settings))
    figures: dict[str, Any] = json.loads((run / "metrics.json").read_text(encoding="utf-8"))["night"]
    return figures


if __name__ == "__main__":
    main()
