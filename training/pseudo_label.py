"""Pseudo-label unlabelled night images with a trained network.

    python -m training.pseudo_label --checkpoint FILE --images NIGHT_FOLDER --reference DAY_FOLDER --out FOLDER

A network trained by day stops seeing some classes at night, the black sky above all, and its own pseudo-labels would
make that permanent. The same kind of camera by day tells how often each class stands at each place of the image: the
night answers are aligned to these shares before the surest pixels of every class become labels.
"""

from __future__ import annotations

import sys
import tempfile
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from darkseg_ros.classes import CLASS_NAMES, IGNORE_INDEX, NUM_CLASSES
from darkseg_ros.errors import DarksegError, InputError
from darkseg_ros.frames import read_image
from training.averaging import load_teacher
from training.datasets import find_images, network_input
from training.slim_fpn import OUTPUT_STRIDE

_CHUNK = 32
_ROUNDS = 12
_SMOOTHING_CELLS = 13
_SHARE_FLOOR = 1e-3


def main(arguments: list[str] | None = None) -> None:
    """Run the stage from the command line."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, help="its averaged weights are the teacher")
    parser.add_argument("--images", type=Path, required=True, help="folder of unlabelled night images")
    parser.add_argument(
        "--reference", type=Path, required=True, help="folder of day images from the same kind of camera"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the label maps, one PNG an image")
    parser.add_argument("--portion", type=float, default=0.6, help="share of each class' pixels that is kept")
    parser.add_argument("--confidence-min", type=float, default=0.4, help="aligned probability that a label needs")
    parser.add_argument("--bottom-margin", type=float, default=0.1, help="share of the height left out (own bonnet)")
    parsed = parser.parse_args(arguments)
    try:
        write_pseudo_labels(
            parsed.checkpoint,
            parsed.images,
            reference=parsed.reference,
            out=parsed.out,
            portion=parsed.portion,
            confidence_min=parsed.confidence_min,
            bottom_margin=parsed.bottom_margin,
        )
    except DarksegError as error:
        sys.exit(f"pseudo_label: {error}")


def write_pseudo_labels(
    checkpoint: Path,
    images: Path,
    *,
    reference: Path,
    out: Path,
    portion: float,
    confidence_min: float,
    bottom_margin: float,
) -> None:
    """Write ``out/<stem>.png`` for every image: uint8 train ids at the image's size, 255 where not sure enough.

    Raises:
        InputError: on an unusable checkpoint, empty folders, or an `out` that already holds label maps.
    """
    if out.exists() and any(out.iterdir()):
        raise InputError(f"{out} is not empty; choose another --out or remove it")
    network, state = load_teacher(checkpoint)
    input_px = int(state["config"]["network"]["input_px"])
    night_paths, day_paths = find_images(images), find_images(reference)
    side = input_px // OUTPUT_STRIDE

    day_total = torch.zeros(NUM_CLASSES, side, side)
    for answer in answers(network, day_paths, input_px, "reference"):
        day_total += answer.sum(0)
    day_shares = smooth_shares(day_total / len(day_paths))
    with tempfile.TemporaryDirectory() as temporary:
        # on disk, not in memory: 10,000 images are 3.5 GB
        stored = np.lib.format.open_memmap(
            Path(temporary) / "answers.npy", "w+", np.float16, (len(night_paths), NUM_CLASSES, side, side)
        )
        filled = 0
        for answer in answers(network, night_paths, input_px, "night"):
            stored[filled : filled + len(answer)] = answer.numpy()
            filled += len(answer)

        weights = alignment_weights(stored, day_shares)
        train_ids, confidence = aligned_answers(stored, weights)
    confidence[:, round(side * (1 - bottom_margin)) :] = 0
    labels = keep_surest(train_ids, confidence, portion=portion, confidence_min=confidence_min)

    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as temporary:
        staging = Path(temporary) / "labels"
        staging.mkdir()
        for path, label_map in zip(night_paths, labels, strict=True):
            height, width = read_image(path).shape[:2]
            resized = cv2.resize(label_map, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
            if not cv2.imwrite(str(staging / f"{path.stem}.png"), resized):
                raise InputError(f"cannot write label maps below {out.parent}; check space and permissions")
        if out.exists():
            out.rmdir()
        staging.rename(out)
    counts = np.bincount(labels.ravel(), minlength=256)
    kept = 1 - counts[IGNORE_INDEX] / labels.size
    shares = ", ".join(f"{name} {counts[i] / labels.size:.3f}" for i, name in enumerate(CLASS_NAMES))
    print(f"{len(labels)} label maps in {out}, {kept:.1%} of the pixels labelled: {shares}")


@torch.no_grad()
def answers(network: nn.Module, paths: list[Path], input_px: int, description: str) -> Iterator[Tensor]:
    """Softmax probabilities of images in chunks, (n, 19, input_px/4, input_px/4) float."""
    for start in tqdm(range(0, len(paths), _CHUNK), desc=description, unit="chunk", mininterval=10):
        squeezed = [
            cv2.resize(read_image(path), (input_px, input_px), interpolation=cv2.INTER_AREA)
            for path in paths[start : start + _CHUNK]
        ]
        yield torch.cat([torch.softmax(network(network_input(bgr)[None]), 1) for bgr in squeezed])


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
