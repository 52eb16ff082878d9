"""Pseudo-label unlabelled night images with a trained network.

    python -m training.pseudo_label --checkpoint FILE --images NIGHT_FOLDER --out FOLDER [--list FILE]
    python -m training.pseudo_label --checkpoint FILE --images NIGHT_FOLDER --out FOLDER --reference DAY_FOLDER

Without a reference the network's answers become the labels (thesis, section 3.3.3), from --confidence-min on.

A network trained by day stops seeing some classes at night, the black sky above all, and its own pseudo-labels would
make that permanent. With a reference, the same kind of camera by day tells how often each class stands at each place of
the image: the night answers, each averaged with that of the mirror image, are aligned to these shares before the surest
pixels of every class become labels.
"""

from __future__ import annotations

import shutil
import tempfile
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from darkseg_ros.classes import CLASS_NAMES, IGNORE_INDEX, NUM_CLASSES
from darkseg_ros.errors import InputError
from darkseg_ros.frames.source import image_files, read_image
from training.adaptation.teacher import load_teacher
from training.data.image_lists import read_image_list
from training.data.network_input import network_input
from training.networks.layers import OUTPUT_STRIDE
from training.runs.fabric import add_accelerator, pick_device
from training.runs.results import one_line_errors

_CHUNK = 32
_ROUNDS = 12
_SMOOTHING_CELLS = 13
_SHARE_FLOOR = 1e-3


@dataclass(frozen=True)
class LabelChoice:
    """Which pixels get a label.

    Attributes:
        portion: share of each class' pixels that is kept, the surest first.
        confidence_min: probability that a label needs.
        bottom_margin: share of the height left out (own bonnet).
    """

    portion: float
    confidence_min: float
    bottom_margin: float


ALL_PIXELS = LabelChoice(portion=1.0, confidence_min=0.0, bottom_margin=0.0)
"""As the thesis; the default without a reference."""

SUREST_PIXELS = LabelChoice(portion=0.6, confidence_min=0.4, bottom_margin=0.1)
"""The default with a reference."""


def main(arguments: list[str] | None = None) -> None:
    """Run the stage from the command line."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, help="its averaged weights are the teacher")
    parser.add_argument("--images", type=Path, required=True, help="folder of unlabelled night images")
    parser.add_argument("--list", type=Path, help="image list of training.select_images: label these only")
    parser.add_argument("--reference", type=Path, help="folder of day images from the same kind of camera")
    parser.add_argument("--out", type=Path, required=True, help="folder for the label maps, one PNG an image")
    parser.add_argument("--confidence-maps", action="store_true", help="write confidence/, one PNG an image, into it")
    for name, meaning in (
        ("portion", "share of each class' pixels that is kept"),
        ("confidence_min", "probability that a label needs, aligned if there is a reference"),
        ("bottom_margin", "share of the height left out (own bonnet)"),
    ):
        default, aligned = getattr(ALL_PIXELS, name), getattr(SUREST_PIXELS, name)
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=_share,
            help=f"{meaning} (default {default:g}, with --reference {aligned:g})",
        )
    add_accelerator(parser)
    parsed = parser.parse_args(arguments)
    given = {name: getattr(parsed, name) for name in vars(ALL_PIXELS) if getattr(parsed, name) is not None}
    with one_line_errors("pseudo_label"):
        write_pseudo_labels(
            parsed.checkpoint,
            read_image_list(parsed.list, parsed.images) if parsed.list else image_files(parsed.images),
            out=parsed.out,
            choice=replace(SUREST_PIXELS if parsed.reference else ALL_PIXELS, **given),
            reference=image_files(parsed.reference) if parsed.reference else None,
            confidence_maps=parsed.confidence_maps,
            accelerator=parsed.accelerator,
        )


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise ArgumentTypeError(f"{text} is no share; expected 0…1")
    return value


def write_pseudo_labels(
    checkpoint: Path,
    images: list[Path],
    *,
    out: Path,
    choice: LabelChoice,
    reference: list[Path] | None = None,
    confidence_maps: bool = False,
    accelerator: str = "auto",
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
    input_px = int(state["config"]["network"]["input_px"])
    if reference:
        train_ids, confidence = _aligned_to_reference(network, images, reference, input_px)
    else:
        surest = (answer.max(1) for answer in answers(network, images, input_px, "night", mirror=False))
        small = [(one.indices.to(torch.uint8), one.values.half()) for one in surest]
        train_ids, confidence = (torch.cat(parts).numpy() for parts in zip(*small, strict=True))
    margin = round(confidence.shape[1] * (1 - choice.bottom_margin))
    confidence[:, margin:] = 0
    labels = keep_surest(train_ids, confidence, portion=choice.portion, confidence_min=choice.confidence_min)
    labels[:, margin:] = IGNORE_INDEX
    _write_maps(out, images, labels, confidence if confidence_maps else None)
    counts = np.bincount(labels.ravel(), minlength=256)
    kept = 1 - counts[IGNORE_INDEX] / labels.size
    shares = ", ".join(f"{name} {counts[i] / labels.size:.3f}" for i, name in enumerate(CLASS_NAMES))
    print(f"{len(labels)} label maps in {out}, {kept:.1%} of the pixels labelled: {shares}")


def _write_maps(out: Path, images: list[Path], labels: np.ndarray, confidence: np.ndarray | None) -> None:
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
            if out.exists():
                out.rmdir()
            staging.rename(out)
    except OSError as error:
        raise InputError(f"{out} cannot be written ({error}); make room or choose another --out") from error


def _aligned_to_reference(
    network: nn.Module, images: list[Path], reference: list[Path], input_px: int
) -> tuple[np.ndarray, np.ndarray]:
    """Train ids and confidence as `aligned_answers` gives them."""
    side = input_px // OUTPUT_STRIDE
    day_total = torch.zeros(NUM_CLASSES, side, side)
    for answer in answers(network, reference, input_px, "reference", mirror=True):
        day_total += answer.sum(0)
    day_shares = smooth_shares(day_total / len(reference))
    shape = (len(images), NUM_CLASSES, side, side)
    needed, free = 2 * int(np.prod(shape)), shutil.disk_usage(tempfile.gettempdir()).free
    if free < needed:  # a full disk under a memory map ends the process without a word
        raise InputError(
            f"the answers need {needed / 1e9:.1f} GB, {tempfile.gettempdir()} has {free / 1e9:.1f}; set TMPDIR"
        )
    with tempfile.TemporaryDirectory() as temporary:
        # on disk, not in memory: 10,000 images are 3.5 GB
        stored = np.lib.format.open_memmap(Path(temporary) / "answers.npy", "w+", np.float16, shape)
        filled = 0
        for answer in answers(network, images, input_px, "night", mirror=True):
            stored[filled : filled + len(answer)] = answer.numpy()
            filled += len(answer)
        return aligned_answers(stored, alignment_weights(stored, day_shares))


@torch.no_grad()
def answers(
    network: nn.Module, paths: list[Path], input_px: int, description: str, *, mirror: bool
) -> Iterator[Tensor]:
    """Softmax probabilities of images in chunks, (n, 19, input_px/4, input_px/4) float on the CPU.

    Args:
        network: in evaluation mode.
        paths: of the images.
        input_px: side of the square that they are squeezed into.
        description: of the progress bar.
        mirror: give the mean of each image's answer and that of its mirror image.
    """
    device = next(network.parameters()).device
    for start in tqdm(range(0, len(paths), _CHUNK), desc=description, unit="chunk", mininterval=10):
        squeezed = [
            cv2.resize(read_image(path), (input_px, input_px), interpolation=cv2.INTER_AREA)
            for path in paths[start : start + _CHUNK]
        ]
        yield torch.cat([_answer(network, network_input(bgr)[None].to(device), mirror=mirror) for bgr in squeezed])


def _answer(network: nn.Module, image: Tensor, *, mirror: bool) -> Tensor:
    probabilities = torch.softmax(network(image), 1)
    if mirror:
        probabilities = (probabilities + torch.softmax(network(image.flip(-1)), 1).flip(-1)) / 2
    return probabilities.cpu()


def smooth_shares(shares: Tensor) -> Tensor:
    """Mean class shares by place, mirrored and smoothed so that a few hundred images suffice.

    Args:
        shares: (19, h, w), summing to 1 over the classes.
    """
    mirrored = (shares + shares.flip(-1)) / 2
    return functional.avg_pool2d(
        mirrored[None], _SMOOTHING_CELLS, stride=1, padding=_SMOOTHING_CELLS // 2, count_include_pad=False
    )[0]


def alignment_weights(stored: np.ndarray, wanted_shares: Tensor) -> Tensor:
    """Factors by class and place that bring the mean of the answers to the wanted shares.

    Args:
        stored: (N, 19, h, w) probabilities.
        wanted_shares: (19, h, w), smoothed.

    Returns:
        (19, h, w) positive factors for `aligned_answers`.

    Source: distribution alignment of Berthelot et al., ReMixMatch, ICLR 2020 (arXiv 1911.09785), section 3.1; spatial
        priors of Zou et al., CBST, ECCV 2018 (arXiv 1810.07911), section 4.3.
    Differs: iterated until the shares meet, by place, with the shares of the same kind of camera by day.
    """
    weights = torch.ones_like(wanted_shares)
    for _ in tqdm(range(_ROUNDS), desc="align", mininterval=10):
        total = torch.zeros_like(wanted_shares)
        for start in range(0, len(stored), _CHUNK):
            total += _weighted(stored[start : start + _CHUNK], weights).sum(0)
        found = smooth_shares(total / len(stored))
        weights *= ((wanted_shares + _SHARE_FLOOR) / (found + _SHARE_FLOOR)).sqrt()  # the root damps oscillation
    return weights


def aligned_answers(stored: np.ndarray, weights: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Train ids and aligned confidence in [0, 1]; (N, h, w) uint8 and float16."""
    train_ids = np.empty((len(stored), *stored.shape[2:]), np.uint8)
    confidence = np.empty(train_ids.shape, np.float16)
    for start in range(0, len(stored), _CHUNK):
        values, indices = _weighted(stored[start : start + _CHUNK], weights).max(1)
        train_ids[start : start + _CHUNK], confidence[start : start + _CHUNK] = (
            indices.numpy(),
            values.numpy(),
        )
    return train_ids, confidence


def _weighted(probabilities: np.ndarray, weights: Tensor) -> Tensor:
    product = torch.from_numpy(probabilities.astype(np.float32)) * weights
    return product / product.sum(1, keepdim=True)


def keep_surest(train_ids: np.ndarray, confidence: np.ndarray, *, portion: float, confidence_min: float) -> np.ndarray:
    """Label maps in which only the surest pixels of each class keep their label.

    Args:
        train_ids: (N, h, w) uint8.
        confidence: (N, h, w) in [0, 1].
        portion: of each class' pixels, the surest first.
        confidence_min: a label's lowest confidence.

    Returns:
        (N, h, w) uint8, 255 where dropped.

    Source: class-balanced self-training, Zou et al., ECCV 2018 (arXiv 1810.07911), section 4.2.
    """
    labels = np.full(train_ids.shape, IGNORE_INDEX, np.uint8)
    for train_id in range(NUM_CLASSES):
        of_class = train_ids == train_id
        if not of_class.any():
            continue
        threshold = max(float(np.quantile(confidence[of_class].astype(np.float32), 1 - portion)), confidence_min)
        labels[of_class & (confidence >= threshold)] = train_id
    return labels


if __name__ == "__main__":
    main()
