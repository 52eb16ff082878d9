"""What tells the data of a run from other data, wherever it lies: names and sizes of files, not their paths."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from darkseg_ros.errors import InputError
from darkseg_ros.frames.labelled import LabelledImage
from darkseg_ros.whole_files import sha256_of


def files_digest(files: Sequence[Path]) -> str:
    """A digest of the names and sizes of files, in their order; their folders do not matter.

    Raises:
        InputError: if a file is missing.
    """
    try:
        lines = [f"{path.name}\t{path.stat().st_size}" for path in files]
    except OSError as error:
        raise InputError(f"{error.filename} cannot be read: {error.strerror}") from error
    return _digest(lines)


def pairs_digest(pairs: Sequence[LabelledImage]) -> str:
    """As `files_digest` for images and label maps, and for what the label maps' values mean."""
    forms = {id(pair.label_format): pair.label_format for pair in pairs}.values()
    meanings = [f"{sorted(form.train_id_of.items())}{sorted(form.train_id_of_rgb.items())}" for form in forms]
    files = [path for pair in pairs for path in (pair.image, pair.label)]
    return _digest([files_digest(files), *meanings])


def file_digest(path: str | None) -> str:
    """A digest of the content of one file, such as weights; empty for None and for a missing file.

    What reads the file says what it is for, and how to get it.
    """
    return sha256_of(Path(path)) if path and Path(path).is_file() else ""


def _digest(lines: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:32]
