"""Where this package keeps what it can make again: plans, settings, compiled code."""

from __future__ import annotations

import os
from pathlib import Path

from darkseg_ros.errors import EngineError


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
