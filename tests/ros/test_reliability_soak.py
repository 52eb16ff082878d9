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

TWO_HOURS = 2 * 3600 * 30
TEN_MINUTES = 600 * 30
SHIPPED_MODEL_FRAMES = 50_000
GROWTH_MB = 5.0

pytestmark = [
    pytest.mark.usefixtures("ros_domain"),
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc: Linux only"),
]


def soak(*options: str, seconds: float, **environment: str) -> dict[str, Any]:
    answer = subprocess.run(
        [sys.executable, "-m", "tests.ros.soak", *options],
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


def check_soak(frames: int, *options: str, fault: str = "soak", seconds: float) -> Row:
    result = soak("--frames", str(frames), *options, seconds=seconds)
    assert result["frames_in"] == result["frames_out"] == frames
    assert result["grown_mb"] < GROWTH_MB
    return Row(
        fault,
        frames_in=frames,
        frames_out=result["frames_out"],
        observed=f"{frames / 30 / 60:.0f} minutes at 30 Hz in {result['seconds']:.0f} s; "
        f"memory grew by {result['grown_mb']:.1f} MB",
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
    assert result["grown_mb"] < GROWTH_MB
    return Row(
        "overload",
        frames_in=frames,
        frames_out=result["frames_out"],
        dropped=result["dropped"],
        observed=f"{frames / 30 / 60:.1f} minutes at 30 Hz into 5 Hz, ten times as fast; "
        f"p99 from arrival to class map {result['latency_p99_ms']:.0f} ms "
        f"with 20 ms in the engine; memory grew by {result['grown_mb']:.1f} MB",
    )


def test_the_first_minutes_of_a_soak_leave_no_memory_behind() -> None:
    check_soak(6000, seconds=120)


def test_the_shipped_model_leaves_no_memory_behind() -> None:
    check_soak(800, "--shipped-model", fault="soak_shipped_model", seconds=240)


def test_half_a_minute_of_overload_serves_the_newest_frame_in_constant_memory() -> None:
    check_overload(1800, seconds=120)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_two_hours_of_frames_leave_no_memory_behind() -> None:
    row = RowOfFault("soak")
    row.write(check_soak(TWO_HOURS, seconds=3600))


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
