"""Pseudo-label unlabelled night images with a trained network.

    python -m training.pseudo_label --checkpoint FILE --images NIGHT_FOLDER --out FOLDER [--list FILE]
    python -m training.pseudo_label --checkpoint FILE --images NIGHT_FOLDER --out FOLDER --reference DAY_FOLDER

Several NIGHT_FOLDERs, bags, videos, globs in quotes and URLs are drives: FOLDER gets a folder of label maps for each,
named as `darkseg bag to-images` names the images. --ray and --resume work as in `darkseg evaluate`.

Without a reference the network's answers become the labels (thesis, section 3.3.3), from --confidence-min on.

A network trained by day stops seeing some classes at night, the black sky above all, and its own pseudo-labels would
make that permanent. With a reference, the same kind of camera by day tells how often each class stands at each place of
the image: the night answers, each averaged with that of the mirror image, are aligned to these shares before the surest
pixels of every class become labels.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from argparse import ArgumentParser
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from omegaconf import OmegaConf

from darkseg_ros.classes import IGNORE_INDEX
from darkseg_ros.commands.options import share
from darkseg_ros.errors import InputError
from darkseg_ros.frames.source import image_files, read_image
from darkseg_ros.whole_files import sha256_of
from training.adaptation.aligned_labels import (
    ALL_PIXELS,
    SUREST_PIXELS,
    LabelChoice,
    aligned_to_reference,
    answers,
    keep_surest,
)
from training.adaptation.teacher import load_teacher
from training.data.class_table import classes_of
from training.data.image_lists import read_image_list
from training.data.pairs import MADE_BY
from training.drives import add_drive_options, are_many, run_on_drives
from training.networks.config import exposure_of, input_hw_of
from training.runs.fabric import add_accelerator, pick_device
from training.runs.results import one_line_errors


def main(arguments: list[str] | None = None) -> None:
    """Run the stage from the command line."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, help="its averaged weights are the teacher")
    parser.add_argument("--images", nargs="+", required=True, help="folder of unlabelled night images; or many drives")
    parser.add_argument("--list", type=Path, help="image list of training.select_images: label these only")
    parser.add_argument("--reference", type=Path, help="folder of day images from the same kind of camera")
    parser.add_argument("--out", required=True, help="folder for the label maps, one PNG an image; of many a URL too")
    parser.add_argument("--confidence-maps", action="store_true", help="write confidence/, one PNG an image, into it")
    for name, meaning in (
        ("portion", "share of each class' pixels that is kept"),
        ("confidence_min", "probability that a label needs, aligned if there is a reference"),
        ("bottom_margin", "share of the height left out (own bonnet)"),
    ):
        default, aligned = getattr(ALL_PIXELS, name), getattr(SUREST_PIXELS, name)
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=share,
            help=f"{meaning} (default {default:g}, with --reference {aligned:g})",
        )
    add_accelerator(parser)
    add_drive_options(parser)
    parsed = parser.parse_args(arguments)
    given = {name: getattr(parsed, name) for name in vars(ALL_PIXELS) if getattr(parsed, name) is not None}
    with one_line_errors("pseudo_label"):
        options: dict[str, Any] = {
            "choice": replace(SUREST_PIXELS if parsed.reference else ALL_PIXELS, **given),
            "reference": image_files(parsed.reference.absolute()) if parsed.reference else None,
            "confidence_maps": parsed.confidence_maps,
            "accelerator": parsed.accelerator,
        }
        if are_many(parsed.images, parsed):
            if parsed.list:
                raise InputError("--list names images of one folder; leave it out, or give that folder alone")
            work = partial(_label_drive, parsed.checkpoint.absolute(), options)
            record = {"checkpoint": sha256_of(parsed.checkpoint), **options, "choice": asdict(options["choice"])}
            run_on_drives(work, parsed.images, parsed, what="label maps", settings=record)
            return
        images = Path(parsed.images[0])
        names = read_image_list(parsed.list, images) if parsed.list else image_files(images)
        write_pseudo_labels(parsed.checkpoint, names, out=Path(parsed.out), **options)


def _label_drive(checkpoint: Path, options: dict[str, Any], images: Path, out: Path, place: str) -> int:
    if (out / MADE_BY).is_file():  # of a try that was cut off before it was noted
        shutil.rmtree(out)
    write_pseudo_labels(checkpoint, found := image_files(images), out=out, source=place, **options)
    return len(found)


def write_pseudo_labels(
    checkpoint: Path,
    images: list[Path],
    *,
    out: Path,
    choice: LabelChoice,
    reference: list[Path] | None = None,
    confidence_maps: bool = False,
    accelerator: str = "auto",
    source: str | None = None,
) -> None:
    """Write ``out/<stem>.png`` for every image: uint8 train ids at the image's size, 255 where not sure enough.

    Args:
        checkpoint: of `training.train_segmenter`.
        images: to label, of different stems.
        out: folder for the label maps; appears when all are written.
        choice: which pixels get a label.
        reference: day images that the answers are aligned to; None takes the answers as they are.
        confidence_maps: also write ``out/confidence/<stem>.png``, uint8, 255 = certain.
        accelerator: auto, cpu or gpu.
        source: what the images come from, for the record; None is their folder.

    Raises:
        InputError: on an unusable checkpoint or image, two images of one stem, a full disk, or an `out` that already
            holds label maps.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} is not an empty folder; choose another --out or remove it")
    stems = [path.stem for path in images]
    twice = next((stem for stem in stems if stems.count(stem) > 1), None) if len(set(stems)) < len(stems) else None
    if twice:
        raise InputError(f"two images are called {twice}; their label maps would be one file, rename one")
    device = pick_device(accelerator)
    network, state = load_teacher(checkpoint)
    network.to(device)
    classes = classes_of(state["config"])
    settings = OmegaConf.create(state["config"]["network"])
    input_hw, exposure = input_hw_of(settings), exposure_of(settings)
    if reference:
        train_ids, confidence = aligned_to_reference(
            network, images, reference, input_hw, class_count=len(classes), exposure=exposure
        )
    else:
        surest = (
            answer.max(1) for answer in answers(network, images, input_hw, "night", mirror=False, exposure=exposure)
        )
        small = [(one.indices.to(torch.uint8), one.values.half()) for one in surest]
        train_ids, confidence = (torch.cat(parts).numpy() for parts in zip(*small, strict=True))
    margin = round(confidence.shape[1] * (1 - choice.bottom_margin))
    confidence[:, margin:] = 0
    labels = keep_surest(train_ids, confidence, portion=choice.portion, confidence_min=choice.confidence_min)
    labels[:, margin:] = IGNORE_INDEX
    made_by = {
        "checkpoint": checkpoint.name,
        "images": source or str(images[0].parent.resolve()),
        "reference": str(reference[0].parent.resolve()) if reference else None,
        **asdict(choice),
    }
    _write_maps(out, images, labels, confidence if confidence_maps else None, made_by)
    counts = np.bincount(labels.ravel(), minlength=256)
    kept = 1 - counts[IGNORE_INDEX] / labels.size
    shares = ", ".join(f"{name} {counts[i] / labels.size:.3f}" for i, name in enumerate(classes.names))
    print(f"{len(labels)} label maps in {out}, {kept:.1%} of the pixels labelled: {shares}")


def _write_maps(
    out: Path, images: list[Path], labels: np.ndarray, confidence: np.ndarray | None, made_by: dict[str, Any]
) -> None:
    """All label maps, and confidence maps if any, at the size of their image; `out` appears whole or not at all."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent) as temporary:
            staging = Path(temporary) / "labels"
            (staging / "confidence" if confidence is not None else staging).mkdir(parents=True)
            for index, path in enumerate(images):
                height, width = read_image(path).shape[:2]
                maps = {staging: labels[index]}
                if confidence is not None:
                    maps[staging / "confidence"] = np.round(confidence[index].astype(np.float32) * 255).astype(np.uint8)
                for folder, values in maps.items():
                    resized = cv2.resize(values, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
                    (folder / f"{path.stem}.png").write_bytes(cv2.imencode(".png", resized)[1].tobytes())
            (staging / MADE_BY).write_text(f"{json.dumps(made_by, indent=2)}\n", encoding="utf-8")
            if out.exists():
                out.rmdir()
            staging.rename(out)
    except OSError as error:
        raise InputError(f"{out} cannot be written ({error}); make room or choose another --out") from error


if __name__ == "__main__":
    main()
