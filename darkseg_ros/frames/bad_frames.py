"""What becomes of frames that cannot be used: each is told with its place and counted, or it ends the run."""

from __future__ import annotations

import sys
from collections.abc import Callable

from tqdm import tqdm

from darkseg_ros.errors import InputError

_TOLD_MAX = 10


def _write_to_stderr(line: str) -> None:
    tqdm.write(f"darkseg: {line}", file=sys.stderr)  # a progress bar stays whole


class BadFrames:
    """Collects the frames of a run that were left out.

    Args:
        strict: raise InputError at the first.
        tell: gets a line for each of the first ten.

    Attributes:
        count: frames left out so far.
        lost_packets: video packets of inputs read so far that never came.
    """

    def __init__(self, *, strict: bool = False, tell: Callable[[str], None] = _write_to_stderr) -> None:
        self.count = 0
        self.lost_packets = 0
        self._strict = strict
        self._tell = tell

    def skip(self, reason: str) -> None:
        """Leave a frame out.

        Args:
            reason: a sentence that says which frame of which input, and why it cannot be used.

        Raises:
            InputError: if strict.
        """
        if self._strict:
            raise InputError(reason)
        self.count += 1
        if self.count <= _TOLD_MAX:
            self._tell(f"skipped: {reason}")
        if self.count == _TOLD_MAX:
            self._tell("further bad frames are counted, not named")

    def miss(self, reason: str) -> None:
        """Tell that an input lacks a part of which no frame is known.

        Args:
            reason: a sentence that says what is missing.

        Raises:
            InputError: if strict.
        """
        if self._strict:
            raise InputError(reason)
        self._tell(reason)

    def lose(self, packets: int, *, of: str) -> None:
        """Count video packets that an input lacks; the frames that stand on them are skipped one by one.

        Args:
            packets: how many, none included.
            of: which input.

        Raises:
            InputError: if strict and there are any.
        """
        if packets:
            self.miss(f"{counted(packets, 'video packet')} of {of} never reached the recorder")
        self.lost_packets += packets

    def summary(self) -> str:
        """How many frames were left out and packets lost, as the end of a line; empty if none was."""
        skipped = f", {counted(self.count, 'bad frame')} skipped" if self.count else ""
        return skipped + (f", {counted(self.lost_packets, 'video packet')} lost" if self.lost_packets else "")


def counted(number: int, what: str) -> str:
    """A number and what it counts, in the plural unless it is one."""
    return f"{number} {what}{'s' if number > 1 else ''}"
