from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from darkseg_ros.cache_folder import cache_folder, read_private, write_private
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


@pytest.fixture
def no_umask() -> Iterator[None]:
    umask = os.umask(0)
    yield
    os.umask(umask)


@pytest.mark.usefixtures("no_umask")
def test_what_is_kept_belongs_to_the_user_alone_whatever_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "cache" / "darkseg_ros" / "plans" / "a.plan"
    write_private(path, b"code")
    assert read_private(path) == b"code"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for folder in (path.parent, path.parent.parent, path.parent.parent.parent):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_what_others_may_write_is_not_read(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "a.plan"
    write_private(path, b"code")
    path.chmod(mode)
    with pytest.raises(PermissionError, match=rf"others .* may have written it .* mode {mode:04o}\); remove it"):
        read_private(path)


def test_what_another_user_owns_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.plan"
    write_private(path, b"code")
    if os.geteuid() == 0:
        os.chown(path, 4711, -1)
        owner = 4711
    else:  # only root can give files away: let this process be another user
        owner = os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(PermissionError, match=rf"owner {owner}, mode 0600"):
        read_private(path)


def test_links_folders_and_pipes_are_not_read(tmp_path: Path) -> None:
    target = tmp_path / "target"
    write_private(target, b"code")
    (tmp_path / "link").symlink_to(target)
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name in ("link", "pipe", ".", "missing"):
        with pytest.raises(OSError, match=r"\S"):
            read_private(tmp_path / name)
