"""What tells the data of a run from other data, wherever it lies: names and sizes of files, not their paths."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from darkseg_ros.errors import InputError
from darkseg_ros.frames.labelled import LabelFormat, LabelledImage
from darkseg_ros.frames.source import ImageFile
from darkseg_ros.whole_files import sha256_of
from training.data.shards import ShardFile


def files_digest(files: Sequence[ImageFile]) -> str:
    """A digest of the names and sizes of files, in their order; their folders, or shards, do not matter.

    Raises:
        InputError: if a file is missing.
    """
    try:
        lines = [f"{file.name}\t{_size(file)}" for file in files]
    except OSError as error:
        raise InputError(f"{error.filename} cannot be read: {error.strerror}") from error
    return _digest(lines)


def pairs_digest(pairs: Sequence[LabelledImage]) -> str:
    """As `files_digest` for images and label maps, and for what the label maps' values mean."""
    forms = {id(pair.label_format): pair.label_format for pair in pairs}.values()
    meanings = [meaning_of(form) for form in forms]
    files = [path for pair in pairs for path in (pair.image, pair.label)]
    return _digest([files_digest(files), *meanings])


def meaning_of(label_format: LabelFormat) -> str:
    """What the values of label maps mean, in one line."""
    return f"{sorted(label_format.train_id_of.items())}{sorted(label_format.train_id_of_rgb.items())}"


def file_digest(path: str | None) -> str:
    """A digest of the content of one file, such as weights; empty for None and for a missing file.

    What reads the file says what it is for, and how to get it.
    """
    return sha256_of(Path(path)) if path and Path(path).is_file() else ""


def file_digests(config: DictConfig, *keys: str) -> dict[str, str]:
    """`file_digest` of the files that settings name, by their dotted keys."""
    return {key: file_digest(OmegaConf.select(config, key)) for key in keys}


def _size(file: ImageFile) -> int:
    if isinstance(file, ShardFile):
        return file.size
    assert isinstance(file, Path)
    return file.stat().st_size


def _digest(lines: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:32]
