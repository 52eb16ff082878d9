"""Work on a sequence in several threads, whose results come in the sequence's order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

_READ_AHEAD = 2
"""Items for each thread that are worked on or waiting: one more than it works on, so that none idles."""

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@contextmanager
def in_order(
    work: Callable[[_Item], _Result], items: Iterable[_Item], *, threads: int
) -> Iterator[Iterator[tuple[_Item, _Result]]]:
    """Within the block, each item with what the work makes of it, in the items' order.

    Items are read in the caller's thread, at most twice as many ahead as there are threads: so many are in memory. An
    error of the work is raised in its item's place; an error in reading the items, once the results of those before it
    were given. After the block no work is under way.

    Args:
        work: called in several threads at once, unless `threads` is 1.
        items: read as the results are.
        threads: 1 or more; 1 works in the caller's thread.
    """
    if threads == 1:
        yield ((item, work(item)) for item in items)
        return
    pool = ThreadPoolExecutor(threads)
    try:
        yield _results(pool, work, iter(items), ahead=_READ_AHEAD * threads)
    finally:
        pool.shutdown(cancel_futures=True)


def _results(
    pool: ThreadPoolExecutor, work: Callable[[_Item], _Result], items: Iterator[_Item], *, ahead: int
) -> Iterator[tuple[_Item, _Result]]:
    waiting: deque[tuple[_Item, Future[_Result]]] = deque()
    end: Exception | None = None
    while True:
        while end is None and len(waiting) < ahead:
            try:
                item = next(items)
            except Exception as error:  # StopIteration, or what ends the reading before
                end = error
            else:
                waiting.append((item, pool.submit(work, item)))
        if not waiting:
            if isinstance(end, StopIteration) or end is None:
                return
            raise end
        item, future = waiting.popleft()
        yield item, future.result()
