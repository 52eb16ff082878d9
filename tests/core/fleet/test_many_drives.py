from __future__ import annotations

from pathlib import Path

import pytest

from darkseg_ros.commands.cli import main
from tests.bundles import write_tiny_bundle
from tests.core.evaluation.fleet.drives import HW, write_drive


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle"), HW)


@pytest.fixture
def drives(tmp_path: Path) -> Path:
    """Two drives and one that is cut off."""
    for index in range(2):
        write_drive(tmp_path / "drives" / f"drive_{index}")
    (tmp_path / "drives" / "broken.mcap").write_bytes(b"\x89MCAP0\r\n")
    return tmp_path / "drives"


def files_of(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))


@pytest.mark.parametrize("verb", ["segment", "bag to-images"])
def test_each_drive_has_a_folder_and_a_bad_one_is_told(
    verb: str, tmp_path: Path, drives: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = ["--bundle", str(bundle), "--backend", "fake"] if verb == "segment" else []
    command = [*verb.split(), str(drives), "--out", str(tmp_path / "out"), *model]
    assert main(command) == 1
    assert files_of(tmp_path / "out") == [
        f"drive_{drive}/drive_{drive}_00000{k}.png" for drive in (0, 1) for k in range(3)
    ]
    told = capsys.readouterr()
    assert "broken.mcap" in told.err
    assert told.out.endswith(f"of 2 drives in {tmp_path / 'out'}, 1 drive failed\n")
    (drives / "broken.mcap").unlink()
    assert main([*command, "--resume"]) == 0
    assert "2 of 2 drives are done already" in capsys.readouterr().out


def test_drives_of_one_name_are_not_written_over_each_other(
    tmp_path: Path, drives: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_drive(drives / "else" / "drive_1")
    (drives / "broken.mcap").unlink()
    assert (
        main(["segment", str(drives), "--out", str(tmp_path / "out"), "--bundle", str(bundle), "--backend", "fake"])
        == 1
    )
    assert "several drives are called drive_1" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("verb", "other", "named"),
    [("segment", ["--color"], "another outputs"), ("bag to-images", ["--every-s", "9"], "another choice")],
)
def test_results_of_other_settings_are_not_mixed(
    verb: str,
    other: list[str],
    named: str,
    tmp_path: Path,
    drives: Path,
    bundle: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (drives / "broken.mcap").unlink()
    model = ["--bundle", str(bundle), "--backend", "fake"] if verb == "segment" else []
    command = [*verb.split(), str(drives), "--out", str(tmp_path / "out"), *model]
    assert main(command) == 0
    assert main([*command, "--resume", *other]) == 1
    assert named in capsys.readouterr().err
