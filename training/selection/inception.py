"""Features of images by a network from a file, kept on disk so that no image goes through the network twice."""

from __future__ import annotations

import hashlib
import warnings
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from darkseg_ros.errors import InputError
from darkseg_ros.frames.source import read_image
from darkseg_ros.model.image_features import (
    INCEPTION_INPUT_PX,
    FeatureExtractor,
    extractor_input,
    features_of,
    last_line,
    load_onnx_extractor,
)
from darkseg_ros.whole_files import sha256_of, whole_file

DEFAULT_CACHE = Path("runs/features")

_CPU = torch.device("cpu")
_BATCH = 16
_IMAGES_PER_FILE = 128  # what a run that is killed loses at most
_DAMAGED = (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error)


def load_extractor(path: Path, *, input_px: int = INCEPTION_INPUT_PX, device: torch.device = _CPU) -> FeatureExtractor:
    """Load a feature extractor: TorchScript, or ONNX where the name ends in .onnx.

    Args:
        path: a network of one input, (N, 3, S, S) float32 as of `extractor_input`, any N, and one output, (N, D) or
            (N, D, 1, 1).
        input_px: S.
        device: where TorchScript runs; ONNX runs on the CPU.

    Raises:
        InputError: if the file is missing or cannot be loaded.
    """
    if not path.is_file():
        raise InputError(
            f"there is no feature extractor {path}; `python -m training.fetch_inception --out {path}` fetches the "
            "Inception network of FID, or give another TorchScript or ONNX file"
        )
    if path.suffix.lower() == ".onnx":
        return load_onnx_extractor(path, input_px=input_px)
    return FeatureExtractor(path, sha256_of(path), input_px, _load_torchscript(path, device))


def _load_torchscript(path: Path, device: torch.device) -> Callable[[np.ndarray], np.ndarray]:
    try:
        with warnings.catch_warnings():
            # the format is what published extractors come in; PyTorch would have users export anew
            warnings.filterwarnings("ignore", message=".*torch.jit.load.*")
            module = torch.jit.load(str(path), map_location=device).eval()
    except (RuntimeError, ValueError) as error:
        raise InputError(f"{path} is no TorchScript network ({last_line(error)}); expected .pt or .onnx") from error

    def run(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return np.asarray(module(torch.from_numpy(images).to(device)).cpu().numpy())

    return run


@dataclass(frozen=True)
class _ImageState:
    """Says whether features are still those of a file: name relative to the folder, bytes, time of the last change."""

    name: str
    size: int
    mtime_ns: int


def read_features(paths: list[Path], *, folder: Path, extractor: FeatureExtractor, cache: Path) -> np.ndarray:
    """Features of images, from the cache where their files have not changed since.

    Args:
        paths: images within `folder`.
        folder: the cache is by folder and extractor.
        extractor: what computes features that the cache does not hold.
        cache: folder of all caches; removing it costs time only. A run that ends early is continued by the next.

    Returns:
        (N, D) float32 in the order of `paths`: 80 MB for 10,000 images and 2048 features; the images themselves are
        read a few at a time.

    Raises:
        InputError: naming the file, if an image cannot be read, the extractor does not take it or gives something
            else than finite features.
    """
    states = [_state(path, folder) for path in paths]
    folder_key = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:12]
    own_cache = cache / f"{extractor.path.stem}-{extractor.sha256[:12]}-{extractor.input_px}px" / folder_key

    features_by_state: dict[_ImageState, np.ndarray] = {}
    wanted = set(states)
    for file in sorted(own_cache.glob("[!.]*.npz")):
        for state, row in _read_cache_file(file):
            if state in wanted:
                features_by_state[state] = row

    missing = [(path, state) for path, state in zip(paths, states, strict=True) if state not in features_by_state]
    with tqdm(total=len(missing), desc="features", unit="image", mininterval=10, disable=not missing) as progress:
        for start in range(0, len(missing), _IMAGES_PER_FILE):
            part = missing[start : start + _IMAGES_PER_FILE]
            computed = np.concatenate(
                [_compute([path for path, _ in part[i : i + _BATCH]], extractor) for i in range(0, len(part), _BATCH)]
            )
            _write_cache_file(own_cache, [state for _, state in part], computed)
            features_by_state.update(zip([state for _, state in part], computed, strict=True))
            progress.update(len(part))
    return np.stack([features_by_state[state] for state in states])


def _state(path: Path, folder: Path) -> _ImageState:
    try:
        stat = path.stat()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    return _ImageState(path.relative_to(folder).as_posix(), stat.st_size, stat.st_mtime_ns)


def _compute(paths: list[Path], extractor: FeatureExtractor) -> np.ndarray:
    images = [extractor_input(read_image(path), extractor.input_px) for path in paths]
    return features_of(images, extractor, names=list(map(str, paths)))


def _write_cache_file(own_cache: Path, states: list[_ImageState], features: np.ndarray) -> None:
    # named by what it holds: two runs at a time write the same file with the same content
    name = hashlib.sha256("\n".join(map(str, states)).encode()).hexdigest()[:16]
    try:
        with whole_file(own_cache / f"{name}.npz") as unfinished:
            np.savez(
                unfinished,
                names=np.array([state.name for state in states]),
                sizes=np.array([state.size for state in states], np.int64),
                mtimes_ns=np.array([state.mtime_ns for state in states], np.int64),
                features=features,
            )
    except OSError as error:
        raise InputError(f"features cannot be kept in {own_cache} ({error}); make room or set --cache") from error


def _read_cache_file(path: Path) -> list[tuple[_ImageState, np.ndarray]]:
    """States and features; none, and the file is removed, if it is damaged."""
    try:
        # opened here: np.load leaves files open that are no archives
        with path.open("rb") as file, np.load(file) as stored:
            columns = [stored[key].tolist() for key in ("names", "sizes", "mtimes_ns")]
            return [(_ImageState(*row), one) for *row, one in zip(*columns, stored["features"], strict=True)]
    except _DAMAGED as error:
        print(f"{path} is damaged ({last_line(error)}); its features are computed anew")
        path.unlink(missing_ok=True)
        return []
