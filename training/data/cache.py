"""Decoded images kept for a run, or for all runs: the samples are the same bit for bit, only sooner there."""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import PIL
from tqdm import tqdm

from darkseg_ros.errors import InputError
from darkseg_ros.frames.labelled import LabelFormat, LabelledImage, read_labelled
from darkseg_ros.frames.source import ImageFile, read_image
from darkseg_ros.whole_files import whole_file, write_whole
from training.data.listing import meaning_of
from training.data.shards import ShardFile

_ESTIMATED_FROM = 32  # files, before the size of all is estimated


@dataclass
class CacheConfig:
    """Where decoded training images are kept; none of these changes a sample.

    Attributes:
        kind: none decodes each image whenever it is drawn; memory keeps all of them for the run, shared by its loading
            processes; disk keeps them in one file, mapped into memory, for later runs too.
        folder: of that file, on a fast local disk. Files of data that changed stay until they are deleted.
    """

    kind: str = "none"
    folder: str | None = None


class ImageStore(Protocol):
    """Where samples take their images from."""

    def labelled(self, pair: LabelledImage) -> tuple[np.ndarray, np.ndarray]:
        """Image (H, W, 3) uint8 BGR and label map (H, W) uint8 train ids, the caller's own."""

    def image(self, file: ImageFile) -> np.ndarray:
        """(H, W, 3) uint8 BGR, the caller's own."""


class Undecoded:
    """Images as they lie on disk or in shards: each is decoded whenever it is asked for."""

    def labelled(self, pair: LabelledImage) -> tuple[np.ndarray, np.ndarray]:
        return read_labelled(pair)

    def image(self, file: ImageFile) -> np.ndarray:
        return read_image(file)


class Decoded:
    """Images that were decoded before.

    Args:
        arrays: by `_image_key` and `_label_key`.
    """

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        self._arrays = arrays

    def labelled(self, pair: LabelledImage) -> tuple[np.ndarray, np.ndarray]:
        return self.image(pair.image), self._arrays[_label_key(pair.label, pair.label_format)].copy()

    def image(self, file: ImageFile) -> np.ndarray:
        return self._arrays[_image_key(file)].copy()


def open_cache(config: CacheConfig, pairs: Iterable[LabelledImage], images: Iterable[Path] = ()) -> ImageStore:
    """The store that a run reads its images from, filled.

    Args:
        config: which kind.
        pairs: labelled images that will be asked for.
        images: those without labels.

    Raises:
        InputError: if the kind is unknown, a file cannot be read, or memory or disk do not hold all images.
    """
    if config.kind not in ("none", "memory", "disk"):
        raise InputError(f"data.cache.kind is {config.kind}; expected none, memory or disk")
    if (config.kind == "disk") != bool(config.folder):
        raise InputError(
            f"data.cache.kind is {config.kind} and data.cache.folder {config.folder or 'not set'}; "
            "disk needs a folder, the other kinds take none"
        )
    if config.kind == "none":
        return Undecoded()
    files = _Files(list(pairs), list(images))
    if config.kind == "memory":
        return Decoded(dict(files.decode(free=_free_memory(), where="memory; choose data.cache.kind=disk")))
    assert config.folder is not None
    return Decoded(_mapped(files, Path(config.folder)))


class _Files:
    """All files that a cache holds, each once."""

    def __init__(self, pairs: list[LabelledImage], images: list[Path]) -> None:
        self._pairs = {(_image_key(pair.image), _label_key(pair.label, pair.label_format)): pair for pair in pairs}
        labelled = {image for image, _ in self._pairs}
        self._images = {key: path for path in images if (key := _image_key(path)) not in labelled}

    def digest(self) -> str:
        """Changes with the files, what label maps mean, and the versions of the decoders."""
        lines = [cv2.__version__, PIL.__version__]
        for (image, label), pair in self._pairs.items():
            lines += [image, _version_of(pair.image), label, _version_of(pair.label)]
        for image, path in self._images.items():
            lines += [image, _version_of(path)]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:32]

    def decode(self, *, free: int, where: str) -> Iterator[tuple[str, np.ndarray]]:
        """Every image and label map by its key.

        Args:
            free: bytes that there is room for.
            where: the room is, and what to do if it is too small.

        Raises:
            InputError: if a file cannot be used, or all of them together are larger than `free`.
        """
        count, done, size = len(self._pairs) + len(self._images), 0, 0
        for arrays in tqdm(self._decoded(), total=count, desc="decode", unit="image", mininterval=10):
            done, size = done + 1, size + sum(array.nbytes for array in arrays.values())
            if done in (_ESTIMATED_FROM, count) and size * count / done > free:
                raise InputError(
                    f"the {count} decoded images take about {size * count / done / 1e9:.1f} GB, "
                    f"{free / 1e9:.1f} are free in {where}"
                )
            yield from arrays.items()

    def _decoded(self) -> Iterator[dict[str, np.ndarray]]:
        for (image, label), pair in self._pairs.items():
            bgr, label_map = read_labelled(pair)
            yield {image: bgr, label: label_map}
        for image, path in self._images.items():
            yield {image: read_image(path)}


def _mapped(files: _Files, folder: Path) -> dict[str, np.ndarray]:
    """The arrays of a file in `folder`, which is written first if it is not there."""
    content = folder / f"decoded_{files.digest()}.bin"
    index = content.with_suffix(".json")
    try:
        with _locked(folder / "lock"):  # of several processes of a machine one writes
            if not index.is_file():
                free = shutil.disk_usage(folder).free
                shapes, end = {}, 0
                with whole_file(content) as unfinished, unfinished.open("wb") as file:
                    for key, array in files.decode(free=free, where=f"{folder}; name another data.cache.folder"):
                        file.write(np.ascontiguousarray(array).data)
                        shapes[key] = [end, *array.shape]
                        end += array.nbytes
                write_whole(index, json.dumps(shapes).encode())
        shapes = json.loads(index.read_text(encoding="utf-8"))
        pixels = np.memmap(content, np.uint8, mode="r")
        return {
            key: pixels[start : start + int(np.prod(shape))].reshape(shape) for key, (start, *shape) in shapes.items()
        }
    except (OSError, ValueError) as error:
        raise InputError(f"the cache {folder} cannot be used ({error}); delete it or make room") from error


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _image_key(file: ImageFile) -> str:
    return str(file.absolute()) if isinstance(file, Path) else str(file)


def _label_key(file: ImageFile, label_format: LabelFormat) -> str:
    return f"{_image_key(file)} as {meaning_of(label_format)}"


def _version_of(file: ImageFile) -> str:
    if isinstance(file, ShardFile):
        return f"{file.offset} {file.size}"
    assert isinstance(file, Path)
    stat = file.stat()
    return f"{stat.st_size} {stat.st_mtime_ns}"


def _free_memory() -> int:
    """Bytes that can be taken without swapping, as Linux estimates them."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    values = dict(line.split(":", 1) for line in lines)
    return int(values["MemAvailable"].split()[0]) * 1024
