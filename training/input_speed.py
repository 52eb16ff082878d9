"""Images per second of loading and augmentation beside the training step.

    python -m training.input_speed --config training/configs/segmenter_slim.yaml [key=value …]

Loads as the run of that config would, with each kind of `data.cache`: first alone, then in `loader_workers` processes
beside training steps on a random network, last one batch again and again. Loading is no bottleneck where one image
takes a loader less time than the training, and training beside loading is as fast as alone. Writes a table to stdout;
makes no checkpoint.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from omegaconf import DictConfig
from torch import Tensor

from training.data.augmentation import crop_hw_of
from training.data.cache import CacheConfig, open_cache
from training.data.class_table import classes_of
from training.data.draws import draw_evenly
from training.data.pairs import find_images, find_labelled_pool
from training.data.random_streams import Stream
from training.data.samples import LabelledSamples
from training.losses import mean_over_processes, segmentation_loss
from training.networks.build import build_network, set_to_training
from training.networks.config import exposure_of
from training.optimiser import build_optimiser
from training.runs.config import read_command_line
from training.runs.fabric import load_from, start_fabric
from training.runs.results import one_line_errors
from training.segmenter_config import SegmenterConfig

_SECONDS = 5.0
_WARM_UP_STEPS = 2


def main(arguments: list[str] | None = None) -> None:
    """Measure from the command line."""
    with one_line_errors("input_speed"):
        print(measure(read_command_line(SegmenterConfig, __doc__ or "", arguments)))


def measure(config: DictConfig, *, seconds: float = _SECONDS) -> str:
    """A table of images per second.

    Args:
        config: a resolved `SegmenterConfig`; its data.cache is not used.
        seconds: each figure is measured for.

    Raises:
        InputError: on unusable settings or data.
    """
    fabric = start_fabric(config)
    pairs = find_labelled_pool(config.data.source, classes_of(config))
    night_images = find_images(Path(config.data.night))
    step = _training_step(config, fabric)
    height, width = crop_hw_of(config.augmentation)
    lines = [
        f"{len(pairs)} labelled images, {os.cpu_count()} cores, {fabric.device}, batches of {config.batch_size} crops "
        f"of {height}×{width}, loader_workers={config.loader_workers}.",
        "",
        "| data.cache.kind | filling it, s | loading, CPU ms an image | training beside loading, images/s |",
        "|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as folder:
        for cache in (CacheConfig(), CacheConfig("memory"), CacheConfig("disk", folder)):
            begin = time.perf_counter()
            store = open_cache(cache, pairs, night_images if config.cheap_night.share else [])
            filling = time.perf_counter() - begin
            samples = LabelledSamples(
                pairs,
                night_images,
                draw=draw_evenly(len(pairs), seed=config.seed, order=Stream.LABELLED_ORDER),
                augmentation=config.augmentation,
                cheap_night=config.cheap_night,
                seed=config.seed,
                exposure=exposure_of(config.network),
                store=store,
            )
            batches = partial(load_from, samples, config.batch_size, start_step=0, stop_step=10**6, fabric=fabric)
            loading = _speed(batches(loader_workers=0), lambda _batch: None, config.batch_size, seconds)
            beside = _speed(batches(loader_workers=config.loader_workers), step, config.batch_size, seconds)
            lines.append(f"| {cache.kind} | {filling:.1f} | {loading.cpu_ms:.1f} | {beside.images_per_s:.1f} |")
    alone = _speed(repeat(next(iter(batches(loader_workers=0)))), step, config.batch_size, seconds)
    lines.append(f"| training alone, {alone.cpu_ms:.1f} CPU ms an image | | | {alone.images_per_s:.1f} |")
    return "\n".join(lines)


def _training_step(config: DictConfig, fabric: Fabric) -> Callable[[dict[str, Tensor]], Any]:
    """A step of a random network as `training.train_segmenter` takes it on labelled images."""
    network = build_network(config.network, num_classes=len(classes_of(config))).to(memory_format=torch.channels_last)
    student, optimiser = fabric.setup(network, build_optimiser(network, config))
    set_to_training(student, config.network)
    weights = fabric.to_device(torch.ones(len(classes_of(config))))

    def step(batch: dict[str, Tensor]) -> None:
        summed = segmentation_loss(student(batch["images"]), batch["labels"], config=config.loss, class_weights=weights)
        loss = mean_over_processes(summed, fabric)
        optimiser.zero_grad()
        fabric.backward(loss)
        optimiser.step()
        loss.item()  # waits for the device

    return step


@dataclass(frozen=True)
class _Speed:
    """Of loading or using batches; `cpu_ms` is this process' time on all cores, for one image."""

    images_per_s: float
    cpu_ms: float


def _speed(
    batches: Iterable[dict[str, Tensor]], use: Callable[[dict[str, Tensor]], Any], batch_size: int, seconds: float
) -> _Speed:
    """Load and use batches for some seconds, after some that warm up."""
    begin, begin_cpu, done = 0.0, 0.0, 0
    for number, batch in enumerate(batches):
        use(batch)
        if number < _WARM_UP_STEPS:
            begin, begin_cpu = time.perf_counter(), time.process_time()
            continue
        done += batch_size
        if time.perf_counter() - begin >= seconds:
            break
    return _Speed(done / (time.perf_counter() - begin), 1000 * (time.process_time() - begin_cpu) / done)


if __name__ == "__main__":
    main()
