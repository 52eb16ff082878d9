"""Where this package keeps what it can make again (plans, settings), and for whom.

Plans are executed, so nobody but the user and root may have written them.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from darkseg_ros.errors import EngineError
from darkseg_ros.whole_files import whole_file

_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH


def cache_folder(name: str) -> Path:
    """``$XDG_CACHE_HOME/darkseg_ros/<name>``, by default under ``~/.cache``; it need not exist.

    Args:
        name: of what lies in it.

    Raises:
        EngineError: if XDG_CACHE_HOME names no absolute path and the user has no home folder.

    Source: XDG Base Directory Specification, 0.8.
    """
    root = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not root.is_absolute():  # relative paths are to be ignored, says the specification
        try:
            root = Path.home() / ".cache"
        except RuntimeError as error:
            raise EngineError(
                f"there is no home folder to keep {name} in (HOME is not set, and user {os.getuid()} has no entry in "
                "/etc/passwd); set XDG_CACHE_HOME to a folder that can be written"
            ) from error
    return root / "darkseg_ros" / name


def make_private_folder(folder: Path) -> None:
    """Make a folder and those above it that do not exist, for this user alone (0700), whatever the umask.

    Source: XDG Base Directory Specification, 0.8.
    """
    for missing in reversed([each for each in (folder, *folder.parents) if not each.exists()]):
        missing.mkdir(mode=0o700, exist_ok=True)  # another process may make it meanwhile


def write_private(path: Path, content: bytes) -> None:
    """Write a file at once, replacing an earlier one; only this user may read and write it (0600).

    Args:
        path: where the file is to be; missing folders are made by `make_private_folder`.
        content: all of the file.
    """
    make_private_folder(path.parent)
    with whole_file(path) as unfinished:
        unfinished.touch(mode=0o600)
        unfinished.write_bytes(content)


def read_private(path: Path) -> bytes:
    """Read a file that nobody but this user and root can have written.

    Raises:
        PermissionError: if another user owns it, or group or others may write to it.
        OSError: if it is a link or no regular file, or cannot be read.
    """
    # O_NONBLOCK: to open a FIFO waits for its writer otherwise
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        if facts.st_uid not in (0, os.geteuid()) or facts.st_mode & _OTHERS_MAY_WRITE:
            raise PermissionError(
                errno.EPERM,
                f"others than this user may have written it (owner {facts.st_uid}, mode {facts.st_mode & 0o7777:04o}); "
                "remove it, or make it yours alone (`chown`, `chmod go-w`)",
                str(path),
            )
        return file.read()
