"""Pack all that a run of `training.adapt_segmenter` reads into a folder of a few megabytes, for a machine elsewhere.

    python -m training.pack_data --config training/configs/adapt_gpu.yaml --out packed [--limit-mb 48] [key=value …]
    python -m training.adapt_segmenter --config packed/config.yaml        # there, from the folder that holds packed/

Images become WebP of the best quality that keeps within the limit, labels train ids in PNG; what is longer than 512
pixels is made that long. The packed config names the
folder as ``--out`` does. Of the start checkpoint only the averaged weights go along.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from omegaconf import DictConfig, OmegaConf

from darkseg_ros.errors import InputError
from darkseg_ros.frames.labelled import LabelledImage, read_labelled
from darkseg_ros.frames.source import read_image
from darkseg_ros.whole_files import write_whole
from training.adaptation.settings import AdaptationConfig
from training.data.pairs import find_images, find_labelled_pool, find_validation_sets
from training.runs.checkpoints import load_checkpoint, save_checkpoint
from training.runs.config import load_config
from training.runs.results import one_line_errors

_QUALITIES = (95, 90, 85, 80, 75, 70, 60, 50, 40, 30)
_SAMPLED_EVERY = 25
_LIMIT_MB = 48.0
"""A machine that takes 64 MiB has the checkout to take too."""

_LONGEST_PX = 512

_WEIGHTS = ("step", "config", "ancestors", "teacher")
"""What a run that starts from a checkpoint reads of it."""


@dataclass(frozen=True)
class _Image:
    """One image on its way.

    Attributes:
        pair: with its label map; None for one without.
        path: of the image.
        folder: where it goes, relative to the packed folder.
        name: without suffix.
    """

    pair: LabelledImage | None
    path: Any
    folder: str
    name: str


def main(arguments: list[str] | None = None) -> None:
    """Run the packing from the command line."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="YAML file of the run")
    parser.add_argument("--out", type=Path, required=True, help="new folder, named as it is to be found there")
    parser.add_argument("--limit-mb", type=float, default=_LIMIT_MB, help="of the folder (default: %(default)s)")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings that replace the file's")
    parsed = parser.parse_args(sys.argv[1:] if arguments is None else arguments)
    with one_line_errors("pack_data"):
        config = load_config(AdaptationConfig, parsed.config, parsed.overrides)
        quality, size = pack(config, parsed.out, limit_bytes=int(parsed.limit_mb * 1e6))
        print(f"wrote {parsed.out}: {size / 1e6:.1f} MB, images at quality {quality} of 100")


def pack(config: DictConfig, out: Path, *, limit_bytes: int) -> tuple[int, int]:
    """Write the folder.

    Args:
        config: a resolved `AdaptationConfig`.
        out: a folder that does not exist yet.
        limit_bytes: of all its files.

    Returns:
        The quality of the images, 0…100, and the size of all files in bytes.

    Raises:
        InputError: if the folder exists, the config names answers, data are missing, or the limit is out of reach.
    """
    if out.exists():
        raise InputError(f"{out} exists; name a new folder")
    if config.data.answers is not None:
        raise InputError(
            "data.answers holds the teachers' probabilities, too many to pack; set data.answers=null, and make them "
            "there with training.answer_images"
        )
    images = list(_images_of(config))
    others = _write_others(config, out)
    quality = next((each for each in _QUALITIES if others + _estimated_bytes(images, each) <= 0.97 * limit_bytes), None)
    if quality is None:
        raise InputError(
            f"{len(images)} images do not fit into {limit_bytes / 1e6:.0f} MB at quality {_QUALITIES[-1]}; name fewer, "
            "or a higher --limit-mb"
        )
    for image in images:
        for name, content in _encoded(image, quality).items():
            write_whole(out / name, content)
    return quality, sum(path.stat().st_size for path in out.rglob("*") if path.is_file())


def _images_of(config: DictConfig) -> Iterator[_Image]:
    yield from _labelled(find_labelled_pool(config.data.source), "source")
    for path in find_images(Path(config.data.night)):
        yield _Image(None, path, "night", path.stem)  # boxes are found by it
    for name, pairs in find_validation_sets(config.data.validation).items():
        yield from _labelled(pairs, f"validation/{name}")


def _labelled(pairs: Sequence[LabelledImage], folder: str) -> Iterator[_Image]:
    for index, pair in enumerate(pairs):
        yield _Image(pair, pair.image, folder, f"{index:05d}")


def _write_others(config: DictConfig, out: Path) -> int:
    """Weights, boxes and the packed config; returns their size in bytes."""
    packed = config.copy()
    OmegaConf.set_struct(packed, False)
    packed.data.source = [str(out / "source")]
    packed.data.night = str(out / "night")
    packed.data.validation = {name: str(out / "validation" / name) for name in config.data.validation}
    if config.data.boxes is not None:
        packed.data.boxes = str(out / "boxes.json")
        write_whole(out / "boxes.json", Path(config.data.boxes).read_bytes())
    if config.network.encoder_weights is not None:
        packed.network.encoder_weights = str(out / "encoder.pt")
        write_whole(out / "encoder.pt", Path(config.network.encoder_weights).read_bytes())
    if config.network.start_checkpoint is not None:
        packed.network.start_checkpoint = str(out / "start.pt")
        state = load_checkpoint(Path(config.network.start_checkpoint))
        out.mkdir(parents=True, exist_ok=True)
        save_checkpoint(out / "start.pt", {key: state[key] for key in _WEIGHTS if key in state})
    write_whole(out / "config.yaml", OmegaConf.to_yaml(packed).encode())
    return sum(path.stat().st_size for path in out.iterdir())


def _estimated_bytes(images: Sequence[_Image], quality: int) -> float:
    sample = images[::_SAMPLED_EVERY]
    sizes = [sum(map(len, _encoded(image, quality).values())) for image in sample]
    return float(np.mean(sizes)) * len(images)


def _encoded(image: _Image, quality: int) -> dict[str, bytes]:
    """The image's files, by their name in the packed folder."""
    if image.pair is None:
        bgr = _shortened(read_image(image.path), cv2.INTER_AREA)
        return {f"{image.folder}/{image.name}.webp": _encode(".webp", bgr, [cv2.IMWRITE_WEBP_QUALITY, quality])}
    bgr, label_map = read_labelled(image.pair)
    bgr, label_map = _shortened(bgr, cv2.INTER_AREA), _shortened(label_map, cv2.INTER_NEAREST_EXACT)
    return {
        f"{image.folder}/image/{image.name}.webp": _encode(".webp", bgr, [cv2.IMWRITE_WEBP_QUALITY, quality]),
        f"{image.folder}/label/{image.name}.png": _encode(".png", label_map, [cv2.IMWRITE_PNG_COMPRESSION, 9]),
    }


def _shortened(pixels: np.ndarray, interpolation: int) -> np.ndarray:
    height, width = pixels.shape[:2]
    factor = min(_LONGEST_PX / max(height, width), 1.0)
    if factor == 1:
        return pixels
    return cv2.resize(pixels, (round(width * factor), round(height * factor)), interpolation=interpolation)


def _encode(suffix: str, pixels: np.ndarray, options: list[int]) -> bytes:
    encoded, content = cv2.imencode(suffix, pixels, options)
    if not encoded:
        raise InputError(f"OpenCV cannot write {suffix}; install another opencv-python")
    return content.tobytes()


if __name__ == "__main__":
    main()
