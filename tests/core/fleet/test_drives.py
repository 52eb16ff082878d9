from __future__ import annotations

from pathlib import Path

import pytest

from darkseg_ros.errors import InputError
from darkseg_ros.fleet.drives import Drive, find_drives, means_several


def write_tree(root: Path) -> Path:
    """Two bags in folders, one of them deep, a loose file, a folder of images and a hidden leftover."""
    for name in ("a/metadata.yaml", "a/a_0.mcap", "deep/er/b/metadata.yaml", "deep/er/b/b_0.db3", "loose/c.mcap"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    (root / ".unfinished-1").mkdir()
    (root / ".unfinished-1" / "d.mcap").write_bytes(b"")
    (root / "images").mkdir()
    (root / "images" / "one.png").write_bytes(b"")
    return root


def test_a_folder_stands_for_the_bags_in_it_and_below(tmp_path: Path) -> None:
    write_tree(tmp_path)
    places = [Path(drive.place).relative_to(tmp_path).as_posix() for drive in find_drives([str(tmp_path)])]
    assert places == ["a", "deep/er/b", "loose/c.mcap"]


def test_globs_and_names_may_overlap_and_each_drive_counts_once(tmp_path: Path) -> None:
    write_tree(tmp_path)
    found = find_drives([f"{tmp_path}/*", str(tmp_path / "a"), f"{tmp_path}/**/*.mcap"])
    names = [Path(drive.place).relative_to(tmp_path).as_posix() for drive in found]
    assert names == ["a", "a/a_0.mcap", "deep/er/b", "images", "loose/c.mcap"]


def test_a_folder_without_bags_stands_for_itself(tmp_path: Path) -> None:
    write_tree(tmp_path)
    assert find_drives([str(tmp_path / "images")]) == [Drive(str(tmp_path / "images"))]


def test_what_leads_to_nothing_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\*\.mcap leads to no drive"):
        find_drives([f"{tmp_path}/none*.mcap"])


def test_object_storage_is_searched_like_folders() -> None:
    fsspec = pytest.importorskip("fsspec")
    storage = fsspec.filesystem("memory")
    for name in ("/night/a/metadata.yaml", "/night/a/a_0.mcap", "/night/b.mcap"):
        storage.pipe_file(name, b"x")
    expected = ["memory:///night/a", "memory:///night/b.mcap"]
    assert [drive.place for drive in find_drives(["memory://night"])] == expected
    assert [drive.place for drive in find_drives(["memory://night/*"])] == expected
    storage.rm("/night", recursive=True)


def test_drives_of_one_name_have_keys_of_their_own() -> None:
    first, second = Drive("/one/night.mcap"), Drive("/two/night.mcap")
    assert first.name == second.name == "night"
    assert first.key != second.key
    assert first.key.startswith("night-")


def test_one_bag_is_no_fleet(tmp_path: Path) -> None:
    write_tree(tmp_path)
    assert not means_several([str(tmp_path / "a")])
    assert not means_several([str(tmp_path / "loose")])  # one file: as `evaluate` took it before
    assert not means_several([str(tmp_path / "missing")])
    assert means_several([str(tmp_path)])
    assert means_several([str(tmp_path / "a"), str(tmp_path / "loose")])
    assert means_several([f"{tmp_path}/*"])
    assert means_several(["s3://bucket/drive"])
