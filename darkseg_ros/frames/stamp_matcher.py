"""Pairs two streams by their stamps."""

from __future__ import annotations

from typing import Generic, TypeVar

_Left = TypeVar("_Left")
_Right = TypeVar("_Right")
_Item = TypeVar("_Item")


class StampMatcher(Generic[_Left, _Right]):
    """Finds the two items of one stamp, whichever came first. Keeps at most `capacity` of either kind.

    Args:
        capacity: ≥ 1; the oldest item by arrival makes room.
    """

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, got {capacity}")
        self._capacity = capacity
        self._left: dict[int, _Left] = {}
        self._right: dict[int, _Right] = {}

    def put_left(self, stamp_ns: int, item: _Left) -> tuple[_Left, _Right] | None:
        """Add an item of the first stream; the pair, if its other half was waiting."""
        other = self._right.get(stamp_ns)
        if other is None:
            self._keep(self._left, stamp_ns, item)
            return None
        self._forget_until(stamp_ns)
        return item, other

    def put_right(self, stamp_ns: int, item: _Right) -> tuple[_Left, _Right] | None:
        """Add an item of the second stream; the pair, if its other half was waiting."""
        other = self._left.get(stamp_ns)
        if other is None:
            self._keep(self._right, stamp_ns, item)
            return None
        self._forget_until(stamp_ns)
        return other, item

    def _keep(self, waiting: dict[int, _Item], stamp_ns: int, item: _Item) -> None:
        waiting.pop(stamp_ns, None)  # a repeated stamp moves to the end
        waiting[stamp_ns] = item
        if len(waiting) > self._capacity:
            del waiting[next(iter(waiting))]

    def _forget_until(self, stamp_ns: int) -> None:
        """Forget a matched stamp and what arrived before it: both streams are in order, no pair is lost."""
        for waiting in (self._left, self._right):
            if stamp_ns in waiting:
                while next(iter(waiting)) != stamp_ns:
                    del waiting[next(iter(waiting))]
                del waiting[stamp_ns]
