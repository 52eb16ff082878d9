from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from darkseg_ros.whole_files import UNFINISHED, whole_file, write_whole


def test_a_file_appears_whole_and_replaces_an_earlier_one(tmp_path: Path) -> None:
    path = tmp_path / "new" / "map.png"
    write_whole(path, b"old")
    with whole_file(path) as unfinished:
        unfinished.write_bytes(b"half")
        assert path.read_bytes() == b"old"
        assert unfinished.suffix == ".png"
        unfinished.write_bytes(b"whole")
    assert path.read_bytes() == b"whole"
    assert list(path.parent.iterdir()) == [path]


def test_after_an_error_the_earlier_file_stays_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "map.png"
    write_whole(path, b"old")
    with pytest.raises(TypeError), whole_file(path) as unfinished:
        unfinished.write_text(42)  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_unfinished_file_lies_where_no_other_user_can_plant_a_link(tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        names = []
        for _ in range(2):
            with whole_file(tmp_path / "map.png") as unfinished:
                unfinished.touch()
                names.append(unfinished.parent.name)
                folder = unfinished.parent.stat()
                assert stat.S_IMODE(folder.st_mode) == 0o700
                assert folder.st_uid == os.geteuid()
    finally:
        os.umask(umask)
    assert names[0] != names[1]
    assert all(name.startswith(UNFINISHED) for name in names)


def test_a_link_in_the_place_of_the_file_is_replaced_not_followed(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.txt"
    foreign.write_bytes(b"keep me")
    path = tmp_path / "map.png"
    path.symlink_to(foreign)
    write_whole(path, b"map")
    assert foreign.read_bytes() == b"keep me"
    assert not path.is_symlink()
    assert path.read_bytes() == b"map"


def test_a_name_as_long_as_the_file_system_allows_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / f"{'n' * 251}.png"
    write_whole(path, b"map")
    assert path.read_bytes() == b"map"
