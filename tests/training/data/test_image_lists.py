from __future__ import annotations

from pathlib import Path

import pytest

from darkseg_ros.errors import InputError
from training.data.image_lists import read_image_list, write_image_list


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """a.png, b.png, sub/c.png and 'night é.png', empty."""
    folder = tmp_path / "images"
    (folder / "sub").mkdir(parents=True)
    for name in ("a.png", "b.png", "sub/c.png", "night é.png"):
        (folder / name).touch()
    return folder


def test_a_list_is_one_name_a_line_in_sorted_order(tmp_path: Path) -> None:
    write_image_list(tmp_path / "made" / "list.txt", ["b.png", "a.png"])
    assert (tmp_path / "made" / "list.txt").read_text() == "a.png\nb.png\n"
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["list.txt"]


def test_what_was_written_is_read_back_sorted_as_paths_in_the_folder(tmp_path: Path, folder: Path) -> None:
    write_image_list(tmp_path / "list.txt", ["sub/c.png", "night é.png", "a.png"])
    assert read_image_list(tmp_path / "list.txt", folder) == [
        folder / "a.png",
        folder / "night é.png",
        folder / "sub" / "c.png",
    ]


def test_a_list_edited_by_hand_on_another_system_is_read(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"b.png\r\n\r\n a.png \r\n")
    assert read_image_list(tmp_path / "list.txt", folder) == [folder / "a.png", folder / "b.png"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b"a.png\nmissing.png\n", r"line 2: .* has no file missing\.png"),
        (b"a.png\nb.png\na.png\n", r"line 3: a\.png stands on line 1 already"),
        (b"sub\n", "line 1: .* has no file sub"),
        (b"\xff\xfe\n", "cannot be read"),
    ],
)
def test_a_list_that_does_not_fit_the_folder_is_refused_by_line(
    tmp_path: Path, folder: Path, content: bytes, message: str
) -> None:
    (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_image_list(tmp_path / "list.txt", folder)


def test_a_missing_list_is_named(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(InputError, match=r"none\.txt cannot be read"):
        read_image_list(tmp_path / "none.txt", folder)


@pytest.mark.parametrize(
    ("names", "message"),
    [([], "no image is left"), (["a.png", "b.png", "a.png"], "a.png would stand twice"), (["a\n.png"], "rename")],
)
def test_a_list_that_could_not_be_read_back_is_not_written(tmp_path: Path, names: list[str], message: str) -> None:
    (tmp_path / "list.txt").write_text("earlier.png\n")
    with pytest.raises(InputError, match=message):
        write_image_list(tmp_path / "list.txt", names)
    assert (tmp_path / "list.txt").read_text() == "earlier.png\n"


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"list\.txt cannot be written"):
        write_image_list(tmp_path / "file" / "list.txt", ["a.png"])
