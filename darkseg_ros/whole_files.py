"""Files that appear whole or not at all: written in a folder that nobody else can enter, then moved to their place."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

UNFINISHED = ".unfinished-"
"""Begins the name of the hidden folder beside a file that is being written; a killed process leaves it behind."""


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a name to write to; at the end of the block the file moves to `path`, on an error it is removed.

    The name lies in a new folder (random name, mode 0700), so that no other user can plant a link there. A link at
    `path` is replaced, never followed.

    Args:
        path: where the file is to be; its folder is made, an earlier file there is replaced.

    Yields:
        A path on the same file system with the same name and suffix (writers of videos go by it).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=path.parent))
    try:
        unfinished = folder / path.name
        yield unfinished
        unfinished.replace(path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file at once, replacing an earlier one."""
    with whole_file(path) as unfinished:
        unfinished.write_bytes(content)


def sha256_of(path: Path) -> str:
    """Hex digest of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()
