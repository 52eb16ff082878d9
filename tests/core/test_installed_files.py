from __future__ import annotations

from pathlib import Path

import pytest

from darkseg_ros import installed_files
from darkseg_ros.installed_files import bundle_folder, default_bundle


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "share/engines"
    for name in ("darkseg_slim", "darkseg_other"):
        (folder / name).mkdir(parents=True)
        (folder / name / "model.json").write_text("{}")
    monkeypatch.setattr(installed_files, "share_directory", lambda: tmp_path / "share")
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.mark.parametrize("nothing", [None, ""])
def test_without_a_bundle_the_default_is_taken(shipped: Path, nothing: str | None) -> None:
    assert bundle_folder(nothing) == default_bundle() == shipped / "darkseg_slim"


def test_a_shipped_bundle_goes_by_its_name(shipped: Path) -> None:
    assert bundle_folder("darkseg_other") == bundle_folder(Path("darkseg_other")) == shipped / "darkseg_other"


def test_a_folder_goes_before_a_shipped_bundle_of_its_name(shipped: Path) -> None:
    Path("darkseg_other").mkdir()
    assert bundle_folder("darkseg_other") == Path("darkseg_other")
    assert bundle_folder("./elsewhere/darkseg_other") == Path("elsewhere/darkseg_other")


def test_an_unknown_name_stays_what_the_user_wrote_for_the_message(shipped: Path) -> None:
    assert bundle_folder("my_model") == Path("my_model")
