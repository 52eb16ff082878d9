"""Which drives a command line means: bags, folders of bags and globs, here or in object storage."""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from darkseg_ros.errors import InputError
from darkseg_ros.fleet.places import file_system_of, is_remote
from darkseg_ros.frames.source import check_name

_METADATA = "metadata.yaml"
_BAG_ENDINGS = (".mcap", ".db3", ".mcap.zstd", ".db3.zstd", ".bag")


@dataclass(frozen=True, order=True)
class Drive:
    """One input of many.

    Attributes:
        place: absolute path, or URL.
    """

    place: str

    @property
    def name(self) -> str:
        """What people call it: the last part of its place without the ending."""
        last = PurePosixPath(self.place.rstrip("/")).name
        return next((last.removesuffix(ending) for ending in _BAG_ENDINGS if last.endswith(ending)), last)

    @property
    def key(self) -> str:
        """Its name with a mark of its place: fit for a file name, and never that of another drive."""
        return f"{self.name}-{hashlib.sha256(self.place.encode()).hexdigest()[:8]}"


def find_drives(wanted: Sequence[str]) -> list[Drive]:
    """The drives that a user names, each once, in the order of their places.

    Args:
        wanted: bags; folders, which stand for all bags in them and below, or for themselves if there are none, as
            folders of images do; globs (``**`` too); URLs of any of these.

    Raises:
        InputError: if one leads to nothing.
    """
    drives: set[Drive] = set()
    for each in wanted:
        found = _remote(each) if is_remote(each) else _local(each)
        if not found:
            raise InputError(f"{each} leads to no drive; expected bags, a folder of bags, or a glob in quotes")
        drives.update(map(Drive, found))
    return sorted(drives)


def means_several(wanted: Sequence[str]) -> bool:
    """Whether a command line may mean other than one bag of this machine."""
    if len(wanted) != 1:
        return True
    (place,) = wanted
    path = Path(place)
    if is_remote(place) or (not path.exists() and glob.has_magic(place)):
        return True
    return path.is_dir() and not (path / _METADATA).exists() and len(_bags_below(place)) > 1


def _local(wanted: str) -> list[str]:
    path = Path(wanted)
    matches = [path] if path.exists() else sorted(map(Path, glob.glob(wanted, recursive=True)))  # noqa: PTH207
    found = []
    for match in matches:
        check_name(match)
        absolute = str(match.absolute())
        found += (_bags_below(absolute) or [absolute]) if match.is_dir() else [absolute]
    return found


def _bags_below(folder: str) -> list[str]:
    found = []
    for parent, folders, files in os.walk(folder):
        if _METADATA in files:
            found.append(parent)
            folders.clear()  # its storage files are parts of it
            continue
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [str(Path(parent) / name) for name in files if name.endswith(_BAG_ENDINGS) and name[0] != "."]
    return found


def _remote(wanted: str) -> list[str]:
    with file_system_of(wanted) as (storage, path):
        storage.invalidate_cache()
        if storage.exists(path):
            matches = [path]
        else:
            matches = storage.glob(path) if glob.has_magic(path) else []
        found = []
        for match in matches:
            if not storage.isdir(match):
                found.append(match)
                continue
            files = sorted(map(PurePosixPath, storage.find(match)))
            bags = {file.parent for file in files if file.name == _METADATA}
            loose = {file for file in files if file.name.endswith(_BAG_ENDINGS) and not bags & set(file.parents)}
            found += [str(bag) for bag in bags | loose] or [match]
        return [str(storage.unstrip_protocol(each)) for each in found]
