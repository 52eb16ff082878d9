from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from darkseg_ros.errors import InputError
from training.data.listing import file_digest, files_digest, pairs_digest
from training.data.pairs import find_source


def test_moved_files_are_the_same_and_other_ones_are_not(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for name in ("1.png", "2.png"):
        (tmp_path / "a" / name).write_bytes(name.encode())
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    before = files_digest(sorted((tmp_path / "a").iterdir()))
    assert files_digest(sorted((tmp_path / "b").iterdir())) == before
    (tmp_path / "b" / "2.png").write_bytes(b"longer than before")
    assert files_digest(sorted((tmp_path / "b").iterdir())) != before


def test_another_meaning_of_label_values_is_other_data(generated_data: Path) -> None:
    folder = str(generated_data / "source")
    assert pairs_digest(find_source(folder)) == pairs_digest(find_source(folder))
    assert pairs_digest(find_source(folder)) != pairs_digest(find_source({"folder": folder, "ignore": ["car"]}))


def test_a_missing_image_is_named_and_missing_weights_are_left_to_their_reader(tmp_path: Path) -> None:
    assert file_digest(None) == file_digest(str(tmp_path / "weights.pth")) == ""
    with pytest.raises(InputError, match=r"1\.png cannot be read"):
        files_digest([tmp_path / "1.png"])
