from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from darkseg_ros.errors import InputError
from darkseg_ros.fleet.places import fetched, folder_for, names_in, place_in, read_bytes, write_bytes


@pytest.fixture(params=["disk", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "disk":
        yield str(tmp_path / "out")
        return
    fsspec = pytest.importorskip("fsspec")
    yield "memory://places/out"
    fsspec.filesystem("memory").store.clear()


def test_what_is_written_is_read_again_and_listed(folder: str) -> None:
    assert names_in(folder, ending=".txt") == set()
    assert read_bytes(place_in(folder, "one.txt")) is None
    write_bytes(place_in(folder, "one.txt"), b"1")
    write_bytes(place_in(folder, "one.txt"), b"2")
    write_bytes(place_in(folder, "other"), b"")
    assert read_bytes(place_in(folder, "one.txt")) == b"2"
    assert names_in(folder, ending=".txt") == {"one.txt"}


def test_a_folder_that_was_filled_is_there_after_the_block(folder: str) -> None:
    with folder_for(folder) as local:
        (local / "deep").mkdir(parents=True)
        (local / "deep" / "file").write_bytes(b"x")
    assert read_bytes(place_in(folder, "deep/file")) == b"x"


def test_files_and_folders_come_here_under_their_names(folder: str) -> None:
    write_bytes(place_in(folder, "bag/metadata.yaml"), b"m")
    write_bytes(place_in(folder, "bag/bag_0.mcap"), b"x")
    with fetched(place_in(folder, "bag")) as bag:
        assert bag.name == "bag"
        assert {path.name: path.read_bytes() for path in bag.iterdir()} == {"metadata.yaml": b"m", "bag_0.mcap": b"x"}
    with fetched(place_in(folder, "bag/bag_0.mcap")) as file:
        assert (file.name, file.read_bytes()) == ("bag_0.mcap", b"x")


@pytest.mark.parametrize("url", ["nosuchstorage://bucket/x", "memory://nothing/here"])
def test_what_a_storage_refuses_is_told_in_one_line(url: str) -> None:
    with pytest.raises(InputError, match=url), fetched(url):
        pass


def test_the_package_that_a_storage_lacks_is_named() -> None:
    with (
        pytest.raises(InputError, match=r"abfs://container/x needs another package: .*adlfs"),
        fetched("abfs://container/x"),
    ):
        pass
