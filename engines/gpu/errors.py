"""What ends a step without failing it."""

from __future__ import annotations

from darkseg_ros.errors import DarksegError


class NotHereError(DarksegError):
    """A library or tool is not installed, or is not made for this GPU."""
