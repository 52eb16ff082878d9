"""Let one trained network or several answer unlabelled images once, for students that learn from them many times.

    python -m training.answer_images --checkpoint FILE [--checkpoint FILE …] --images FOLDER --out answers.npy

The file holds (N, K, H/4, W/4) uint8, 255 · probability, for the N images in the order of their names: the mean over
the networks, over each image and its mirror image, and over the scales. H×W is the largest of the networks' inputs.
"""

from __future__ import annotations

import math
from argparse import ArgumentParser
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn
from tqdm import tqdm

from darkseg_ros.errors import InputError
from darkseg_ros.frames.source import image_files, read_image
from darkseg_ros.model.exposure import Exposure, normalise_exposure
from darkseg_ros.whole_files import whole_file
from training.adaptation.teacher import load_teacher
from training.data.class_table import classes_of
from training.data.network_input import network_input
from training.networks.config import exposure_of, input_hw_of
from training.networks.input_size import side_at
from training.networks.layers import OUTPUT_STRIDE, upsample_bilinear
from training.runs.fabric import add_accelerator, pick_device
from training.runs.results import one_line_errors


def main(arguments: list[str] | None = None) -> None:
    """Run the stage from the command line."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, action="append", required=True, help="a teacher; may be repeated")
    parser.add_argument("--images", type=Path, required=True, help="folder of unlabelled images")
    parser.add_argument("--out", type=Path, required=True, help=".npy file")
    parser.add_argument("--scales", type=float, nargs="+", default=[1.0], help="of each input's sides (default 1)")
    parser.add_argument("--bf16", action="store_true", help="bfloat16 in convolutions: for CPUs with AMX, and GPUs")
    add_accelerator(parser)
    parsed = parser.parse_args(arguments)
    with one_line_errors("answer_images"):
        answer_images(
            parsed.checkpoint,
            image_files(parsed.images),
            out=parsed.out,
            scales=parsed.scales,
            bf16=parsed.bf16,
            accelerator=parsed.accelerator,
        )


def answer_images(
    checkpoints: list[Path],
    images: list[Path],
    *,
    out: Path,
    scales: list[float],
    bf16: bool = False,
    accelerator: str = "auto",
) -> None:
    """Write the teachers' mean answers.

    Args:
        checkpoints: of `training.train_segmenter` or `training.adapt_segmenter`, of any input sizes.
        images: to answer.
        out: .npy file.
        scales: that each image is seen at, of the sides of each network's input.
        bf16: compute convolutions in bfloat16.
        accelerator: auto, cpu or gpu.

    Raises:
        InputError: on an unusable checkpoint or image, checkpoints of several classes, a full disk.
    """
    device = pick_device(accelerator)
    looks, sizes, tables = [], [], set()
    for checkpoint in checkpoints:
        network, state = load_teacher(checkpoint)
        settings = OmegaConf.create(state["config"]["network"])
        height, width = input_hw_of(settings)
        look = partial(answer_of, network.to(device), exposure=exposure_of(settings))
        looks += [partial(look, seen_hw=(side_at(height, scale), side_at(width, scale))) for scale in scales]
        sizes.append((height, width))
        tables.add(classes_of(state["config"]))
    if len(tables) > 1:
        raise InputError("the checkpoints are of different classes; choose teachers of one data.classes")
    (classes,) = tables
    height, width = max(sizes, key=math.prod)
    quarter_hw = (height // OUTPUT_STRIDE, width // OUTPUT_STRIDE)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(out) as unfinished:
            shape = (len(images), len(classes), *quarter_hw)
            stored = np.lib.format.open_memmap(unfinished, "w+", np.uint8, shape)
            for index, path in enumerate(tqdm(images, desc="answer", unit="image", mininterval=10)):
                bgr = read_image(path)
                with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                    answers = [upsample_bilinear(look(bgr).float(), quarter_hw) for look in looks]
                stored[index] = (torch.stack(answers).mean(0)[0] * 255).round().to(torch.uint8).cpu().numpy()
            stored.flush()
    except OSError as error:
        raise InputError(f"{out} cannot be written ({error}); make room or choose another --out") from error


@torch.no_grad()
def answer_of(network: nn.Module, bgr: np.ndarray, *, seen_hw: tuple[int, int], exposure: Exposure | None) -> Tensor:
    """Probabilities, (1, K, h, w), of an image seen at 4h×4w: the mean of its answer and its mirror image's."""
    squeezed = cv2.resize(bgr, seen_hw[::-1], interpolation=cv2.INTER_AREA)
    if exposure is not None:
        normalise_exposure(squeezed, exposure)
    image = network_input(squeezed)[None].to(next(network.parameters()).device)
    return (torch.softmax(network(image), 1) + torch.softmax(network(image.flip(-1)), 1).flip(-1)) / 2


if __name__ == "__main__":
    main()
