"""Translate a folder of images into the other light: labelled day becomes night with the same labels.

    python -m training.translate --checkpoint FILE --source FOLDER --out FOLDER
        [--direction day_to_night|night_to_day] [--resize-px N | --tile-px N] [--unlabelled]
        [--enhance none|match_histogram|equalise] [--reference FOLDER]
    fabric run --devices 4 … training/translate.py --checkpoint …

FOLDER holds image/ and label/; with --unlabelled it holds the images themselves. Written are image/<stem>.jpg
(JPEG, quality 95, of the source's size), label/ byte for byte as it was, translation.json (what made them) and
contact_sheet.png (8 images above their translations). Started again, it skips what is there.
Several FOLDERs, bags, videos, globs in quotes and URLs are drives: --out gets a folder for each; --ray and --resume
work as in `darkseg evaluate`. Bags and videos need --unlabelled.
--enhance match_histogram gives each translation the light of an image of --reference, such as real night; equalise
strengthens its local contrast.
"""

from __future__ import annotations

from argparse import ArgumentParser
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np
from tqdm import tqdm

from darkseg_ros.errors import InputError
from darkseg_ros.frames.labelled import LabelledImage, read_labelled
from darkseg_ros.frames.source import ImageFile, image_files, read_image
from darkseg_ros.whole_files import sha256_of
from training.data.listing import files_digest
from training.data.pairs import find_labelled_images
from training.drives import add_drive_options, are_many, run_on_drives
from training.runs.config import RunSettings
from training.runs.fabric import add_accelerator, start_fabric
from training.runs.results import one_line_errors, write_result
from training.translation.contact_sheet import write_contact_sheet
from training.translation.enhancement import Enhancement, equalise, match_histogram
from training.translation.load import load_translator
from training.translation.record import record_translation
from training.translation.tiles import TranslationSettings, refuse_unfit_sizes, translate_image

_JPEG_QUALITY = 95


@dataclass(frozen=True)
class _Task:
    """One image to translate; `label` is None without labels."""

    image: ImageFile
    label: ImageFile | None
    image_out: Path
    label_out: Path | None

    @property
    def is_done(self) -> bool:
        return self.image_out.is_file() and (self.label_out is None or self.label_out.is_file())


def main(arguments: list[str] | None = None) -> None:
    """Run the stage from the command line."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument(
        "--checkpoint", type=Path, required=True, help="of training.train_translator; its averaged weights"
    )
    parser.add_argument("--source", nargs="+", required=True, help="folder with image/ and label/; or many drives")
    parser.add_argument("--out", required=True, help="folder for image/ and label/; of many a URL too")
    parser.add_argument("--direction", choices=("day_to_night", "night_to_day"), default="day_to_night")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--resize-px", type=int, metavar="N", help="squeeze each image to N×N, stretch it back after")
    size.add_argument("--tile-px", type=int, metavar="N", help="translate in overlapping N×N tiles, blended")
    parser.add_argument("--unlabelled", action="store_true", help="the source is a plain folder of images")
    parser.add_argument("--enhance", choices=get_args(Enhancement), default="none", help="the translations")
    parser.add_argument("--reference", type=Path, metavar="FOLDER", help="images whose light match_histogram takes")
    add_accelerator(parser)
    add_drive_options(parser)
    parsed = parser.parse_args(arguments)
    settings = TranslationSettings(
        direction=parsed.direction, resize_px=parsed.resize_px, tile_px=parsed.tile_px, enhance=parsed.enhance
    )
    reference = parsed.reference and parsed.reference.absolute()
    options: dict[str, Any] = {"settings": settings, "labelled": not parsed.unlabelled, "reference": reference}
    with one_line_errors("translate"):
        if are_many(parsed.source, parsed):
            work = partial(_translate_drive, parsed.checkpoint.absolute(), options, parsed.accelerator)
            record = {"checkpoint": sha256_of(parsed.checkpoint), **options, "settings": asdict(settings)}
            run_on_drives(work, parsed.source, parsed, what="images", settings=record)
            return
        source, out = Path(parsed.source[0]), Path(parsed.out)
        translate_folder(parsed.checkpoint, source, out, accelerator=parsed.accelerator, **options)


def _translate_drive(
    checkpoint: Path, options: dict[str, Any], accelerator: str, source: Path, out: Path, place: str
) -> int:
    return translate_folder(checkpoint, source, out, accelerator=accelerator, made_from=place, **options)


def translate_folder(
    checkpoint: Path,
    source: Path,
    out: Path,
    *,
    settings: TranslationSettings,
    labelled: bool,
    reference: Path | None = None,
    accelerator: str = "auto",
    made_from: str | None = None,
) -> int:
    """Translate every image of a folder that `out` does not hold yet; each process takes its share of them.

    Args:
        checkpoint: of `training.train_translator`.
        source: folder with image/ and label/, or of plain images.
        out: gets image/, label/ (if labelled), translation.json and contact_sheet.png.
        settings: how the images pass through.
        labelled: whether the source has labels.
        reference: folder of images for ``enhance="match_histogram"``, taken in turn.
        accelerator: auto, cpu or gpu.
        made_from: what the source is called in the record; None is its path.

    Returns:
        How many images the source has.

    Raises:
        InputError: on an unusable checkpoint, source or size, on an `out` that was made from something else, or if
            `out` cannot be written.
    """
    if (settings.enhance == "match_histogram") != (reference is not None):
        raise InputError("--enhance match_histogram needs --reference FOLDER of images, and nothing else takes it")
    translator, _config = load_translator(checkpoint, settings.direction)
    refuse_unfit_sizes(settings, translator.stride)
    references = image_files(reference) if reference is not None else []
    fabric = start_fabric(RunSettings(accelerator=accelerator))
    tasks = _find_tasks(source, out, labelled=labelled)
    translator.to(fabric.device)
    if fabric.is_global_zero:
        made_from = made_from or str(source.resolve())
        record_translation(out, checkpoint, made_from, settings, files_digest(references) if references else None)
    fabric.barrier()

    # shared out before asking what is done, which changes while the others write
    own_tasks = list(enumerate(tasks))[fabric.global_rank :: fabric.world_size]
    open_tasks = [(number, task) for number, task in own_tasks if not task.is_done]
    print(f"{len(own_tasks) - len(open_tasks)} of {len(own_tasks)} images are in {out} already")
    for number, task in tqdm(
        open_tasks, desc="translate", unit="image", mininterval=10, disable=not fabric.is_global_zero
    ):
        if task.label is None:
            bgr = read_image(task.image)
        else:
            bgr, _label_map = read_labelled(LabelledImage(task.image, task.label))
        if task.label is not None and task.label_out is not None:
            write_result(task.label_out, task.label.read_bytes())
        translated = translate_image(translator, bgr, settings)
        if settings.enhance == "match_histogram":
            translated = match_histogram(translated, read_image(references[number % len(references)]))
        elif settings.enhance == "equalise":
            translated = equalise(translated)
        write_result(task.image_out, _jpeg(translated))
    fabric.barrier()
    if fabric.is_global_zero:
        write_contact_sheet(out / "contact_sheet.png", [(task.image, task.image_out) for task in tasks])
    return len(tasks)


def _jpeg(bgr: np.ndarray) -> bytes:
    encoded, content = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    if not encoded:
        raise InputError(f"OpenCV cannot encode an image of shape {bgr.shape} as JPEG; at most 65,500 pixels a side")
    return content.tobytes()


def _find_tasks(source: Path, out: Path, *, labelled: bool) -> list[_Task]:
    images = out / "image"
    if not labelled:
        return [_Task(path, None, images / f"{path.stem}.jpg", None) for path in image_files(source)]
    return [
        _Task(pair.image, pair.label, images / f"{pair.image.stem}.jpg", out / "label" / pair.label.name)
        for pair in find_labelled_images(source)
    ]


if __name__ == "__main__":
    main()
