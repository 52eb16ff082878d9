from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from darkseg_ros.benchmark import interleaved
from darkseg_ros.benchmark.contestants import Contestant, own_engine, own_segmenter
from darkseg_ros.benchmark.figures import ContestantFigures
from darkseg_ros.benchmark.interleaved import measure
from darkseg_ros.errors import BenchmarkError
from tests.bundles import write_tiny_bundle
from tests.core.benchmark import runs
from tests.core.benchmark.runs import contestant

ROOT = Path(__file__).resolve().parents[3]
FRAMES = np.zeros((4, 32, 64, 3), np.uint8)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle"))


def measured(
    *contestants: Contestant,
    frames: np.ndarray = FRAMES,
    rounds: int = 1,
    turn_s: float = 0.01,
    reference: str | None = None,
) -> tuple[ContestantFigures, ...]:
    return measure(contestants, frames, rounds=rounds, turn_s=turn_s, reference=reference, progress=lambda line: None)


def test_one_that_takes_twice_as_long_has_a_ratio_of_two(bundle: Path) -> None:
    once, twice = measured(
        contestant("once", runs.open_delayed_engine, bundle, 40),
        contestant("twice", runs.open_delayed_engine, bundle, 80),
        rounds=3,
        turn_s=0.15,
        reference="once",
    )
    assert once.ratio is not None
    assert once.ratio.low == once.ratio.median == once.ratio.high == 1
    assert twice.ratio is not None
    assert twice.ratio.low <= twice.ratio.median <= twice.ratio.high
    assert 1.6 < twice.ratio.median < 2.4
    assert twice.latency_ms.p50 >= 80
    assert twice.round_p50_ms[0] <= twice.latency_ms.p50 <= twice.round_p50_ms[1]
    assert twice.fps == pytest.approx(1000 / twice.latency_ms.p50)
    assert twice.cpu_s_per_frame < 0.04, "sleeping is no work"


def test_both_ways_through_a_bundle_can_be_measured(bundle: Path) -> None:
    engine, segmenter = measured(own_engine(bundle, "fake"), own_segmenter(bundle, "fake"))
    assert (engine.name, engine.kind) == ("tiny fake", "engine")
    assert (segmenter.name, segmenter.kind) == ("tiny fake", "segmenter")
    assert engine.description == segmenter.description == "fake"
    assert engine.frames > 1
    assert engine.load_s > 0
    assert engine.ratio is None


def test_the_engine_gets_the_networks_size_and_the_segmenter_answers_at_the_cameras(bundle: Path) -> None:
    bgr = np.full((30, 50, 3), 5, np.uint8)
    engine, segmenter = own_engine(bundle, "fake").open(), own_segmenter(bundle, "fake").open()
    assert engine.prepare(bgr).shape == (1, 64, 128, 3)
    assert engine.call(engine.prepare(bgr)).shape == (64, 128)
    assert (segmenter.call(segmenter.prepare(bgr)) == np.full((30, 50), 5)).all()


def test_memory_is_that_of_the_contestant_alone() -> None:
    frames = np.ones((100, 512, 1024, 3), np.uint8)  # 157 MB
    small, large = measured(
        contestant("small", runs.open_instant), contestant("large", runs.open_holding, 200), frames=frames
    )
    assert small.peak_memory_mb < 120
    assert 190 < large.peak_memory_mb - small.peak_memory_mb < 260


def test_work_of_other_threads_counts_as_cpu_time() -> None:
    (threaded,) = measured(contestant("threaded", runs.open_threaded, 0.03))
    assert threaded.cpu_s_per_frame >= 0.03


def test_work_before_the_call_counts_as_neither_latency_nor_cpu_time() -> None:
    (prepared,) = measured(contestant("prepared", runs.open_preparing, 0.03))
    assert prepared.latency_ms.p50 < 10
    assert prepared.cpu_s_per_frame < 0.01


def test_a_limit_of_threads_that_only_some_libraries_heed_is_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("KEPT", "1")
    limit, other = measured(
        contestant("limit", runs.open_describing, "OMP_NUM_THREADS"), contestant("other", runs.open_describing, "KEPT")
    )
    assert (limit.description, other.description) == ("not set", "1")


def test_turns_rotate_start_at_one_frame_and_leave_out_their_first(tmp_path: Path) -> None:
    frames = np.zeros((4, 2, 2, 3), np.uint8)
    frames[:, 0, 0, 0] = range(4)
    log = tmp_path / "log"
    first, second = measured(
        *(contestant(name, runs.open_logging, name, log) for name in "ab"),
        frames=frames,
        rounds=3,
        turn_s=1e-9,  # one frame that counts
    )
    # rounds start at frames 0·4//3, 1·4//3, 2·4//3
    assert log.read_text() == "a0 a1 b0 b1 " + "b1 b2 a1 a2 " + "a2 a3 b2 b3 "
    assert (first.frames, second.frames) == (3, 3)
    assert (first.description, second.description) == ("described a", "described b")


@pytest.mark.parametrize(
    ("open_run", "message"),
    [
        (runs.open_missing, r"broken \(segmenter\) failed during opening: ImportError: no module named torchvision"),
        (runs.open_raising_on_call, r"broken \(segmenter\) failed during its turn: RuntimeError: a tensor"),
        (runs.open_answering_logits, r"broken .*expected a class map, \(H, W\) uint8, got float32 \(1, 19, 2, 2\)"),
        (runs.open_killed_on_call, r"process of broken \(segmenter\) died during its turn by SIGKILL; .*memory"),
        (runs.open_exiting, r"process of broken \(segmenter\) died during opening by exit status 7"),
    ],
)
def test_a_contestant_that_fails_is_named(open_run: object, message: str) -> None:
    with pytest.raises(BenchmarkError, match=message):
        measured(contestant("broken", open_run))


def test_a_contestant_that_hangs_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(interleaved, "_TURN_TIMEOUT_S", 0.2)
    with pytest.raises(BenchmarkError, match=r"stuck \(segmenter\) did not end its turn within"):
        measured(contestant("stuck", runs.open_hanging, tmp_path / "pids"))
    assert gone(int((tmp_path / "pids").read_text()), within_s=0)


def test_what_a_library_prints_does_not_reach_stdout(capfd: pytest.CaptureFixture[str]) -> None:
    measured(contestant("loud", runs.open_printing))
    assert capfd.readouterr() == ("", "library says hello\n")


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL])
def test_the_processes_end_with_their_parent(tmp_path: Path, ending: signal.Signals) -> None:
    pids = tmp_path / "pids"
    program = (
        "from pathlib import Path\n"
        "from tests.core.benchmark.test_interleaved import measured, contestant, runs\n"
        f"opened = contestant('idle', runs.open_instant), contestant('stuck', runs.open_hanging, Path({str(pids)!r}))\n"
        "measured(*opened)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        deadline = time.monotonic() + 60
        while not (pids.is_file() and pids.read_text().endswith("\n")):
            assert time.monotonic() < deadline
            assert parent.poll() is None
            time.sleep(0.02)
        children = children_of(parent.pid)
        assert len(children) == 2
        os.killpg(parent.pid, ending)  # as the terminal does on Ctrl-C
        _, complaints = parent.communicate(timeout=30)
        assert complaints.count("Traceback") == (ending == signal.SIGINT), complaints
        assert all(gone(child, within_s=10) for child in children)
    finally:
        parent.kill()
        parent.wait()


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def gone(pid: int, *, within_s: float) -> bool:
    """Whether the process has ended, also if nobody has waited for it yet."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.02)


def test_arguments_that_make_no_benchmark_are_refused() -> None:
    one = contestant("one", runs.open_instant)
    with pytest.raises(ValueError, match="different names or kinds, got none"):
        measured()
    with pytest.raises(ValueError, match=r"different names or kinds, got one \(segmenter\), one \(segmenter\)"):
        measured(one, one)
    with pytest.raises(ValueError, match="one contestant named 'two' as reference"):
        measured(one, reference="two")
    with pytest.raises(ValueError, match="one contestant named 'one' as reference"):
        measured(one, Contestant("one", "engine", runs.open_instant), reference="one")
    with pytest.raises(ValueError, match=r"got uint8 \(0, 2, 2, 3\)"):
        measured(one, frames=np.zeros((0, 2, 2, 3), np.uint8))
    with pytest.raises(ValueError, match="one round or more"):
        measured(one, rounds=0)
