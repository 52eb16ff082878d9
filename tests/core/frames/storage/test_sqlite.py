from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from darkseg_ros.errors import BagError
from darkseg_ros.frames.bags import BagReader
from darkseg_ros.frames.source import open_frames
from tests.core.frames.storage.mcap_files import image_cdr

TOPICS = "CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT, type TEXT, serialization_format TEXT)"
MESSAGES = "CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER, timestamp INTEGER, data BLOB)"
ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i AS id"


def write_database(path: Path, *statements: str, rows: int = 0) -> sqlite3.Connection:
    """Tables as the first rosbag2 made them, without QoS."""
    database = sqlite3.connect(path)
    for statement in statements or (TOPICS, MESSAGES):
        database.execute(statement)
    if not statements:
        database.execute("INSERT INTO topics VALUES (1, '/camera', 'sensor_msgs/msg/Image', 'cdr')")
    for index in range(rows):
        database.execute("INSERT INTO messages VALUES (?, 1, ?, ?)", (index, 1000 + index, image_cdr(10 * index)))
    database.commit()
    return database


def levels_of(path: Path) -> list[int]:
    return [int(frame.bgr[0, 0, 0]) for frame in open_frames(path)]


def test_the_oldest_tables_read(tmp_path: Path) -> None:
    write_database(tmp_path / "a.db3", rows=3).close()
    assert levels_of(tmp_path / "a.db3") == [0, 10, 20]


def test_a_name_of_any_characters_reads(tmp_path: Path) -> None:
    name = "12:30 50%?mode=rw#ä.db3"
    write_database(tmp_path / name, rows=1).close()
    assert levels_of(tmp_path / name) == [0]


def test_a_killed_recording_gives_what_lies_beside_it_and_stays_as_it_was(tmp_path: Path) -> None:
    database = write_database(tmp_path / "running.db3", rows=2)
    database.execute("PRAGMA journal_mode = WAL")
    for index in (2, 3):
        database.execute("INSERT INTO messages VALUES (?, 1, ?, ?)", (index, 1000 + index, image_cdr(10 * index)))
    database.commit()
    folder = tmp_path / "killed"
    folder.mkdir()
    for end in ("", "-wal"):
        shutil.copyfile(f"{tmp_path}/running.db3{end}", folder / f"rec_0.db3{end}")
    database.close()
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert before["rec_0.db3-wal"]
    assert levels_of(folder / "rec_0.db3") == [0, 10, 20, 30]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    "statements",
    [
        (TOPICS, f"CREATE VIEW messages AS {ENDLESS}, 1 AS topic_id, i AS timestamp, x'00' AS data FROM n"),
        (MESSAGES, f"CREATE VIEW topics AS {ENDLESS}, 'a' AS name, 'b' AS type, 'cdr' AS serialization_format FROM n"),
        (
            TOPICS,
            "CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER, timestamp INTEGER, "
            "data BLOB GENERATED ALWAYS AS (zeroblob(900000000)) VIRTUAL)",
        ),
        (TOPICS, "CREATE VIRTUAL TABLE messages USING fts5(topic_id, timestamp, data)"),
        (TOPICS,),
        (TOPICS, "CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER)"),
    ],
    ids=["view of messages", "view of topics", "generated column", "virtual table", "no messages", "no data"],
)
def test_what_computes_in_the_place_of_a_table_is_refused(tmp_path: Path, statements: tuple[str, ...]) -> None:
    write_database(tmp_path / "a.db3", *statements).close()
    with pytest.raises(BagError, match=r"no table|no plain column"), BagReader(tmp_path / "a.db3"):
        pass


@pytest.mark.parametrize(
    ("column", "value"),
    [
        *(("data", value) for value in ("2000000000", "'text'", "-1", "1.5", "NULL")),
        *(("timestamp", value) for value in ("'text'", "1.5", "NULL")),
    ],
)
def test_values_of_other_types_are_bag_errors(tmp_path: Path, column: str, value: str) -> None:
    database = write_database(tmp_path / "a.db3", rows=2)
    database.execute(f"UPDATE messages SET {column} = {value} WHERE id = 1")
    database.commit()
    database.close()

    def read() -> None:
        with BagReader(tmp_path / "a.db3") as reader:
            list(reader.messages())

    with pytest.raises(BagError, match="stored as"):
        read()


def test_ctrl_c_ends_a_long_query(tmp_path: Path) -> None:
    """Sorting a million rows takes seconds, and SQLite itself knows no signals."""
    database = write_database(tmp_path / "a.db3")
    database.execute(
        "INSERT INTO messages SELECT i, 1, (i * 7919) % 1000000, zeroblob(8) FROM "
        "(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 1000000) SELECT i FROM n)"
    )
    database.commit()
    database.close()
    script = (
        "import sys, signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from darkseg_ros.frames.storage.sqlite import SqliteStorage\n"
        "from pathlib import Path\n"
        "try:\n"
        "    print('ready', flush=True)\n"
        "    while True:\n"
        "        storage = SqliteStorage(Path(sys.argv[1]))\n"
        "        next(storage.messages([1]))\n"
        "        storage.close()\n"
        "except KeyboardInterrupt:\n"
        "    sys.exit(130)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "a.db3")], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        time.sleep(0.5)
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(timeout=60) == 130
