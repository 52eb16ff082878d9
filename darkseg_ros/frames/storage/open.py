"""Opens a file of recorded messages by what it holds, whatever it is called."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from darkseg_ros.errors import BagError
from darkseg_ros.frames.storage.channel import Storage
from darkseg_ros.frames.storage.compression import ZSTD_MAGIC, decompress_file, zstd_start
from darkseg_ros.frames.storage.mcap import MCAP_MAGIC, McapStorage
from darkseg_ros.frames.storage.ros1 import ROS1_MAGIC, Ros1Storage
from darkseg_ros.frames.storage.sqlite import SQLITE_MAGIC, SqliteStorage
from darkseg_ros.frames.videos import opens_as_video

_STORAGE_SUFFIXES = (".mcap", ".db3")

_STORAGE_OF_MAGIC: dict[bytes, Callable[[Path], Storage]] = {
    MCAP_MAGIC: McapStorage,
    SQLITE_MAGIC: SqliteStorage,
    ROS1_MAGIC: Ros1Storage,
}
_START_BYTES = 2**16


def holds_messages(path: Path) -> bool:
    """Whether a regular file is a storage of messages: by its first bytes, packed by zstd or not.

    One that is called so and begins like nothing at all is a broken storage; a video that is called so is none.
    """
    if not path.is_file():
        return False
    return _begins_like_storage(path) or (path.suffix in _STORAGE_SUFFIXES and not opens_as_video(path))


def _begins_like_storage(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(len(SQLITE_MAGIC))
        packed = start + file.read(_START_BYTES) if start.startswith(ZSTD_MAGIC) else b""
    if packed:
        try:
            start = zstd_start(packed, len(SQLITE_MAGIC))
        except Exception:  # whatever it is, it is no bag
            return False
    return start.startswith(tuple(_STORAGE_OF_MAGIC))


def open_storage(path: Path, stack: ExitStack) -> Storage:
    """Open a file.

    Args:
        path: a regular file.
        stack: closes the storage, and removes what was unpacked for it.

    Raises:
        BagError: if it is empty or of no kind known here; and as its storage.
    """
    if not path.is_file():
        raise BagError(f"{path.name} is missing, or no regular file")
    with path.open("rb") as file:
        start = file.read(len(SQLITE_MAGIC))
    if start.startswith(ZSTD_MAGIC):
        unpacked = Path(stack.enter_context(TemporaryDirectory(prefix="darkseg_"))) / path.stem
        decompress_file(path, unpacked)
        return open_storage(unpacked, stack)
    for magic, storage_of in _STORAGE_OF_MAGIC.items():
        if start.startswith(magic):
            storage = storage_of(path)
            stack.callback(storage.close)
            return storage
    raise BagError(f"{path.name} is empty" if not start else f"{path.name} begins with {start[:8]!r}, as no bag does")
