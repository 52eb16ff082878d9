"""Files wherever they lie: on a disk of this machine, or in object storage (``s3://``, ``gs://``) through fsspec."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from darkseg_ros.errors import DarksegError, InputError, one_line
from darkseg_ros.whole_files import write_whole

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

REQUIREMENTS = "requirements/cluster.txt"
"""Brings what only fleets of drives need."""


def is_remote(place: str) -> bool:
    """Whether a place is a URL such as ``s3://bucket/drives``, not a path of this machine."""
    return "://" in place


def place_in(folder: str, name: str) -> str:
    """The place of a file in a folder."""
    return f"{folder.rstrip('/')}/{name}" if is_remote(folder) else str(Path(folder) / name)


@contextmanager
def file_system_of(url: str) -> Iterator[tuple[AbstractFileSystem, str]]:
    """The storage that a URL leads to, and the path in it; whatever the storage raises becomes one error.

    Credentials and endpoints come from where fsspec's packages look for them: ``AWS_ACCESS_KEY_ID``,
    ``AWS_ENDPOINT_URL``, ``GOOGLE_APPLICATION_CREDENTIALS``, ``FSSPEC_…``.

    Raises:
        InputError: if a package is missing, or the storage refuses.
    """
    try:
        import fsspec
    except ImportError as error:
        raise InputError(f"{url} needs fsspec; install {REQUIREMENTS}") from error
    try:
        yield fsspec.url_to_fs(url)
    except ImportError as error:
        raise InputError(
            f"{url} needs another package: {error}; {REQUIREMENTS} brings those of s3:// and gs://"
        ) from error
    except DarksegError:
        raise
    except Exception as error:  # each storage has errors of its own, and botocore's are no OSError
        reason = one_line(error) or type(error).__name__
        raise InputError(f"{url} cannot be used: {reason}; check its name, the credentials and the endpoint") from error


def read_bytes(place: str) -> bytes | None:
    """The content of a file; None if there is none.

    Raises:
        InputError: if a storage refuses.
        OSError: if a path of this machine cannot be read.
    """
    if not is_remote(place):
        return Path(place).read_bytes() if Path(place).is_file() else None
    with file_system_of(place) as (storage, path):
        try:
            return bytes(storage.cat_file(path))
        except FileNotFoundError:
            return None


def write_bytes(place: str, content: bytes) -> None:
    """Write a file, which appears whole or not at all; an earlier one is replaced.

    Raises:
        InputError: if a storage refuses.
        OSError: if a path of this machine cannot be written.
    """
    if not is_remote(place):
        write_whole(Path(place), content)
        return
    with file_system_of(place) as (storage, path):
        storage.pipe_file(path, content)  # objects of a storage appear whole


def names_in(folder: str, *, ending: str) -> set[str]:
    """Names of the files of a folder that end so; none if there is no such folder."""
    if not is_remote(folder):
        return {path.name for path in Path(folder).glob(f"*{ending}") if not path.name.startswith(".")}
    with file_system_of(folder) as (storage, path):
        storage.invalidate_cache(path)
        try:
            found = storage.ls(path, detail=False)
        except FileNotFoundError:
            return set()
    return {name for each in found if (name := each.rstrip("/").rpartition("/")[2]).endswith(ending)}


@contextmanager
def fetched(place: str) -> Iterator[Path]:
    """A file or folder as a path of this machine; what lies in object storage is copied here for the block.

    Raises:
        InputError: if it cannot be copied.
    """
    if not is_remote(place):
        yield Path(place)
        return
    with tempfile.TemporaryDirectory(prefix="darkseg-") as folder:
        copy = Path(folder) / place.rstrip("/").rpartition("/")[2]
        with file_system_of(place) as (storage, path):
            if storage.isdir(path):
                copy.mkdir()
                storage.get(f"{path.rstrip('/')}/", f"{copy}/", recursive=True)
            else:
                storage.get_file(path, str(copy))
        yield copy


@contextmanager
def folder_for(place: str) -> Iterator[Path]:
    """A folder of this machine to write to; of a place in object storage its files are sent there after the block.

    Raises:
        InputError: if they cannot be sent.
    """
    if not is_remote(place):
        yield Path(place)
        return
    with tempfile.TemporaryDirectory(prefix="darkseg-") as folder:
        yield Path(folder)
        with file_system_of(place) as (storage, path):
            for file in sorted(found for found in Path(folder).rglob("*") if found.is_file()):
                storage.put_file(str(file), f"{path.rstrip('/')}/{file.relative_to(folder).as_posix()}")
