"""Plans on disk: found by everything that a plan depends on, checked before use, built once whoever asks first.

Beside each ``<digest>.plan`` lies a ``<digest>.json`` with the plan's key, size and sha256. A plan whose manifest is
missing, of another key, or does not fit its bytes is built again, never run. ``<digest>.kernels`` is TensorRT for RTX's
own cache of what it compiles from the plan for the GPU; the library checks it and ignores one that does not fit.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from darkseg_ros.cache_folder import cache_folder, make_private_folder, read_private, write_private
from darkseg_ros.errors import EngineError
from darkseg_ros.whole_files import UNFINISHED, whole_file

PLANS_KEPT = 16
STALE_AFTER_S = 30 * 24 * 3600.0
"""A plan of another version of the library is dropped when nobody used it for so long."""

PRECISIONS = ("fp16", "int8", "fp32")
"""Of a plan; int8 is for graphs that were exported quantised."""

_LOCK = "build.lock"
_ABANDONED_AFTER_S = 24 * 3600.0

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class PlanKey:
    """All that a plan depends on.

    Attributes:
        onnx_sha256: of the bundle's graph.
        recipe: `plan_builder.PLAN_RECIPE`.
        library: "tensorrt" or "tensorrt_rtx".
        library_version: plans load on the version that built them.
        gpu: the GPU's name; empty for a plan that was built for capabilities, wherever.
        capabilities: compute capabilities that it runs on, such as ("SM86",), sorted.
        network_hw: size of the frames.
        precision: one of `PRECISIONS`.
        batch: most frames at once.
    """

    onnx_sha256: str
    recipe: int
    library: str
    library_version: str
    gpu: str
    capabilities: tuple[str, ...]
    network_hw: tuple[int, int]
    precision: str
    batch: int

    @property
    def digest(self) -> str:
        """Name of the plan's files."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:32]


@dataclass(frozen=True)
class StoredPlan:
    """A plan whose bytes were checked.

    Attributes:
        key: what it was built for.
        content: the plan.
        built_now: whether it was built for this call.
    """

    key: PlanKey
    content: bytes
    built_now: bool


class PlanCache:
    """The plans of one folder.

    Args:
        folder: made when the first plan is built; default: ``plans`` in the user's `cache_folder`.

    Raises:
        EngineError: if no folder is named and the user has none.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or cache_folder("plans")

    def newest_keys(self) -> list[PlanKey]:
        """Keys of the plans that lie here, the last built or preferred first; the plans themselves are not checked."""
        found = []
        for path in self.folder.glob("*.json"):
            entry = _read_manifest(path)
            if entry is not None and path == self.manifest_path(entry.key):
                found.append((_modified_s(path), entry.key))
        return [key for _, key in sorted(found, key=lambda each: each[0], reverse=True)]

    def prefer(self, key: PlanKey) -> None:
        """Make a plan that lies here the first of `newest_keys`."""
        with writing_in(self.folder):
            os.utime(self.manifest_path(key))

    def plan(self, key: PlanKey, build: Callable[[Path], None], *, progress: Callable[[str], None]) -> StoredPlan:
        """The plan of a key; built if it is not here, or not what its manifest says.

        Args:
            key: what it depends on.
            build: writes the plan to the path it gets.
            progress: told when another process builds and this one waits.

        Raises:
            EngineError: if the folder cannot be written, or what `build` raises.
        """
        content = self._intact(key)
        if content is not None:
            return StoredPlan(key, content, built_now=False)
        with self._lock(progress):
            content = self._intact(key)  # another process may have built it meanwhile
            if content is not None:
                return StoredPlan(key, content, built_now=False)
            content = self._store(key, build)
            self._evict(key)
        return StoredPlan(key, content, built_now=True)

    def discard(self, key: PlanKey) -> None:
        """Drop a plan that proved wrong; it is built again when it is asked for."""
        for path in (self.manifest_path(key), self.plan_path(key), self.kernels_path(key)):
            with writing_in(self.folder):
                path.unlink(missing_ok=True)

    def plan_path(self, key: PlanKey) -> Path:
        """Where a key's plan is, or would be."""
        return self.folder / f"{key.digest}.plan"

    def kernels_path(self, key: PlanKey) -> Path:
        """Where the kernels that the library compiled for a key's plan at its first start are, or would be."""
        return self.folder / f"{key.digest}.kernels"

    def manifest_path(self, key: PlanKey) -> Path:
        """Where the facts about a key's plan are, or would be."""
        return self.folder / f"{key.digest}.json"

    def _intact(self, key: PlanKey) -> bytes | None:
        entry = _read_manifest(self.manifest_path(key))
        if entry is None or entry.key != key:
            return None
        path = self.plan_path(key)
        try:
            if path.stat().st_size != entry.size_bytes:
                return None
            content = read_private(path)
        except PermissionError as error:
            _LOG.warning("%s is not run, a plan is built anew: %s", path, error.strerror)
            return None
        except OSError:  # removed by another process, or never there
            return None
        if hashlib.sha256(content).hexdigest() != entry.sha256:
            return None
        with contextlib.suppress(OSError):  # a plan in a read-only folder serves as well
            os.utime(path)  # for the eviction
        return content

    def _store(self, key: PlanKey, build: Callable[[Path], None]) -> bytes:
        path = self.plan_path(key)
        with writing_in(self.folder):
            with whole_file(path) as unfinished:
                build(unfinished)
                unfinished.chmod(0o600)
                content = unfinished.read_bytes()
            entry = {
                "key": asdict(key),
                "size_bytes": len(content),
                "sha256": hashlib.sha256(content).hexdigest(),
            }
            # last: a plan counts from the moment its manifest is there
            write_private(self.manifest_path(key), json.dumps(entry, indent=2).encode())
        return content

    @contextmanager
    def _lock(self, progress: Callable[[str], None]) -> Iterator[None]:
        """One build at a time in this folder: builders take much memory. A dead process loses its lock."""
        with writing_in(self.folder):
            make_private_folder(self.folder)
            lock = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(lock, "wb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                progress("another process is building a plan; waiting for it")
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _evict(self, built: PlanKey) -> None:
        """Drop what nobody will use again; called under the lock."""
        now_s = time.time()
        used_s = {key: _modified_s(self.plan_path(key)) for key in self.newest_keys()}
        by_use = sorted((key for key in used_s if key != built), key=lambda key: used_s[key], reverse=True)
        for rank, key in enumerate(by_use, start=1):
            other_version = key.library == built.library and key.library_version != built.library_version
            if rank >= PLANS_KEPT or (other_version and now_s - used_s[key] > STALE_AFTER_S):
                self.discard(key)
        with writing_in(self.folder):
            for path in self.folder.glob(f"{UNFINISHED}*"):
                if now_s - _modified_s(path) > _ABANDONED_AFTER_S:
                    shutil.rmtree(path, ignore_errors=True)


@dataclass(frozen=True)
class _Manifest:
    key: PlanKey
    size_bytes: int
    sha256: str


def _read_manifest(path: Path) -> _Manifest | None:
    """None where there is none that this version of the package wrote."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        key = values.pop("key")
        for name in ("capabilities", "network_hw"):
            key[name] = tuple(key[name])
        return _Manifest(key=PlanKey(**key), **values)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _modified_s(path: Path) -> float:
    """0 for a file that is gone: another process may have removed it."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


@contextmanager
def writing_in(folder: Path) -> Iterator[None]:
    """Turn an OSError on writing a plan into one line with its cure.

    Raises:
        EngineError: in place of the OSError.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise EngineError(
                f"the disk is full: {folder} has no room for a plan; free some, "
                "or set XDG_CACHE_HOME to a folder on another disk"
            ) from error
        raise EngineError(
            f"the plan cache {folder} cannot be written ({error.strerror}); make it writable, "
            "or set XDG_CACHE_HOME to a folder that is"
        ) from error
