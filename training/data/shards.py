"""Labelled images in WebDataset shards: tar files on disk or in object storage, from which single images are read.

A folder of shards holds ``000000.tar``, ``000001.tar``, … and ``shards.json``. In a tar, ``KEY.jpg`` (as the image file
ends) stands before ``KEY.label.png``; both are the files as they were, so webdataset reads them too. ``shards.json``
says where each file begins: any image is read alone, so draws and resuming are those of plain folders.

Source: WebDataset's tar layout, https://github.com/webdataset/webdataset.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from tqdm import tqdm

from darkseg_ros.errors import InputError
from darkseg_ros.frames.labelled import LabelFormat, LabelledImage, read_labelled
from darkseg_ros.whole_files import whole_file, write_whole

INDEX = "shards.json"
_VERSION = 1


@dataclass(frozen=True)
class ShardFile:
    """A file in a shard.

    Attributes:
        shard: path or URL of the tar file, as fsspec takes it.
        name: that the file had outside.
        offset: of its first byte in the tar file.
        size: in bytes.
    """

    shard: str
    name: str
    offset: int
    size: int

    @property
    def stem(self) -> str:
        return PurePosixPath(self.name).stem

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.name).suffix

    def read_bytes(self) -> bytes:
        """Its content.

        Raises:
            InputError: if the shard cannot be read, or ends before the file does.
        """
        file_system, path = _opened(self.shard)
        try:
            content = file_system.cat_file(path, start=self.offset, end=self.offset + self.size)
        except OSError as error:
            raise InputError(f"{self} cannot be read: {error}") from error
        if len(content) != self.size:
            raise InputError(f"{self.shard} is cut off within {self.name}; copy the shard anew")
        return bytes(content)

    def __str__(self) -> str:
        return f"{self.shard}/{self.name}"


@dataclass(frozen=True)
class ShardLabel(ShardFile):
    """A label map in a shard.

    Attributes:
        label_format: of its values.
        pixels: by train id.
    """

    label_format: LabelFormat
    pixels: Mapping[int, int]

    def counts(self, label_format: LabelFormat) -> np.ndarray | None:
        """Pixels by train id of another format, (256,) int64, told without reading the label map.

        None where that format parts values that the own one holds together, or does not have one.
        """
        own, other = self.label_format, label_format
        renamed = [(train_id, other.train_id_of.get(value)) for value, train_id in own.train_id_of.items()]
        renamed += [(train_id, other.train_id_of_rgb.get(rgb)) for rgb, train_id in own.train_id_of_rgb.items()]
        new_of = dict(renamed)
        counts = np.zeros(256, np.int64)
        for train_id, count in self.pixels.items():
            new = new_of[train_id]
            if new is None or len({each for old, each in renamed if old == train_id}) > 1:
                return None
            counts[new] += count
        return counts


def write_shards(pairs: Sequence[LabelledImage], out: Path, *, data_set: str, shard_bytes: int) -> int:
    """Copy labelled images into shards; every image and label map is read once, so that a broken one is told now.

    Args:
        pairs: in the order that they get.
        out: folder of the shards. Its index is written last: without it, the folder is not taken for whole.
        data_set: that they come from, a name of the catalogue.
        shard_bytes: a shard ends with the image that reaches this size.

    Returns:
        How many shards there are.

    Raises:
        InputError: if `out` holds shards already or cannot be written, or a pair cannot be used.
    """
    if (out / INDEX).exists():
        raise InputError(f"{out} holds shards already; choose another --out or remove it")
    formats = list({id(pair.label_format): pair.label_format for pair in pairs}.values())
    shards: list[dict[str, Any]] = []
    remaining = list(enumerate(pairs))[::-1]
    try:
        with tqdm(total=len(pairs), desc="shard", unit="image", mininterval=10) as progress:
            while remaining:
                name, samples = f"{len(shards):06d}.tar", []
                with whole_file(out / name) as unfinished, tarfile.open(unfinished, "w") as tar:
                    while remaining and tar.offset < shard_bytes:
                        samples.append(_add(tar, *remaining.pop(), formats))
                        progress.update()
                shards.append({"name": name, "size": (out / name).stat().st_size, "samples": samples})
        index = {
            "version": _VERSION,
            "data_set": data_set,
            "label_formats": [_format_to_json(label_format) for label_format in formats],
            "shards": shards,
        }
        write_whole(out / INDEX, json.dumps(index).encode())
    except OSError as error:
        raise InputError(f"{out} cannot be written ({error}); make room and start again") from error
    return len(shards)


def _add(tar: tarfile.TarFile, number: int, pair: LabelledImage, formats: list[LabelFormat]) -> dict[str, Any]:
    """Append one image and its label map; returns their entry of the index."""
    _, label_map = read_labelled(pair)
    # WebDataset splits a name at its first dot
    key = f"{number:08d}_{pair.image.stem.replace('.', '_')}"
    entry: dict[str, Any] = {}
    for part, file, ending in (
        ("image", pair.image, pair.image.suffix),
        ("label", pair.label, f".label{pair.label.suffix}"),
    ):
        content = file.read_bytes()
        info = tarfile.TarInfo(f"{key}{ending}")
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
        padded = -(-len(content) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
        entry[part] = [file.name, tar.offset - padded, len(content)]
    counts = np.bincount(label_map.ravel(), minlength=256)
    entry["format"] = formats.index(pair.label_format)
    entry["pixels"] = {int(train_id): int(counts[train_id]) for train_id in np.flatnonzero(counts)}
    return entry


def read_shards(folder: str) -> list[LabelledImage]:
    """The labelled images of a folder of shards; their files are read when they are asked for.

    Args:
        folder: path or URL, such as ``s3://bucket/folder``; fsspec's chains, such as ``filecache::s3://…``, are taken.

    Raises:
        InputError: if there is no index, or a shard is missing or has another size than the index says.
    """
    folder = folder.rstrip("/")
    index = _index_of(folder)
    file_system, _ = _opened(folder)
    formats = [_format_from_json(entry) for entry in index["label_formats"]]
    shards = {f"{folder}/{shard['name']}": shard for shard in index["shards"]}
    for url, shard in shards.items():
        try:
            size = file_system.size(_opened(url)[1])
        except OSError as error:
            raise InputError(f"the shard {url} cannot be found ({error}); copy it to where {INDEX} lies") from error
        if size != shard["size"]:
            raise InputError(f"the shard {url} has {size} bytes, {INDEX} says {shard['size']}; copy it anew")
    return [_pair(url, sample, formats) for url, shard in shards.items() for sample in shard["samples"]]


def _pair(url: str, sample: dict[str, Any], formats: list[LabelFormat]) -> LabelledImage:
    """An entry of the index as an image and its label map."""
    label_format = formats[sample["format"]]
    pixels = {int(train_id): int(count) for train_id, count in sample["pixels"].items()}
    name, offset, size = sample["label"]
    return LabelledImage(
        ShardFile(url, *sample["image"]), ShardLabel(url, name, offset, size, label_format, pixels), label_format
    )


def written_from(folder: str) -> str:
    """Name of the data set that a folder of shards was written from; "shards" where the folder is gone."""
    try:
        return str(_index_of(folder.rstrip("/"))["data_set"])
    except InputError:
        return "shards"


def _index_of(folder: str) -> dict[str, Any]:
    file_system, path = _opened(f"{folder}/{INDEX}")
    try:
        index = json.loads(file_system.cat_file(path))
    except OSError as error:
        raise InputError(
            f"{folder} has no readable {INDEX} ({error}); write shards with python -m training.data shard"
        ) from error
    except ValueError as error:
        raise InputError(f"{folder}/{INDEX} is damaged ({error}); copy it anew") from error
    if not isinstance(index, dict) or index.get("version") != _VERSION:
        raise InputError(f"{folder}/{INDEX} is none of this version of darkseg; write the shards anew")
    return index


def groups_by_shard(pairs: Sequence[LabelledImage], count: int) -> list[np.ndarray]:
    """Indices of the images of each of `count` groups; the shards go round the groups, so none is in two.

    Raises:
        InputError: if an image lies in no shard, or there are fewer shards than groups.
    """
    if count == 1:
        return [np.arange(len(pairs))]
    outside = next((pair.image for pair in pairs if not isinstance(pair.image, ShardFile)), None)
    if outside is not None:
        raise InputError(f"data.shard_groups is {count}, and {outside} lies in no shard; write shards, or set it to 1")
    shard_of = [pair.image.shard for pair in pairs if isinstance(pair.image, ShardFile)]
    numbers = {shard: number for number, shard in enumerate(dict.fromkeys(shard_of))}
    if len(numbers) < count:
        raise InputError(
            f"data.shard_groups is {count} and there are {len(numbers)} shards; write smaller ones (--shard-mb), "
            "or set it lower"
        )
    group_of = np.array([numbers[shard] % count for shard in shard_of])
    return [np.flatnonzero(group_of == group) for group in range(count)]


def _opened(url: str) -> tuple[Any, str]:
    """File system and path of a URL.

    fsspec keeps file systems by themselves, so that this is cheap for each file, and safe in forked processes.
    """
    import fsspec  # stages without shards do without it

    try:
        file_system, path = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise InputError(f"{url} cannot be opened ({error}); install what fsspec names, or correct the URL") from error
    return file_system, str(path)


def _format_to_json(label_format: LabelFormat) -> dict[str, Any]:
    return {
        "values": label_format.values,
        "train_id_of": [[value, train_id] for value, train_id in label_format.train_id_of.items()],
        "train_id_of_rgb": [[*rgb, train_id] for rgb, train_id in label_format.train_id_of_rgb.items()],
    }


def _format_from_json(entry: dict[str, Any]) -> LabelFormat:
    return LabelFormat(
        entry["values"],
        train_id_of={int(value): int(train_id) for value, train_id in entry["train_id_of"]},
        train_id_of_rgb={(int(r), int(g), int(b)): int(train_id) for r, g, b, train_id in entry["train_id_of_rgb"]},
    )
