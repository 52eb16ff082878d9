from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from training.ladder_data import main


def described(folder: Path, out: Path) -> dict[str, object]:
    main([str(folder), "--out", str(out)])
    content = json.loads(out.read_text(encoding="utf-8"))
    assert isinstance(content, dict)
    return content


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for folder in ("image", "label"):
        (tmp_path / "data" / folder).mkdir(parents=True)
        (tmp_path / "data" / folder / "1.png").write_bytes(folder.encode())
    return tmp_path / "data"


def test_a_data_set_is_the_same_wherever_it_lies(data: Path, tmp_path: Path) -> None:
    shutil.copytree(data, tmp_path / "elsewhere")
    first = described(data, tmp_path / "first.json")
    assert first["files"] == 2
    assert described(tmp_path / "elsewhere", tmp_path / "second.json") == first


def test_a_file_more_or_of_another_size_is_another_data_set(data: Path, tmp_path: Path) -> None:
    first = described(data, tmp_path / "out.json")
    (data / "label" / "1.png").write_bytes(b"longer")
    second = described(data, tmp_path / "out.json")
    (data / "label" / "2.png").write_bytes(b"")
    assert first != second != described(data, tmp_path / "out.json")


def test_an_empty_folder_is_refused_with_the_cure(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"there is no file in .*; set DARKSEG_DATA"):
        main([str(tmp_path), "--out", str(tmp_path / "out.json")])
    assert not (tmp_path / "out.json").exists()
