from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from darkseg_ros.commands.cli import main
from darkseg_ros.errors import InputError
from darkseg_ros.fleet.drives import Drive
from darkseg_ros.fleet.runs import check_ray_option, ray_cluster, run_drives
from tests.bundles import write_tiny_bundle
from tests.core.evaluation.fleet.drives import HW, write_drive


def work(drive: Drive) -> str:
    if drive.name == "bad":
        raise InputError("it is cut off")
    if drive.name == "fault":
        raise ZeroDivisionError("by zero")
    return drive.name.upper()


def test_a_drive_that_fails_is_told_and_the_others_go_on() -> None:
    drives = [Drive(f"/drives/{name}") for name in ("a", "bad", "fault", "b")]
    told = [(outcome.result, outcome.error) for outcome in run_drives(work, drives)]
    assert told == [("A", None), (None, "it is cut off"), (None, "ZeroDivisionError: by zero"), ("B", None)]


@pytest.mark.parametrize("text", ["auto", "local[1]", "local[16]", "10.0.0.1:6379", "ray://head:10001"])
def test_clusters_are_named(text: str) -> None:
    assert check_ray_option(text) == text


@pytest.mark.parametrize("text", ["", "local", "local[0]", "local[two]"])
def test_other_names_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected auto"):
        check_ray_option(text)


def test_without_ray_the_requirements_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"requirements/cluster\.txt"), ray_cluster("auto"):
        pass


def test_a_head_that_does_not_listen_is_told_at_once() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
    with pytest.raises(InputError, match=rf"no Ray cluster at {address}: .* does not answer"), ray_cluster(address):
        pass


@pytest.mark.filterwarnings("ignore")  # of Ray's own modules and the pipes that it leaves to the end of the process
def test_workers_of_this_machine_write_the_bytes_of_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "192.0.2.1:1")  # another cluster that `local` must not join
    bundle = write_tiny_bundle(tmp_path / "bundle", HW)
    for index in range(4):
        write_drive(tmp_path / "drives" / f"drive_{index}", wrong_share=index / 8, hours=index)
    command = ["evaluate", str(tmp_path / "drives"), "--bundle", str(bundle), "--backend", "fake"]
    assert main([*command, "--out", str(tmp_path / "one")]) == 0
    assert main([*command, "--out", str(tmp_path / "two"), "--ray", "local[2]"]) == 0
    files = [path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.*") if path.is_file()]
    assert len(files) == 4 + 4
    for file in files:
        if file.name != "report.html":  # it bears the time
            assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes(), file
