from __future__ import annotations

import dataclasses
import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from darkseg_ros.errors import EngineError
from darkseg_ros.model.backends.tensorrt.plan_cache import PLANS_KEPT, STALE_AFTER_S, PlanCache, PlanKey

KEY = PlanKey(
    onnx_sha256="ab" * 32,
    recipe=1,
    library="tensorrt",
    library_version="11.4.1",
    gpu="NVIDIA A",
    capabilities=("SM86",),
    network_hw=(384, 384),
    precision="fp16",
    batch=1,
)

CHANGES = {
    "onnx_sha256": "cd" * 32,
    "recipe": 2,
    "library": "tensorrt_rtx",
    "library_version": "11.4.2",
    "gpu": "NVIDIA B",
    "capabilities": ("SM89",),
    "network_hw": (384, 512),
    "precision": "fp32",
    "batch": 2,
}


class Builder:
    """Writes numbered plans and counts them."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, path: Path) -> None:
        self.count += 1
        path.write_bytes(f"plan {self.count}".encode() * 50)


@pytest.fixture
def cache(tmp_path: Path) -> PlanCache:
    return PlanCache(tmp_path / "plans")


@pytest.fixture
def build() -> Builder:
    return Builder()


def get(cache: PlanCache, key: PlanKey, build: Callable[[Path], None]) -> bytes:
    return cache.plan(key, build, progress=print).content


def test_a_plan_is_built_once(cache: PlanCache, build: Builder) -> None:
    first, second = (cache.plan(KEY, build, progress=print) for _ in range(2))
    assert first.content == second.content == b"plan 1" * 50
    assert (first.built_now, second.built_now) == (True, False)
    assert sorted(path.suffix for path in cache.folder.iterdir()) == [".json", ".lock", ".plan"]


def test_the_changes_cover_every_component_of_the_key() -> None:
    assert CHANGES.keys() == {field.name for field in dataclasses.fields(PlanKey)}


@pytest.mark.parametrize("component", CHANGES)
def test_each_component_changed_alone_forces_a_rebuild(cache: PlanCache, build: Builder, component: str) -> None:
    get(cache, KEY, build)
    changed = dataclasses.replace(KEY, **{component: CHANGES[component]})
    assert get(cache, changed, build) == b"plan 2" * 50
    assert get(cache, KEY, build) == b"plan 1" * 50
    assert set(cache.newest_keys()) == {KEY, changed}


@pytest.mark.parametrize("kept", [0, 1, 299])
def test_a_truncated_plan_is_built_again(cache: PlanCache, build: Builder, kept: int) -> None:
    content = get(cache, KEY, build)
    cache.plan_path(KEY).write_bytes(content[:kept])
    assert get(cache, KEY, build) == b"plan 2" * 50


def test_a_plan_with_one_bit_changed_is_built_again(cache: PlanCache, build: Builder) -> None:
    content = bytearray(get(cache, KEY, build))
    content[7] ^= 1
    cache.plan_path(KEY).write_bytes(content)
    assert get(cache, KEY, build) == b"plan 2" * 50


def test_a_plan_copied_over_that_of_another_gpu_is_built_again(cache: PlanCache, build: Builder) -> None:
    other = dataclasses.replace(KEY, gpu="NVIDIA B")
    get(cache, other, build)
    cache.plan_path(other).rename(cache.plan_path(KEY))
    cache.manifest_path(other).rename(cache.manifest_path(KEY))
    assert cache.newest_keys() == []
    assert get(cache, KEY, build) == b"plan 2" * 50


@pytest.mark.parametrize("manifest", ["", "[]", "{}", '{"key": null}', '{"key": {"gpu": 1}}', "\x00"])
def test_a_plan_without_a_readable_manifest_is_built_again(cache: PlanCache, build: Builder, manifest: str) -> None:
    get(cache, KEY, build)
    cache.manifest_path(KEY).write_text(manifest)
    assert get(cache, KEY, build) == b"plan 2" * 50


def test_a_plan_that_others_may_have_written_is_built_again(cache: PlanCache, build: Builder) -> None:
    get(cache, KEY, build)
    plan = cache.plan_path(KEY)
    assert stat.S_IMODE(plan.stat().st_mode) == 0o600
    plan.chmod(0o666)
    assert get(cache, KEY, build) == b"plan 2" * 50
    assert stat.S_IMODE(plan.stat().st_mode) == 0o600


def test_a_lock_planted_as_a_link_is_not_followed(cache: PlanCache, build: Builder, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.txt"
    foreign.write_bytes(b"keep me")
    cache.folder.mkdir()
    (cache.folder / "build.lock").symlink_to(foreign)
    with pytest.raises(EngineError, match="cannot be written"):
        get(cache, KEY, build)
    assert foreign.read_bytes() == b"keep me"


def test_a_manifest_records_the_hash_of_its_plan(cache: PlanCache, build: Builder) -> None:
    get(cache, KEY, build)
    entry = json.loads(cache.manifest_path(KEY).read_text())
    done = subprocess.run(["sha256sum", cache.plan_path(KEY)], capture_output=True, text=True, check=True)
    assert entry["sha256"] == done.stdout.split()[0]
    assert entry["size_bytes"] == 300


def test_a_failed_build_leaves_nothing_and_the_next_one_succeeds(cache: PlanCache, build: Builder) -> None:
    def fail(path: Path) -> None:
        path.write_bytes(b"half a pl")
        raise EngineError("the builder failed")

    with pytest.raises(EngineError, match="the builder failed"):
        get(cache, KEY, fail)
    assert [path.name for path in cache.folder.iterdir()] == ["build.lock"]
    assert get(cache, KEY, build) == b"plan 1" * 50


def test_two_processes_that_start_at_once_build_once(tmp_path: Path) -> None:
    program = f"""
import dataclasses, sys, time
from pathlib import Path
from darkseg_ros.model.backends.tensorrt.plan_cache import PlanCache, PlanKey
key = {KEY!r}
folder = Path(sys.argv[1])
def build(path):
    with (folder / "builds").open("a") as log:
        log.write("built\\n")
    time.sleep(1.5)
    path.write_bytes(b"plan" * 1000)
(folder / sys.argv[2]).touch()
while len(list(folder.glob("ready*"))) < 2:
    time.sleep(0.01)
plan = PlanCache(folder / "plans").plan(key, build, progress=print)
print(len(plan.content), plan.built_now)
"""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path), f"ready{number}"], stdout=subprocess.PIPE, text=True
        )
        for number in range(2)
    ]
    outputs = [process.communicate(timeout=120)[0].splitlines() for process in processes]
    assert sorted(lines[-1] for lines in outputs) == ["4000 False", "4000 True"]
    assert [len(lines) for lines in sorted(outputs, key=len)] == [1, 2]
    assert "another process is building a plan; waiting for it" in max(outputs, key=len)
    assert (tmp_path / "builds").read_text() == "built\n"


def test_the_preferred_plan_comes_first(cache: PlanCache, build: Builder) -> None:
    other = dataclasses.replace(KEY, precision="fp32")
    for age_s, key in ((100, KEY), (50, other)):
        get(cache, key, build)
        os.utime(cache.manifest_path(key), (time.time() - age_s,) * 2)
    assert cache.newest_keys() == [other, KEY]
    cache.prefer(KEY)
    assert cache.newest_keys() == [KEY, other]


def test_long_unused_plans_of_another_version_go_and_those_in_use_stay(cache: PlanCache, build: Builder) -> None:
    keys = [dataclasses.replace(KEY, library_version=version) for version in ("10.1", "10.2", "11.4.1")]
    used_days_ago = (40, 1, 40)
    for key, days in zip(keys, used_days_ago, strict=True):
        get(cache, key, build)
        os.utime(cache.plan_path(key), (time.time() - days * 24 * 3600,) * 2)
    assert STALE_AFTER_S == 30 * 24 * 3600
    newest = dataclasses.replace(KEY, batch=4)
    get(cache, newest, build)
    assert set(cache.newest_keys()) == {keys[1], keys[2], newest}
    assert not cache.plan_path(keys[0]).exists()


def test_the_least_recently_used_plans_go_when_there_are_too_many(cache: PlanCache, build: Builder) -> None:
    keys = [dataclasses.replace(KEY, batch=batch) for batch in range(1, PLANS_KEPT + 1)]
    for age, key in enumerate(keys):
        get(cache, key, build)
        os.utime(cache.plan_path(key), (time.time() - 1000 + age,) * 2)
    get(cache, keys[0], build)  # used again
    get(cache, dataclasses.replace(KEY, batch=64), build)
    left = {key.batch for key in cache.newest_keys()}
    assert left == {1, *range(3, PLANS_KEPT + 1), 64}


def test_a_folder_that_cannot_be_made_is_an_error_with_its_cure(tmp_path: Path, build: Builder) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EngineError, match=r"cannot be written .*make it writable, or set XDG_CACHE_HOME"):
        get(PlanCache(tmp_path / "file" / "plans"), KEY, build)
    assert build.count == 0


def test_a_read_only_folder_is_an_error_with_its_cure(tmp_path: Path, build: Builder) -> None:
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    read_only = Path("/sys") if os.geteuid() == 0 else tmp_path  # root writes to read-only folders, but not there
    with pytest.raises(EngineError, match=r"cannot be written .*make it writable, or set XDG_CACHE_HOME"):
        get(PlanCache(read_only / "plans"), KEY, build)


def test_a_plan_in_a_folder_that_cannot_be_written_is_still_run(
    cache: PlanCache, build: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    get(cache, KEY, build)

    def refuse(*_: object) -> None:
        raise PermissionError(30, "Read-only file system")

    monkeypatch.setattr(os, "utime", refuse)
    assert get(cache, KEY, build) == b"plan 1" * 50
