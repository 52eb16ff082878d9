from __future__ import annotations

import dataclasses
import errno
import json
import time
from pathlib import Path

import pytest

from darkseg_ros.model.backends import cpu_settings
from darkseg_ros.model.backends.cpu_settings import (
    SettingsKey,
    keep_threads,
    kept_threads,
    physical_cores,
    rival_threads,
    time_ratio,
)

KEY = SettingsKey(graph_sha256="ab" * 32, library_version="2026.4.1", cpu="A CPU", cpus=(0, 1, 2, 5))

CHANGES = {
    "graph_sha256": "cd" * 32,
    "library_version": "2026.4.2",
    "cpu": "Another CPU",
    "cpus": (0, 1, 2, 6),
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "darkseg_ros" / "cpu_settings"


@pytest.mark.parametrize("threads", [0, 1, 4])
def test_a_choice_is_kept_in_one_file(folder: Path, threads: int) -> None:
    assert kept_threads(KEY) is None
    keep_threads(KEY, 2)
    keep_threads(KEY, threads)
    assert kept_threads(KEY) == threads
    assert [path.suffix for path in folder.iterdir()] == [".json"]


def test_the_changes_cover_every_component_of_the_key() -> None:
    assert CHANGES.keys() == {field.name for field in dataclasses.fields(SettingsKey)}


@pytest.mark.parametrize("component", CHANGES)
def test_each_component_changed_alone_is_another_choice(component: str) -> None:
    keep_threads(KEY, 2)
    other = dataclasses.replace(KEY, **{component: CHANGES[component]})
    assert kept_threads(other) is None
    keep_threads(other, 3)
    assert (kept_threads(KEY), kept_threads(other)) == (2, 3)


def test_a_file_cut_anywhere_is_no_choice() -> None:
    keep_threads(KEY, 2)
    content = KEY.path.read_bytes()
    for length in range(0, len(content), 5):
        KEY.path.write_bytes(content[:length])
        assert kept_threads(KEY) is None, content[:length]


@pytest.mark.parametrize("content", [b"null", b"[]", b"7", b"\xff\xfe", b"[" * 100_000, b'{"threads": 2}'])
def test_a_file_of_another_kind_is_no_choice(content: bytes) -> None:
    keep_threads(KEY, 2)
    KEY.path.write_bytes(content)
    assert kept_threads(KEY) is None


@pytest.mark.parametrize("threads", [-1, 5, 10**9, 2.0, True, "2", None, [2]])
def test_a_number_that_is_none_of_threads_is_no_choice(threads: object) -> None:
    """KEY has four CPUs."""
    keep_threads(KEY, 2)
    values = json.loads(KEY.path.read_text())
    KEY.path.write_text(json.dumps({**values, "threads": threads}))
    assert kept_threads(KEY) is None


def test_the_file_of_another_key_is_no_choice() -> None:
    other = dataclasses.replace(KEY, cpu="Another CPU")
    keep_threads(other, 2)
    other.path.rename(KEY.path)
    assert kept_threads(KEY) is None


def test_a_folder_that_cannot_be_made_is_done_without(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder.parent.mkdir()
    folder.write_text("a file where the folder should be")
    keep_threads(KEY, 2)
    assert kept_threads(KEY) is None
    (record,) = caplog.records
    assert "measured again at each start" in record.message
    assert f"{folder} cannot be written" in record.message


def test_a_full_disk_is_done_without(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cpu_settings, "write_private", refuse)
    keep_threads(KEY, 2)
    assert "cannot be written (No space left on device)" in caplog.text


@pytest.mark.parametrize(
    ("librarys", "cpus", "cores", "expected"),
    [
        (1, 1, 1, ()),
        (2, 2, 2, ()),  # two plain cores: one thread alone could not win
        (1, 2, 1, (2,)),  # a core with two hardware threads
        (4, 8, 4, (8, 2)),
        (6, 16, 10, (16, 10, 5)),  # the library took the six performance cores of a hybrid CPU
        (8, 8, 8, (4,)),
        (3, 3, 3, ()),
    ],
)
def test_rivals_by_hand(librarys: int, cpus: int, cores: int, expected: tuple[int, ...]) -> None:
    assert rival_threads(librarys, cpus=cpus, cores=cores) == expected


def test_hardware_threads_of_one_core_are_one_core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_settings, "_SYSTEM", tmp_path)
    for cpu, siblings in ((0, "0,4"), (1, "1,5"), (4, "0,4"), (5, "1,5"), (6, "6")):
        topology = tmp_path / f"cpu{cpu}" / "topology"
        topology.mkdir(parents=True)
        (topology / "thread_siblings_list").write_text(f"{siblings}\n")
    assert physical_cores([0, 1, 4, 5, 6]) == 3
    assert physical_cores([0, 4]) == 1
    assert physical_cores([0, 1]) == 2


def test_where_the_system_tells_no_cores_each_cpu_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_settings, "_SYSTEM", tmp_path)
    assert physical_cores([0, 1, 2]) == 3


def test_the_ratio_is_of_the_medians_and_the_two_take_turns() -> None:
    calls: list[str] = []

    def run(name: str, duration_s: float) -> None:
        calls.append(name)
        # one outlier, which a median forgets
        time.sleep(0.1 if len(calls) == 3 else duration_s)

    ratio = time_ratio(lambda: run("rival", 0.002), lambda: run("reference", 0.012))
    assert ratio < 0.5  # 1/6 on an idle machine
    assert calls == ["rival", "reference"] * (len(calls) // 2)


def test_measuring_slow_and_fast_graphs_ends_soon() -> None:
    started = time.perf_counter()
    time_ratio(lambda: None, lambda: None)
    assert time.perf_counter() - started < 0.2
    calls = []
    time_ratio(lambda: time.sleep(0.1), lambda: calls.append(0))
    assert len(calls) == 1 + 3
