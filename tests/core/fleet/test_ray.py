"""On a real Ray cluster of two nodes: started once, as that takes seconds."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from darkseg_ros.commands.cli import main
from darkseg_ros.errors import InputError
from darkseg_ros.fleet.drives import Drive
from darkseg_ros.fleet.runs import ray_cluster, run_drives
from tests.bundles import write_tiny_bundle
from tests.core.evaluation.fleet.drives import HW, write_drive

pytestmark = [
    pytest.mark.soak,  # `make scale` runs it: Ray's nodes take from 10 s on a quiet machine to minutes on a busy one
    # of Ray's own modules and the sockets and pipes that it leaves to the end of the process
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.filterwarnings("default::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[3]))
        environment.setenv("RAY_DISABLE_IMPORT_WARNING", "1")
        from tests.ray_nodes import two_nodes

        with two_nodes() as nodes:
            yield nodes


@dataclass(frozen=True)
class MarkedWork:
    """Leaves a mark for each try in a folder, and does what the drive's name says."""

    folder: Path

    def __call__(self, drive: Drive) -> str:
        tries = len(list(self.folder.glob(f"{drive.name}.*")))
        (self.folder / f"{drive.name}.{tries}.{os.getpid()}").touch()
        if drive.name.startswith("bad"):
            raise InputError("it is cut off")
        if drive.name.startswith("once") and not tries:
            os._exit(1)
        if drive.name.startswith("slow"):
            time.sleep(1.0)
        return drive.name.upper()


def test_the_drives_of_a_fleet_have_the_same_bytes_on_a_cluster(
    tmp_path: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes, _ = cluster
    monkeypatch.setenv("RAY_ADDRESS", nodes.address)  # what `auto` finds
    bundle = write_tiny_bundle(tmp_path / "bundle", HW)
    for index in range(6):
        write_drive(tmp_path / "drives" / f"drive_{index}", wrong_share=index / 8, hours=index)
    options = ["--bundle", str(bundle), "--backend", "fake"]
    runs = {"one": [], "address": ["--ray", nodes.address], "auto": ["--ray", "auto"]}
    for out, ray in runs.items():
        assert main(["evaluate", str(tmp_path / "drives"), "--out", str(tmp_path / out), *options, *ray]) == 0
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file())
    assert len(files) == 6 + 4
    for file in files:
        if file.name != "report.html":  # it bears the time
            contents = {(tmp_path / run / file).read_bytes() for run in runs}
            assert len(contents) == 1, file


@pytest.mark.parametrize("verb", ["segment", "bag to-images"])
def test_verbs_that_write_files_write_the_same_on_a_cluster(verb: str, tmp_path: Path, cluster: Any) -> None:
    nodes, _ = cluster
    bundle = write_tiny_bundle(tmp_path / "bundle", HW)
    for index in range(3):
        write_drive(tmp_path / "drives" / f"drive_{index}", wrong_share=index / 8)
    model = ["--bundle", str(bundle), "--backend", "fake"] if verb == "segment" else []
    for out, ray in (("one", []), ("ray", ["--ray", nodes.address])):
        assert main([*verb.split(), str(tmp_path / "drives"), "--out", str(tmp_path / out), *model, *ray]) == 0
    files = [path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.*") if path.is_file()]
    assert len(files) == 3 * 3 + 3 + 1
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "ray" / file).read_bytes(), file


def test_what_a_dead_worker_or_node_had_is_done_again_and_nothing_counts_twice(tmp_path: Path, cluster: Any) -> None:
    nodes, second = cluster
    drives = [Drive(f"/drives/{name}") for name in ("once", "bad", *(f"slow{index}" for index in range(6)), "last")]
    outcomes = []
    with ray_cluster(nodes.address):
        for outcome in run_drives(MarkedWork(tmp_path), drives, on_ray=True):
            outcomes.append(outcome)
            if outcome.drive.name == "slow1":
                nodes.remove_node(second, allow_graceful=False)
    assert sorted(outcome.drive.name for outcome in outcomes) == sorted(drive.name for drive in drives)
    failed = {outcome.drive.name: outcome.error for outcome in outcomes if outcome.error}
    assert failed == {"bad": "it is cut off"}
    assert all(outcome.result == outcome.drive.name.upper() for outcome in outcomes if outcome.drive.name != "bad")
    assert len(list(tmp_path.glob("once.*"))) == 2
