"""How many frames a newer one replaced before anybody took them, told by the gaps of their publishers' numbers."""

from __future__ import annotations

_PUBLISHERS_MAX = 16  # of one camera topic; more would mean that they come and go


class ReplacedFrames:
    """Counts what a middleware that keeps only the newest frame threw away. Not thread-safe.

    A gap is also what a link that loses frames leaves behind; the middleware tells of those itself.
    """

    def __init__(self) -> None:
        self._newest: dict[bytes, int] = {}
        self._lost = 0

    def note_lost(self, count: int) -> None:
        """So many frames never reached this machine; the next gap is smaller by them."""
        self._lost += count

    def count(self, publisher: bytes, number: int) -> int:
        """Take note of a frame.

        Args:
            publisher: tells it from others.
            number: that the publisher gave this frame, one more for each; 0 where the middleware tells none.

        Returns:
            How many frames of this publisher were replaced since its last one.
        """
        before = self._newest.pop(publisher, None)  # the newest publisher stands last
        self._newest[publisher] = number
        if len(self._newest) > _PUBLISHERS_MAX:
            del self._newest[next(iter(self._newest))]
        lost, self._lost = self._lost, 0
        if before is None or number <= before:  # a publisher that started anew, or no numbers
            return 0
        return max(0, number - before - 1 - lost)
