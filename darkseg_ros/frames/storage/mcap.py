"""MCAP files, indexed or not, with channels of any encoding beside those of ROS 2.

Source: MCAP file format specification (mcap.dev/spec), version 0.
"""

from __future__ import annotations

import heapq
import io
import struct
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO
from zlib import crc32

from darkseg_ros.errors import BagError
from darkseg_ros.frames.storage.channel import (
    Channel,
    StoredMessage,
    check_block,
    full_type_name,
    qos_of,
)
from darkseg_ros.frames.storage.compression import decompress_block

MCAP_MAGIC = b"\x89MCAP0\r\n"

_HEADER, _FOOTER, _SCHEMA, _CHANNEL, _MESSAGE, _CHUNK = 0x01, 0x02, 0x03, 0x04, 0x05, 0x06
_CHUNK_INDEX, _STATISTICS, _DATA_END = 0x08, 0x0B, 0x0F
_CHUNK_START_BYTES = 8 + 8 + 8 + 4
"""Of a chunk's first and last stamp, size and checksum."""

_RECORD = struct.Struct("<BQ")  # kind and length
_MESSAGE_START = struct.Struct("<HIQQ")  # channel, sequence, log time, publish time
_FOOTER_BYTES = _RECORD.size + 20

_ROS_SCHEMAS = ("ros2msg", "ros2idl", "omgidl", "")
_ROS_PROFILES = ("ros2", "")

_WAITING_MAX_BYTES = 2**30
"""Of messages of chunks that overlap in time, which are held until they are sorted."""


@dataclass(frozen=True)
class _Chunk:
    """Where a chunk begins, when its first message was recorded, and what channels it holds; None if not known."""

    position: int
    start_ns: int
    channels: frozenset[int] | None


class _Fields:
    """Reads the fields of a record, and nothing beyond its end."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._position = 0

    def __bool__(self) -> bool:
        return self._position < len(self._content)

    def take(self, size: int) -> bytes:
        end = self._position + size
        if end > len(self._content):
            raise BagError(f"a record lacks {end - len(self._content)} bytes")
        taken = self._content[self._position : end]
        self._position = end
        return taken

    def rest(self) -> bytes:
        return self._content[self._position :]

    def number(self, form: str) -> int:
        value: int = struct.unpack(f"<{form}", self.take(struct.calcsize(f"<{form}")))[0]
        return value

    def text(self) -> str:
        return self.take(self.number("I")).decode()

    def group(self) -> _Fields:
        return _Fields(self.take(self.number("I")))


class McapStorage:
    """An open MCAP file; see `Storage`.

    Args:
        path: the file.

    A file without an end, as a killed recorder leaves it, is read as far as it is whole; then `messages` raises.

    Raises:
        BagError: if it is damaged, holds no whole message, or is of another profile than ros2.
    """

    def __init__(self, path: Path) -> None:
        self.foreign: dict[str, str] = {}
        self._schemas: dict[int, tuple[str, str]] = {0: ("", "")}  # name and encoding
        self._described: dict[int, Channel | None] = {}  # None: foreign
        self._counts: Counter[int] = Counter()
        self._chunks: list[_Chunk] = []
        self._loose: list[tuple[int, int]] = []  # log stamp and position of messages outside of chunks
        self._span_ns: tuple[int, int] | None = None
        self._lacks = ""
        self._scanned_to = 0
        self._file: BinaryIO = path.open("rb")
        try:
            self._open()
        except BaseException:
            self._file.close()
            raise
        self.channels = [
            replace(channel, count=self._counts[channel.key]) for channel in self._described.values() if channel
        ]

    def span_ns(self) -> tuple[int, int] | None:
        """See `Storage`."""
        return self._span_ns

    def close(self) -> None:
        """See `Storage`."""
        self._file.close()

    def messages(self, channels: Collection[int]) -> Iterator[StoredMessage]:
        """See `Storage`."""
        wanted = frozenset(channels)
        blocks: list[tuple[int, int, bool]] = [
            (chunk.start_ns, chunk.position, True)
            for chunk in self._chunks
            if chunk.channels is None or chunk.channels & wanted
        ]
        blocks += [(log_stamp_ns, position, False) for log_stamp_ns, position in self._loose]
        waiting: list[tuple[int, int, StoredMessage]] = []
        waiting_bytes = number = 0
        for start_ns, position, is_chunk in sorted(blocks):
            while waiting and waiting[0][0] <= start_ns:
                message = heapq.heappop(waiting)[2]
                waiting_bytes -= len(message.data)
                yield message
            for message in self._messages_of_chunk(position) if is_chunk else [self._loose_message(position)]:
                if message.channel in wanted:
                    heapq.heappush(waiting, (message.log_stamp_ns, number, message))
                    waiting_bytes += len(message.data)
                    number += 1
            if waiting_bytes > _WAITING_MAX_BYTES:
                raise BagError(f"chunks with {waiting_bytes} bytes overlap in time; sort it with `mcap sort`")
        while waiting:
            yield heapq.heappop(waiting)[2]
        if self._lacks:
            raise BagError(self._lacks)

    def _open(self) -> None:
        self._size = self._file.seek(0, io.SEEK_END)
        self._file.seek(0)
        if self._file.read(len(MCAP_MAGIC)) != MCAP_MAGIC:
            raise BagError("it does not begin as MCAP files do")
        kind, fields, data_start = self._record(len(MCAP_MAGIC))
        if kind != _HEADER:
            raise BagError("its header is missing")
        profile = fields.text()
        if profile not in _ROS_PROFILES:
            raise BagError(f"it holds messages of profile {profile!r}, expected ros2; convert it first")
        self._end = self._size - len(MCAP_MAGIC) - _FOOTER_BYTES
        self._file.seek(max(0, self._size - len(MCAP_MAGIC)))
        if self._file.read() != MCAP_MAGIC or self._end < data_start:
            self._scan_until_cut(data_start)
            return
        kind, fields, _ = self._record(self._end)
        if kind != _FOOTER:
            raise BagError("its footer is damaged")
        summary = fields.number("Q")
        if summary and not data_start <= summary <= self._end:
            raise BagError("its footer points outside of the file")
        if not (summary and self._read_summary(summary)):
            self._scan(data_start)

    def _read_summary(self, position: int) -> bool:
        """Read the index. False if it does not say all that is needed; then nothing of its numbers is kept."""
        chunks_expected = messages_expected = -1
        span_ns = (0, 0)
        while position < self._end:
            kind, fields, position = self._record(position)
            if kind in (_SCHEMA, _CHANNEL):
                self._describe(kind, fields)
            elif kind == _CHUNK_INDEX:
                start_ns, _, chunk_position, _ = (fields.number("Q") for _ in range(4))
                offsets = fields.group()
                keys = set()
                while offsets:
                    keys.add(offsets.number("H"))
                    offsets.take(8)
                self._chunks.append(_Chunk(chunk_position, start_ns, frozenset(keys) or None))
            elif kind == _STATISTICS:
                messages_expected = fields.number("Q")
                fields.take(2 + 4 + 4 + 4)  # numbers of schemas, channels, attachments and metadata records
                chunks_expected = fields.number("I")
                span_ns = fields.number("Q"), fields.number("Q")
                counts = fields.group()
                while counts:
                    key = counts.number("H")
                    self._counts[key] = counts.number("Q")
        if (
            len(self._chunks) == chunks_expected
            and (chunks_expected > 0 or messages_expected == 0)
            and set(self._counts) <= set(self._described)
        ):
            self._span_ns = span_ns if messages_expected else None
            return True
        self._chunks.clear()
        self._counts.clear()
        return False

    def _scan(self, position: int) -> None:
        """Read the whole file once: what is where."""
        while position < self._end:
            here = self._scanned_to = position
            kind, fields, position = self._record(here, whole=False)
            if kind in (_SCHEMA, _CHANNEL):
                self._describe(kind, self._record(here)[1])
            elif kind == _MESSAGE:
                key, _, log_stamp_ns, _ = _MESSAGE_START.unpack(fields.take(_MESSAGE_START.size))
                self._count(key, log_stamp_ns)
                self._loose.append((log_stamp_ns, here))
            elif kind == _CHUNK:
                stamps = []
                for message in self._messages_of_chunk(here):
                    self._count(message.channel, message.log_stamp_ns)
                    stamps.append(message.log_stamp_ns)
                if stamps:
                    self._chunks.append(_Chunk(here, min(stamps), None))
            elif kind == _DATA_END:
                return

    def _scan_until_cut(self, position: int) -> None:
        """Find what is whole in a file whose recorder was killed; reading it ends with the word that there was more."""
        self._end = self._size
        with suppress(BagError):
            self._scan(position)
        with suppress(BagError):
            self._scan_cut_chunk(self._scanned_to)
        if not self._counts:
            raise BagError("its end is missing")
        self._lacks = f"its end is missing behind {sum(self._counts.values())} whole messages"

    def _scan_cut_chunk(self, position: int) -> None:
        """The records of a chunk without an end; where it is not compressed, they lie there as outside of chunks."""
        self._file.seek(position)
        fields = _Fields(self._file.read(_RECORD.size + _CHUNK_START_BYTES + 4))
        kind, _ = _RECORD.unpack(fields.take(_RECORD.size))
        fields.take(_CHUNK_START_BYTES)
        if kind == _CHUNK and not fields.text():
            self._scan(position + _RECORD.size + _CHUNK_START_BYTES + 4 + 8)  # behind its compression and its length

    def _describe(self, kind: int, fields: _Fields) -> None:
        key = fields.number("H")
        if kind == _SCHEMA:
            self._schemas[key] = fields.text(), fields.text()
            return
        name, schema_encoding = self._schemas.get(fields.number("H"), ("", ""))
        topic, encoding = fields.text(), fields.text()
        metadata, qos = fields.group(), ""
        while metadata:
            name_of_value, value = metadata.text(), metadata.text()
            if name_of_value == "offered_qos_profiles":
                qos = value
        if encoding != "cdr" or schema_encoding not in _ROS_SCHEMAS:
            self.foreign[topic] = schema_encoding or encoding
            self._described[key] = None
        else:
            self._described[key] = Channel(key, topic, full_type_name(name), 0, qos_of(qos))

    def _count(self, key: int, log_stamp_ns: int) -> None:
        self._counts[key] += 1
        start_ns, end_ns = self._span_ns or (log_stamp_ns, log_stamp_ns)
        self._span_ns = min(start_ns, log_stamp_ns), max(end_ns, log_stamp_ns)

    def _record(self, position: int, *, whole: bool = True) -> tuple[int, _Fields, int]:
        """Kind and fields of the record at a position, and the position behind it.

        Args:
            position: within the file.
            whole: read all of it; else as much as tells what it is.
        """
        self._file.seek(position)
        start = self._file.read(_RECORD.size)
        if len(start) < _RECORD.size:
            raise BagError("a record is cut off")
        kind, length = _RECORD.unpack(start)
        end = position + _RECORD.size + length
        if end > self._size:
            raise BagError(f"a record announces {length} bytes at {position} of {self._size}")
        if whole:
            check_block(length, "a record")
        return kind, _Fields(self._file.read(length if whole else min(length, _MESSAGE_START.size))), end

    def _loose_message(self, position: int) -> StoredMessage:
        _, fields, _ = self._record(position)
        return _message(fields)

    def _messages_of_chunk(self, position: int) -> Iterator[StoredMessage]:
        kind, fields, _ = self._record(position)
        if kind != _CHUNK:
            raise BagError("its index names a chunk where there is none")
        fields.take(16)  # recording times of the first and last message
        size, checksum = fields.number("Q"), fields.number("I")
        compression, compressed = fields.text(), fields.take(fields.number("Q"))
        check_block(size, "a chunk")
        content = decompress_block(compressed, compression, limit=size)
        if len(content) != size or (checksum and crc32(content) != checksum):
            raise BagError("a chunk does not have the size and checksum that it states")
        here = 0
        while here < len(content):
            if here + _RECORD.size > len(content):
                raise BagError("a record in a chunk is cut off")
            kind, length = _RECORD.unpack_from(content, here)
            end = here + _RECORD.size + length
            if end > len(content):
                raise BagError("a record reaches beyond its chunk")
            if kind in (_SCHEMA, _CHANNEL, _MESSAGE):
                fields = _Fields(content[here + _RECORD.size : end])
                if kind == _MESSAGE:
                    yield _message(fields)
                else:
                    self._describe(kind, fields)
            here = end


def _message(fields: _Fields) -> StoredMessage:
    key, _, log_stamp_ns, _ = _MESSAGE_START.unpack(fields.take(_MESSAGE_START.size))
    return StoredMessage(key, log_stamp_ns, fields.rest())
