"""Long runs of segmentation_node: shortened here, whole under `make soak`, which writes their rows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.ros.conftest import ROOT
from tests.ros.reliability import Row, RowOfFault

A_DAY_AND_MORE = 2_880_000
AN_HOUR = 3600 * 30
TEN_MINUTES = 600 * 30
SHIPPED_MODEL_FRAMES = 50_000
GROWTH_MB = 5.0

pytestmark = [
    pytest.mark.usefixtures("ros_domain"),
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc: Linux only"),
]


def soak(*options: str, seconds: float, module: str = "soak", **environment: str) -> dict[str, Any]:
    answer = subprocess.run(
        [sys.executable, "-m", f"tests.ros.{module}", *options],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    result: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    return result


def check_growth(grown: dict[str, float]) -> str:
    """Nothing grows after the warm-up; what was measured, in words."""
    assert grown["mb"] < GROWTH_MB
    assert grown["descriptors"] <= 0
    assert grown["threads"] <= 0
    return f"memory grew by {grown['mb']:.1f} MB, descriptors by {grown['descriptors']}, threads by {grown['threads']}"


def check_soak(frames: int, *options: str, fault: str = "soak", seconds: float) -> Row:
    result = soak("--frames", str(frames), *options, seconds=seconds)
    assert result["frames_in"] == result["frames_out"] == frames
    grown = check_growth(result["grown"])
    return Row(
        fault,
        frames_in=frames,
        frames_out=result["frames_out"],
        observed=f"{frames / 30 / 3600:.1f} hours at 30 Hz in {result['seconds']:.0f} s; {grown}",
    )


def check_faults(frames: int, *, seed: int, seconds: float) -> Row:
    """Each frame became what it had to become, whatever faults held."""
    result = soak("--frames", str(frames), "--seed", str(seed), seconds=seconds, module="random_faults")
    assert result["found"] == result["expected"]
    assert sum(result["found"].values()) == result["frames_in"] == frames - result["lost_on_the_link"]
    assert result["in_progress"] == 0
    assert result["rebases"][0] == result["rebases"][1]
    written, refused = result["reports"]
    assert written > 0
    assert bool(refused) == ("disk_full" in result["faults"])
    grown = check_growth(result["grown"])
    faults = ", ".join(f"{count} × {kind.replace('_', ' ')}" for kind, count in sorted(result["faults"].items()))
    return Row(
        "random_faults",
        frames_in=result["frames_in"],
        frames_out=result["found"]["served"],
        dropped={reason: count for reason, count in result["found"].items() if reason != "served"},
        observed=f"{frames / 30 / 60:.0f} minutes at 30 Hz in {result['seconds']:.0f} s, seed {seed}: {faults}; every "
        f"frame as expected, {result['lost_on_the_link']} lost before the node, {result['rebases'][0]} jumps back, "
        f"{refused} reports refused by the disk and none half written; {grown}",
    )


def check_overload(frames: int, *, seconds: float) -> Row:
    """A tenth of the times: 300 Hz into an engine of 50 Hz stands for 30 Hz into one of 5 Hz."""
    result = soak(
        *("--frames", str(frames), "--period-ms", str(100 / 30)),
        seconds=seconds,
        DARKSEG_FAKE_ENGINE_DELAY_MS="20",
    )
    assert result["frames_in"] == frames
    assert result["frames_in"] == result["frames_out"] + sum(result["dropped"].values()) + result["in_progress"]
    assert set(result["dropped"]) == {"replaced_by_newer"}
    assert result["dropped"]["replaced_by_newer"] > frames / 2
    assert result["in_progress"] <= 2
    # newest first: one engine's time and one frame's; from a queue the last frames would be seconds old
    assert result["latency_p99_ms"] < 500
    grown = check_growth(result["grown"])
    return Row(
        "overload",
        frames_in=frames,
        frames_out=result["frames_out"],
        dropped=result["dropped"],
        observed=f"{frames / 30 / 60:.1f} minutes at 30 Hz into 5 Hz, ten times as fast; "
        f"p99 from arrival to class map {result['latency_p99_ms']:.0f} ms "
        f"with 20 ms in the engine; {grown}",
    )


def test_the_first_minutes_of_a_soak_leave_no_memory_behind() -> None:
    check_soak(6000, seconds=120)


def test_the_shipped_model_leaves_no_memory_behind() -> None:
    check_soak(800, "--shipped-model", fault="soak_shipped_model", seconds=240)


def test_half_a_minute_of_overload_serves_the_newest_frame_in_constant_memory() -> None:
    check_overload(1800, seconds=120)


def test_a_minute_of_random_faults_accounts_for_every_frame() -> None:
    check_faults(1800, seed=3, seconds=240)


@pytest.mark.soak
@pytest.mark.timeout(4 * 3600)
def test_2_880_000_frames_leave_no_memory_descriptor_or_thread_behind() -> None:
    row = RowOfFault("soak")
    row.write(check_soak(A_DAY_AND_MORE, seconds=4 * 3600))


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_an_hour_of_random_faults_accounts_for_every_frame() -> None:
    row = RowOfFault("random_faults")
    row.write(check_faults(AN_HOUR, seed=20261128, seconds=3600))


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_50_000_frames_of_the_shipped_model_leave_no_memory_behind() -> None:
    row = RowOfFault("soak_shipped_model")
    row.write(check_soak(SHIPPED_MODEL_FRAMES, "--shipped-model", fault="soak_shipped_model", seconds=3600))


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_ten_minutes_of_overload_serve_the_newest_frame_in_constant_memory() -> None:
    row = RowOfFault("overload")
    row.write(check_overload(TEN_MINUTES, seconds=900))
