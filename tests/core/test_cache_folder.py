from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from darkseg_ros.cache_folder import cache_folder
from darkseg_ros.errors import EngineError


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without HOME and without an entry in /etc/passwd, as ``docker run --user 4711`` makes one."""

    def no_entry(uid: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", no_entry)
    monkeypatch.setattr(os, "getuid", lambda: 4711)


def test_caches_lie_where_the_xdg_specification_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/a")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert cache_folder("plans") == Path("/cache/darkseg_ros/plans")
    for ignored in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", ignored)
        assert cache_folder("plans") == Path("/home/a/.cache/darkseg_ros/plans")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder("cpu_settings") == Path("/home/a/.cache/darkseg_ros/cpu_settings")


@pytest.mark.usefixtures("nobody")
def test_a_user_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    with pytest.raises(EngineError, match=r"no home folder to keep plans in .* user 4711 .*; set XDG_CACHE_HOME to a"):
        cache_folder("plans")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert cache_folder("plans") == Path("/cache/darkseg_ros/plans")
