from __future__ import annotations

import sys

import pytest

from darkseg_ros.errors import InputError
from darkseg_ros.fleet.drives import Drive
from darkseg_ros.fleet.runs import check_ray_option, ray_cluster, run_drives


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
