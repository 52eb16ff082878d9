"""rosbag2's SQLite files, read as tables of plain columns and nothing else."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import quote

from darkseg_ros.errors import BagError
from darkseg_ros.frames.storage.channel import Channel, StoredMessage, check_block, full_type_name, qos_of

SQLITE_MAGIC = b"SQLite format 3\0"

_COLUMNS = {"topics": ("id", "name", "type", "serialization_format"), "messages": ("topic_id", "timestamp", "data")}
_SIDE_FILES = ("-wal", "-journal")
_STEPS_BETWEEN_SIGNALS = 100_000


class SqliteStorage:
    """An open SQLite file; see `Storage`.

    Where a recorder was killed, the newest messages still lie in a side file (``-wal``). Both are copied, so that
    SQLite can put them together without a change to the recording.

    Args:
        path: the file.

    Raises:
        BagError: if it is cut off, damaged, or its tables are not those of rosbag2.
    """

    def __init__(self, path: Path) -> None:
        self.foreign: dict[str, str] = {}
        self._stack = ExitStack()
        with ExitStack() as on_error:
            on_error.callback(self._stack.close)
            side_files = [path.with_name(path.name + end) for end in _SIDE_FILES]
            if any(file.is_file() and file.stat().st_size for file in side_files):
                folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="darkseg_")))
                for file in (path, *side_files):
                    if file.is_file():
                        shutil.copyfile(file, folder / file.name)
                address = f"{_address(folder / path.name)}?mode=rw"
            else:
                _check_is_whole(path)
                address = f"{_address(path)}?mode=ro&immutable=1"
            self._database = sqlite3.connect(address, uri=True)
            self._stack.callback(self._database.close)
            # Python handles signals between steps of its own only: without these Ctrl-C would wait for a query's end
            self._database.set_progress_handler(lambda: 0, _STEPS_BETWEEN_SIGNALS)
            with _named_errors():
                self._database.execute("PRAGMA trusted_schema = OFF")
                self._check_tables()
                self.channels = self._read_channels()
            on_error.pop_all()

    def span_ns(self) -> tuple[int, int] | None:
        """See `Storage`."""
        with _named_errors():
            start_ns, end_ns = self._database.execute("SELECT MIN(timestamp), MAX(timestamp) FROM messages").fetchone()
        return None if start_ns is None else (_integer(start_ns), _integer(end_ns))

    def close(self) -> None:
        """See `Storage`."""
        self._stack.close()

    def messages(self, channels: Collection[int]) -> Iterator[StoredMessage]:
        """See `Storage`."""
        keys = ",".join("?" for _ in channels)
        query = f"SELECT topic_id, timestamp, data FROM messages WHERE topic_id IN ({keys}) ORDER BY timestamp"
        with _named_errors():
            for key, log_stamp_ns, data in self._database.execute(query, tuple(channels)):
                if not isinstance(data, bytes):
                    raise BagError(f"a message is stored as {type(data).__name__}, expected a BLOB")
                check_block(len(data), "a message")
                yield StoredMessage(key, _integer(log_stamp_ns), data)

    def _check_tables(self) -> None:
        """Views, virtual tables and generated columns compute what they like for as long as they like."""
        roots = dict(self._database.execute("SELECT name, rootpage FROM sqlite_master WHERE type = 'table'"))
        for table, columns in _COLUMNS.items():
            if not roots.get(table):
                raise BagError(f"it has no table {table} of its own; expected those of rosbag2")
            plain = self._plain_columns(table)
            for column in columns:
                if column not in plain:
                    raise BagError(f"its table {table} has no plain column {column}")

    def _plain_columns(self, table: str) -> set[str]:
        rows = self._database.execute(f"PRAGMA table_xinfo({table})")
        return {name for _, name, _, _, _, _, hidden in rows if not hidden}

    def _read_channels(self) -> list[Channel]:
        count_of_key = dict(self._database.execute("SELECT topic_id, count(*) FROM messages GROUP BY topic_id"))
        has_qos = "offered_qos_profiles" in self._plain_columns("topics")
        qos_column = "offered_qos_profiles" if has_qos else "''"  # older bags have none
        channels = []
        for row in self._database.execute(
            f"SELECT id, name, type, serialization_format, {qos_column} FROM topics ORDER BY id"
        ):
            key, topic, message_type, encoding, qos = row
            if not all(isinstance(text, str) for text in row[1:]):
                raise BagError("its topics are not described in words")
            if encoding == "cdr":
                channels.append(
                    Channel(_integer(key), topic, full_type_name(message_type), count_of_key.get(key, 0), qos_of(qos))
                )
            else:
                self.foreign[topic] = encoding
        return channels


def _address(path: Path) -> str:
    return f"file:{quote(str(path.resolve()))}"


def _integer(value: object) -> int:
    if not isinstance(value, int):
        raise BagError(f"a number is stored as {type(value).__name__}")
    return value


@contextmanager
def _named_errors() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        # the only interruption there is: what a signal raised within the progress handler, which SQLite swallows
        if str(error) == "interrupted":
            raise KeyboardInterrupt from error
        raise BagError(f"SQLite says: {error}") from error


def _check_is_whole(path: Path) -> None:
    """SQLite takes the missing end of its last page for zeros, which would be black rows in a frame.

    Source: Database File Format (sqlite.org/fileformat2.html), sections 1.3.2 and 1.3.8.
    """
    with path.open("rb") as file:
        header = file.read(32)
    page_size, pages = int.from_bytes(header[16:18], "big"), int.from_bytes(header[28:32], "big")
    if path.stat().st_size < pages * (65536 if page_size == 1 else page_size):
        raise BagError(f"{path.name} lacks the end of its {pages} pages")
