"""Files that appear whole or not at all: written under another name, then renamed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a name to write to; at the end of the block the file moves to `path`, on an error it is removed.

    Args:
        path: where the file is to be; its folder is made, an earlier file there is replaced.

    Yields:
        A path in the same folder with the same suffix (writers of videos go by it).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.stem}.{os.getpid()}.unfinished{path.suffix}")
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file at once, replacing an earlier one."""
    with whole_file(path) as unfinished:
        unfinished.write_bytes(content)
