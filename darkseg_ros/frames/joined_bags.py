"""A drive and the bag beside it, such as a sidecar of predictions, read as one."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from darkseg_ros.errors import BagError
from darkseg_ros.frames.bags import BagMessage, BagReader


class JoinedBags(BagReader):
    """Context manager over a drive and a bag beside it, as `BagReader` over one bag.

    A topic that both hold is read from the bag beside: new predictions take the place of those that were recorded.

    Args:
        drive: a bag.
        beside: another, whose messages bear times of the same clock.

    Attributes:
        path: of the drive.
        topics: of both.
        duration_ns: of the longer one.

    Raises:
        BagError: as `BagReader`, of either.
    """

    def __init__(self, drive: Path | str, beside: Path | str) -> None:
        super().__init__(drive)
        self._readers = (BagReader(drive), BagReader(beside))
        self._opened = ExitStack()

    def __enter__(self) -> JoinedBags:
        with ExitStack() as stack:
            readers = [stack.enter_context(reader) for reader in self._readers]
            self._opened = stack.pop_all()
        self.topics = dict(sorted((name, topic) for reader in readers for name, topic in reader.topics.items()))
        self.duration_ns = max(reader.duration_ns for reader in readers)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._opened.close()

    def messages(self, topics: Collection[str] | None = None) -> Iterator[BagMessage]:
        """Messages of both bags in the order of their recording; those of one instant from the drive first.

        Args:
            topics: names of the topics to read, None for all.

        Raises:
            BagError: as `BagReader.messages`.
        """
        wanted = set(self.topics if topics is None else topics)
        if unknown := wanted - set(self.topics):
            raise BagError(f"{self.path} has no topic {', '.join(sorted(unknown))}; {self.contents()}")
        drive, beside = self._readers
        of_beside = wanted & set(beside.topics)
        streams = [reader.messages(names) for reader, names in ((drive, wanted - of_beside), (beside, of_beside))]
        yield from heapq.merge(*streams, key=lambda message: message.log_stamp_ns)

    def deserialize(self, message: BagMessage) -> Any:
        """As `BagReader.deserialize`."""
        return self._readers[message.topic in self._readers[1].topics].deserialize(message)


def open_drive(drive: Path, beside: Path | None) -> BagReader:
    """A reader of a drive, with the bag beside it where there is one."""
    return BagReader(drive) if beside is None else JoinedBags(drive, beside)
