"""Teach the stem of `training.networks.dense_stem` to answer as the first blocks of a trained MobileNetV2 segmenter.

    python -m training.distil_stem --checkpoint FILE --source FOLDER … --night FOLDER --out FILE.pt [--steps N]

The stem alone learns, on labelled day images, part of them darkened, as training.train_segmenter draws them. The result
holds it together with the checkpoint's other blocks: a run of encoder mobilenet_v2_dense_stem starts from it by
``network.encoder_weights``. Every so often the share of the variance of the blocks' features is printed that the stem
explains. A killed run starts from the beginning; it takes minutes.
"""

from __future__ import annotations

import math
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.utilities.seed import seed_everything
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from darkseg_ros.errors import InputError
from darkseg_ros.night.cheap_night import CheapNight
from training.adaptation.teacher import load_teacher
from training.data.augmentation import Augmentation
from training.data.class_table import classes_of
from training.data.draws import draw_evenly
from training.data.pairs import find_images, find_labelled_pool
from training.data.random_streams import Stream
from training.data.samples import LabelledSamples
from training.networks.dense_stem import KEPT_BLOCKS, STEM_BLOCKS, DenseStemMobileNetV2
from training.runs.checkpoints import save_checkpoint
from training.runs.fabric import add_accelerator, pick_device
from training.runs.results import one_line_errors

_BATCH_SIZE = 8
_PEAK_LR = 4e-3
_WARMUP_STEPS = 50
_SEED = 0
_REPORT_EVERY = 200


def main(arguments: list[str] | None = None) -> None:
    """Run the stage from the command line."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, help="of training.train_segmenter, on mobilenet_v2")
    parser.add_argument("--source", type=Path, nargs="+", required=True, help="folders with image/ and label/, by day")
    parser.add_argument("--night", type=Path, required=True, help="folder of unlabelled night images, to darken by")
    parser.add_argument("--out", type=Path, required=True, help="checkpoint to write")
    parser.add_argument("--steps", type=int, default=1500, help=f"of {_BATCH_SIZE} images each (1500)")
    add_accelerator(parser)
    parsed = parser.parse_args(arguments)
    with one_line_errors("distil_stem"):
        explained = distil(
            parsed.checkpoint,
            parsed.source,
            parsed.night,
            out=parsed.out,
            steps=parsed.steps,
            accelerator=parsed.accelerator,
        )
        print(f"wrote {parsed.out}; in the last steps its stem explains {explained:.3f} of the variance")


def distil(
    checkpoint: Path, source: list[Path], night: Path, *, out: Path, steps: int, accelerator: str = "auto"
) -> float:
    """Train the stem and write it with the other blocks.

    Args:
        checkpoint: of `training.train_segmenter`; its averaged weights are the teacher.
        source: folders with image/ and label/, drawn from as one pool.
        night: folder of unlabelled night images.
        out: checkpoint to write, for `training.networks.build.load_encoder_weights`.
        steps: at least 1.
        accelerator: auto, cpu or gpu.

    Returns:
        Share of the features' variance that the stem explains, the mean over the channels and the last steps.

    Raises:
        InputError: if the checkpoint is none, or its encoder no MobileNetV2, the images cannot be used, or `out` cannot
            be written.
    """
    if steps < 1:
        raise InputError(f"--steps is {steps}; expected at least 1")
    device = pick_device(accelerator)
    seed_everything(_SEED, verbose=False)
    network, state = load_teacher(checkpoint)
    teacher: Any = network.encoder
    encoder = student_of(teacher, checkpoint).to(device)
    blocks = nn.Sequential(*(teacher.features[index] for index in STEM_BLOCKS)).to(device).eval()
    samples = LabelledSamples(
        pairs := find_labelled_pool(source, classes_of(state["config"])),
        find_images(night),
        draw=draw_evenly(len(pairs), seed=_SEED, order=Stream.LABELLED_ORDER),
        augmentation=Augmentation(width_over_height=state["config"]["network"]["width_over_height"]),
        cheap_night=CheapNight(),
        seed=_SEED,
    )
    batches = DataLoader(samples, _BATCH_SIZE, sampler=range(steps * _BATCH_SIZE), num_workers=1)

    stem = encoder.stem.train()
    optimiser = torch.optim.AdamW(stem.parameters(), lr=_PEAK_LR)
    explained: list[float] = []
    for step, batch in enumerate(tqdm(batches, unit="step", mininterval=10)):
        for group in optimiser.param_groups:
            group["lr"] = _PEAK_LR * min(1, (step + 1) / _WARMUP_STEPS) * (1 + math.cos(math.pi * step / steps)) / 2
        images = batch["images"].to(device)
        with torch.no_grad():
            wanted = blocks(images)
        loss = unexplained_variance(stem(images), wanted)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        explained.append(1 - loss.item())
        if (step + 1) % _REPORT_EVERY == 0:
            tqdm.write(f"step {step + 1} explains {_mean_of_last(explained):.3f} of the variance")
    weights = {f"encoder.{name}": value for name, value in encoder.cpu().state_dict().items()}
    save_checkpoint(out, {"step": steps, "teacher": weights, "stem_of": state["config"]})
    return _mean_of_last(explained)


def student_of(teacher: Any, checkpoint: Path) -> DenseStemMobileNetV2:
    """An encoder with a fresh stem in front of the blocks of a segmenter's MobileNetV2.

    Raises:
        InputError: naming `checkpoint`, the segmenter's, if its encoder is another.
    """
    encoder = DenseStemMobileNetV2()
    weights = teacher.state_dict()
    try:
        for index, block in zip(KEPT_BLOCKS, encoder.features, strict=True):
            prefix = f"features.{index}."
            block.load_state_dict(
                {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
            )
        if teacher.features[STEM_BLOCKS[-1]].out_channels != encoder.out_channels[0]:
            raise RuntimeError("its first blocks are of another width")
    except (AttributeError, RuntimeError) as error:
        raise InputError(
            f"the encoder of {checkpoint} is no MobileNetV2 ({str(error).splitlines()[0]}); "
            "take a run of network.encoder=mobilenet_v2"
        ) from error
    return encoder


def unexplained_variance(answer: Tensor, wanted: Tensor) -> Tensor:
    """Squared error over the variance of each channel of `wanted`, both (B, C, H, W); the mean over the channels."""
    error = (answer - wanted).square().mean((0, 2, 3))
    return (error / wanted.var((0, 2, 3)).clamp(min=1e-6)).mean()


def _mean_of_last(values: list[float]) -> float:
    last = values[-_REPORT_EVERY:]
    return sum(last) / len(last)


if __name__ == "__main__":
    main()
