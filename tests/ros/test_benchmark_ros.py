"""The benchmark through ROS: a real node with the fake engine, a camera in its own process, real DDS between them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from darkseg_ros.benchmark import ros_run
from darkseg_ros.benchmark.figures import RosFigures
from darkseg_ros.benchmark.ros_run import measure_ros
from darkseg_ros.errors import BenchmarkError, BundleError
from darkseg_ros.nodes.node_process import NodeError
from tests.bundles import write_tiny_bundle

pytest.importorskip("rclpy", reason="the benchmark plays through a ROS 2 node")

HW = (32, 64)
LOW_HZ = 10.0
DELAY_MS = 20.0


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle"), HW)


def pictures(count: int = 8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (count, *HW, 3)).astype(np.uint8)


def measure(
    bundle: Path, frames: np.ndarray, *, progress: Callable[[str], None] = print, **keywords: Any
) -> RosFigures:
    times = {"rates_hz": (LOW_HZ,), "seconds": 1.0, "search_seconds": 1.0}
    return measure_ros(bundle, "fake", frames, progress=progress, **(times | keywords))


def command_line_of(process_id: int) -> str:
    return Path(f"/proc/{process_id}/cmdline").read_text().replace("\0", " ")


def children() -> list[int]:
    return children_of(os.getpid())


def children_of(process_id: int) -> list[int]:
    found: list[int] = []
    for thread in Path(f"/proc/{process_id}/task").iterdir():
        found += map(int, (thread / "children").read_text().split())
    return found


def kill_child(word: str) -> None:
    """Kill the one child whose command line holds a word, once it has it: a child just started has none yet."""
    deadline_s = time.monotonic() + 10
    while not (found := [child for child in children() if word in command_line_of(child)]):
        assert time.monotonic() < deadline_s, f"no child with {word} in its command line"
        time.sleep(0.01)
    (child,) = found
    os.kill(child, signal.SIGKILL)


@dataclass(frozen=True)
class Measured:
    figures: RosFigures
    lines: list[str]


@pytest.fixture(scope="module")
def measured(bundle: Path) -> Measured:
    """Of an engine that serves 50 Hz at most; publishing alone takes more than the 0.05 ms of the last rate."""
    lines: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DARKSEG_FAKE_ENGINE_DELAY_MS", f"{DELAY_MS:g}")
        patch.setattr(ros_run, "_SEARCH_RUNS", 3)  # of eight, each of which waits for the node's next report
        figures = measure(
            bundle,
            pictures(),
            rates_hz=(LOW_HZ, 100.0, 20_000.0),
            seconds=1.0,
            search_seconds=1.0,
            progress=lines.append,
        )
    print("\n".join(lines))
    return Measured(figures, lines)


def test_a_low_rate_is_lossless_and_no_answer_is_faster_than_the_engine(measured: Measured) -> None:
    run = measured.figures.runs[0]
    assert (run.rate_hz, run.sent, run.answered, run.dropped_share) == (LOW_HZ, 10, 10, 0.0)
    assert DELAY_MS <= run.engine_ms_p50 <= run.latency_ms.p50 <= run.latency_ms.p95 <= run.latency_ms.p99
    assert run.overhead_ms.p50 == pytest.approx(run.latency_ms.p50 - run.engine_ms_p50)
    assert run.overhead_ms.p99 == pytest.approx(run.latency_ms.p99 - run.engine_ms_p50)
    assert 0 < run.node_cpu_s_per_frame < 1
    assert 0 < run.clients_cpu_s_per_frame < 1
    assert run.jitter_ms > 0


def test_frames_dropped_at_a_rate_that_is_too_high_are_counted(measured: Measured) -> None:
    run = measured.figures.runs[1]
    assert run.sent <= 100
    assert 1 <= run.answered <= 1.5 * 50  # 20 ms each
    assert run.dropped_share == pytest.approx(1 - run.answered / run.sent)
    assert run.dropped_share > 0.1


def test_the_highest_lossless_rate_is_below_what_the_engine_alone_can_do(measured: Measured) -> None:
    highest = measured.figures.highest
    assert highest is not None
    assert LOW_HZ <= highest.rate_hz < 50.0
    assert highest.dropped_share < 0.01


def test_the_node_tells_its_memory_and_how_long_it_took_to_start(measured: Measured) -> None:
    figures = measured.figures
    assert 20 < figures.node_peak_memory_mb < 1000
    assert figures.engine_load_s is not None
    assert 0 <= figures.engine_load_s < figures.node_load_s < 60


def test_a_node_that_computes_nothing_is_faster_than_one_that_waits_for_its_engine(measured: Measured) -> None:
    relay_ms = measured.figures.relay_latency_ms
    assert relay_ms is not None
    assert 0 < relay_ms.p50 < measured.figures.runs[0].latency_ms.p50 - DELAY_MS / 2
    assert any("a node that computes nothing answers at 30 Hz after" in line for line in measured.lines)
    ordinary_ms, cpu_s = measured.figures.ordinary_clients_latency_ms, measured.figures.relay_cpu_s_per_frame
    assert ordinary_ms is not None
    assert ordinary_ms.p50 > 0
    assert cpu_s is not None
    assert 0 < cpu_s < 1


def test_a_relay_that_dies_is_an_error(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ros_run, "_SEARCH_RUNS", 1)
    relayed = ros_run._relayed_ms

    def kill_it_first(*arguments: Any) -> list[float]:
        kill_child("benchmark_relay")
        return relayed(*arguments)

    monkeypatch.setattr(ros_run, "_relayed_ms", kill_it_first)
    with pytest.raises(NodeError, match="benchmark_relay ended with status -9"):
        measure(bundle, pictures())


def test_a_rate_that_the_camera_cannot_keep_is_told_by_the_rate_that_it_reached(measured: Measured) -> None:
    run = measured.figures.runs[2]
    assert run.sent < 20_000
    assert run.rate_hz == 20_000.0
    assert run.reached_hz == pytest.approx(run.sent)  # of one second
    assert not run.kept_up
    assert any(line.startswith("2e+04 Hz (reached") for line in measured.lines)


def test_a_node_that_dies_is_an_error(bundle: Path) -> None:
    def kill_the_node(line: str) -> None:
        if "active after" in line:
            kill_child("segmentation_node")

    before = set(children())
    with pytest.raises(NodeError, match=r"segmentation_node ended with status -9; its last words: .*ready after"):
        measure(bundle, pictures(), progress=kill_the_node)
    assert set(children()) <= before
    assert "ROS_DOMAIN_ID" not in os.environ or os.environ["ROS_DOMAIN_ID"] != str(1 + os.getpid() % 100)


def test_sigterm_ends_the_node_too(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "0.png"), pictures(1)[0])
    program = (
        "import sys; from darkseg_ros.commands import bench, cli; "
        "bench._TURN_S = 0.02; sys.exit(cli.main(sys.argv[1:]))"
    )
    options = [
        "--backend",
        "fake",
        "--rounds",
        "1",
        "--input",
        str(tmp_path / "images"),
        "--out",
        str(tmp_path / "out"),
    ]
    bench = subprocess.Popen(
        [sys.executable, "-c", program, "bench", "--bundle", str(bundle), *options],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert bench.stderr is not None
    while "active after" not in (line := bench.stderr.readline()):
        assert line, "the benchmark ended before the node was active"
    processes = children_of(bench.pid)
    assert any("segmentation_node" in command_line_of(process) for process in processes)
    bench.terminate()
    bench.communicate(timeout=30)
    assert bench.returncode == 143
    deadline_s = time.monotonic() + 10  # multiprocessing's own helper ends once it sees that its parent has
    while alive := [process for process in processes if Path(f"/proc/{process}").exists()]:
        assert time.monotonic() < deadline_s, [command_line_of(process) for process in alive]
        time.sleep(0.05)


def test_a_camera_process_that_dies_is_an_error(bundle: Path) -> None:
    def kill_the_camera(line: str) -> None:
        if "active after" in line:
            kill_child("spawn_main")

    with pytest.raises(BenchmarkError, match="the camera's process ended with status -9"):
        measure(bundle, pictures(), progress=kill_the_camera)


def test_no_class_map_at_all_is_an_error(bundle: Path) -> None:
    magenta = np.full((1, *HW, 3), (255, 0, 255), np.uint8)  # the fake engine fails on these
    with pytest.raises(BenchmarkError, match=r"no class map came back for 10 frames at 10 Hz; .*all-magenta"):
        measure(bundle, magenta)


def test_a_missing_bundle_is_told_before_anything_starts(tmp_path: Path) -> None:
    started_s = time.monotonic()
    with pytest.raises(BundleError, match=r"model\.json"):
        measure(tmp_path / "nothing", pictures())
    assert time.monotonic() - started_s < 5


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"frames": np.zeros((0, *HW, 3), np.uint8)}, "frames"),
        ({"frames": np.zeros((1, *HW), np.uint8)}, "frames"),
        ({"rates_hz": ()}, "above 0 Hz"),
        ({"rates_hz": (30.0, 0.0)}, "above 0 Hz"),
        ({"seconds": 0.0}, "more than 0 s"),
        ({"search_seconds": -1.0}, "more than 0 s"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(bundle: Path, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        measure(bundle, **({"frames": pictures()} | wrong))
