"""The segmentation node through ROS 2: what a camera's frames wait for, and how many a second it answers.

camera (a process) -> segmentation_node (a process) -> recorder (a thread here, where nothing else goes on)

Camera and recorder are lean: messages that were serialised before, and a thread that waits for class maps alone.
Afterwards a relay, which computes nothing, takes the node's place: what it takes is rclpy's and the middleware's. A
camera and a recorder as most nodes have them, before the same relay, tell what lean ones spare.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np

from darkseg_ros.benchmark.figures import Percentiles, RateFigures, RosFigures
from darkseg_ros.child_processes import spawned
from darkseg_ros.errors import BenchmarkError
from darkseg_ros.frames.bgr_check import check_bgr_batch
from darkseg_ros.model.bundle import load_bundle
from darkseg_ros.nodes.node_process import CLASS_MAP_TOPIC, NodeProcess, Recorder, own_domain, record_class_maps

DROPPED_SHARE_MAX = 0.01
"""A rate counts as lossless below this share of dropped frames."""

_TOPIC = "/camera/image_raw"
_WARM_UP_HZ, _WARM_UP_S = 10.0, 1.0
_FRAMES_MIN = 10  # of fewer, most would fit into the node's two places and be answered at any rate
_SEARCH_RUNS = 8
_SEARCH_ENDS_WITHIN = 0.02
_RATE_MAX_HZ = 500.0  # publishing takes a Python process 0.6 ms and more
_DISCOVERY_TIMEOUT_S = 30.0
_REPORT_TIMEOUT_S = 15.0
_QUIET_S = 0.5
_QUIET_FRAMES = 4.0
_RELAY_HZ = 30.0
_POLL_S = 0.05


def measure_ros(
    bundle: Path,
    backend: str,
    frames: np.ndarray,
    *,
    device: str = "auto",
    rates_hz: Sequence[float] = (10.0, 30.0, 60.0),
    seconds: float,
    search_seconds: float,
    progress: Callable[[str], None],
) -> RosFigures:
    """Start the node once, send it frames at each rate, then look for the highest rate at which it answers all.

    The search halves the range between the highest lossless rate and what the engine alone could do at its fastest. A
    rate fails when it is lossy twice: with depth 1, one stall of a shared machine is a dropped frame. A rate that the
    camera's process did not reach is never taken for lossless.

    Args:
        bundle: folder of the model bundle.
        backend: one of BACKENDS.
        frames: (N, H, W, 3) uint8 BGR camera frames, sent in turn; no two successive ones should be the same, as a
            frozen camera's are.
        device: one of DEVICES.
        rates_hz: > 0.
        seconds: of publishing at each; ten frames at least.
        search_seconds: of publishing in the search, all its runs together.
        progress: called with a line of text for each step.

    Raises:
        InputError: if ROS 2 does not import.
        BundleError: if the bundle cannot be used.
        NodeError: if the node does not start, ends early, or reports nothing any more.
        BenchmarkError: if no class map comes back, or the camera's process ends.
        ValueError: if an argument is none of these.
    """
    _check_arguments(frames, rates_hz=rates_hz, seconds=seconds, search_seconds=search_seconds)
    bundle = bundle.absolute()
    load_bundle(bundle)  # a bad one is told before anything is started
    with ExitStack() as stack:
        stack.enter_context(own_domain())
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="darkseg_ros_run_")))
        recorder_stays = stack.enter_context(ExitStack())
        recorder = recorder_stays.enter_context(record_class_maps(None, verb="bench"))
        camera = stack.enter_context(_running_camera(frames))
        progress("starting segmentation_node")
        node_stays = stack.enter_context(ExitStack())
        node = node_stays.enter_context(
            NodeProcess(
                "segmentation_node",
                parameters={"bundle": str(bundle), "backend": backend, "device": device},
                remappings={"image": _TOPIC},
                log=work / "segmentation_node.log",
            )
        )
        load_s = node.wait_until_active(lambda: recorder.diagnostics.get("state"))
        progress(f"{recorder.diagnostics['engine']}, active after {load_s:.1f} s")
        bench = _Bench(node, recorder, camera, progress)
        bench.run(_WARM_UP_HZ, seconds=_WARM_UP_S)
        runs = [bench.run(rate_hz, seconds=seconds) for rate_hz in rates_hz]
        highest = _search(bench, runs, seconds=search_seconds / _SEARCH_RUNS)
        memory = _memory_mb(node.process_id)
        progress(
            f"the node's memory: {memory.peak_mb:.0f} MB at most; now {memory.resident_mb:.0f} MB, "
            f"of it {memory.shared_mb:.0f} MB of the middleware's shared memory"
        )
        log_lines = node.log_lines
        node_stays.close()
        with _running_relay(work / "benchmark_relay.log") as relay:
            relayed = _measure_relay(relay, recorder, camera, seconds=seconds)
            recorder_stays.close()
            with record_class_maps(None, verb="bench", by_executor=True) as ordinary_recorder:
                ordinary = _measure_relay(relay, ordinary_recorder, camera, seconds=seconds, ordinary=True)
        progress(
            f"a node that computes nothing answers at {_RELAY_HZ:g} Hz after {relayed.latency_ms.p50:.1f} ms, "
            f"{ordinary.latency_ms.p50:.1f} ms with an ordinary camera and recorder, and takes "
            f"{relayed.cpu_s_per_frame * 1000:.1f} ms of CPU"
        )
        return RosFigures(
            runs=tuple(run.figures for run in runs),
            highest=None if highest is None else highest.figures,
            node_peak_memory_mb=memory.peak_mb,
            node_shared_memory_mb=memory.shared_mb,
            node_load_s=load_s,
            engine_load_s=_engine_load_s(log_lines),
            relay_latency_ms=relayed.latency_ms,
            relay_cpu_s_per_frame=relayed.cpu_s_per_frame,
            ordinary_clients_latency_ms=ordinary.latency_ms,
        )


def _check_arguments(frames: np.ndarray, *, rates_hz: Sequence[float], seconds: float, search_seconds: float) -> None:
    check_bgr_batch(frames)
    if not rates_hz or min(rates_hz) <= 0:
        raise ValueError(f"expected one rate or more above 0 Hz, got {list(rates_hz)}")
    if not (seconds > 0 and search_seconds > 0):
        raise ValueError(f"expected more than 0 s, got {seconds} s at each rate and {search_seconds} s to search")


# --- the camera's process


@dataclass(frozen=True)
class _Order:
    """What the camera's process is sent; it answers with its SentFrames.

    Attributes:
        rate_hz: > 0.
        count: frames.
        ordinary: as messages of rclpy, which most nodes publish.
    """

    rate_hz: float
    count: int
    ordinary: bool = False


@dataclass(frozen=True)
class _Camera:
    process: BaseProcess
    connection: Connection

    @property
    def process_id(self) -> int:
        assert self.process.pid is not None  # it was started
        return self.process.pid

    def receive(self) -> list[tuple[int, int]] | None:
        """Stamp and time of publication of each frame, once the order is carried out."""
        try:
            return self.connection.recv() if self.connection.poll() else None
        except (EOFError, OSError) as error:
            raise self._ended() from error

    def send(self, order: _Order) -> None:
        try:
            self.connection.send(order)
        except OSError as error:
            raise self._ended() from error

    def _ended(self) -> BenchmarkError:
        self.process.join(timeout=5)
        return BenchmarkError(
            f"the camera's process ended with status {self.process.exitcode}; its message stands above"
        )


@contextmanager
def _running_camera(frames: np.ndarray) -> Iterator[_Camera]:
    ours, theirs = multiprocessing.Pipe()
    with spawned(_publish_on_order, (theirs, frames), name="benchmark_camera") as process, ours:
        theirs.close()
        yield _Camera(process, ours)


def _publish_on_order(connection: Connection, frames: np.ndarray) -> None:
    """Body of the camera's process: it ends with its parent, or when that closes the connection."""
    from darkseg_ros.nodes.benchmark_camera import BenchmarkCamera

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent
    with BenchmarkCamera(_TOPIC, frames) as camera, suppress(EOFError):
        connection.poll(None)  # the first order comes once the node is active, which may take minutes
        if not camera.wait_for_subscriber(within_s=_DISCOVERY_TIMEOUT_S):
            print(f"benchmark camera: nobody subscribed to {_TOPIC} within {_DISCOVERY_TIMEOUT_S:g} s", file=sys.stderr)
            sys.exit(1)
        while True:
            order: _Order = connection.recv()
            sent = camera.publish(rate_hz=order.rate_hz, count=order.count, ordinary=order.ordinary)
            connection.send([(frame.stamp_ns, frame.published_ns) for frame in sent])


# --- a run at one rate


@dataclass(frozen=True)
class _Run:
    """A run at one rate.

    Attributes:
        figures: of the report.
        engine_ms_min: the shortest call of the engine that the node reported.
    """

    figures: RateFigures
    engine_ms_min: float

    @property
    def lossless(self) -> bool:
        return self.figures.kept_up and self.figures.dropped_share < DROPPED_SHARE_MAX


@dataclass(frozen=True)
class _Bench:
    """All that a run needs."""

    node: NodeProcess
    recorder: Recorder
    camera: _Camera
    progress: Callable[[str], None]

    def run(self, rate_hz: float, *, seconds: float) -> _Run:
        """Publish at one rate and wait for the last class map."""
        count = max(_FRAMES_MIN, round(rate_hz * seconds))
        first_record = len(self.recorder.records)
        reports = _Reports(self.recorder)
        cpu_before_s = self._cpu_s()
        self.camera.send(_Order(rate_hz, count))
        sent = self._await_end(count, reports, first_record)
        node_cpu_s, clients_cpu_s = (after - before for before, after in zip(cpu_before_s, self._cpu_s(), strict=True))
        latencies_ms = _latencies_ms(sent, self.recorder, first_record)
        if not latencies_ms:
            last = self.recorder.diagnostics
            raise BenchmarkError(
                f"no class map came back for {len(sent)} frames at {rate_hz:g} Hz; {last.get('frames_in', '0')} frames "
                f"have reached the node so far, its last error: {last.get('last_error') or 'none'}; its last words: "
                f"{self.node.last_words}"
            )
        engine_ms = self._await_engine_ms(reports)
        run = _run_of(
            rate_hz,
            sent,
            latencies_ms,
            count=count,
            engine_ms=engine_ms,
            node_cpu_s_per_frame=node_cpu_s / len(latencies_ms),
            clients_cpu_s_per_frame=clients_cpu_s / len(latencies_ms),
        )
        self.progress(_line_of(run))
        return run

    def _cpu_s(self) -> tuple[float, float]:
        """Of the node, and of the camera with the recorder, so far."""
        return _cpu_s(self.node.process_id), _cpu_s(self.camera.process_id) + time.process_time()

    def _await_end(self, count: int, reports: _Reports, first_record: int) -> list[tuple[int, int]]:
        """Follow a run to its last class map, or until none has come for a while."""
        sent: list[tuple[int, int]] | None = None
        seen, seen_s = 0, time.monotonic()
        while True:
            self.node.check_alive()
            reports.look()
            now_s, answered = time.monotonic(), len(self.recorder.records) - first_record
            if answered != seen:
                seen, seen_s = answered, now_s
            if sent is None:
                sent = self.camera.receive()
                seen_s = now_s if sent is not None else seen_s
            elif answered >= len(sent) or now_s - seen_s > max(_QUIET_S, _QUIET_FRAMES * reports.last_ms / 1000):
                return sent
            time.sleep(_POLL_S)

    def _await_engine_ms(self, reports: _Reports) -> list[float]:
        """The node's reports of its time in the engine during the run; one at least."""
        deadline_s = time.monotonic() + _REPORT_TIMEOUT_S
        while not reports.engine_ms:
            self.node.check_alive()
            reports.look()
            if time.monotonic() > deadline_s:
                raise BenchmarkError(
                    f"segmentation_node has not told its time in the engine for {_REPORT_TIMEOUT_S:g} s, expected "
                    f"inference_ms on /diagnostics each second; its last words: {self.node.last_words}"
                )
            time.sleep(_POLL_S)
        return reports.engine_ms


def _latencies_ms(sent: Sequence[tuple[int, int]], recorder: Recorder, first_record: int) -> list[float]:
    """Of the frames sent that were answered, among the records from `first_record` on."""
    received_ns = {record.stamp_ns: record.received_ns for record in recorder.records[first_record:]}
    return [(received_ns[stamp] - at) / 1e6 for stamp, at in sent if stamp in received_ns]


class _Reports:
    """The node's diagnostics during a run, one a second."""

    def __init__(self, recorder: Recorder) -> None:
        self.engine_ms: list[float] = []
        self.last_ms = 0.0
        self._recorder = recorder
        self._last = recorder.diagnostics
        self._published_before = self._last.get("frames_published")

    def look(self) -> None:
        """Keep what came since the last look."""
        report = self._recorder.diagnostics
        if report is self._last:
            return
        self._last = report
        # without a frame since the run began it tells of a frame before
        if report.get("inference_ms") and report.get("frames_published") != self._published_before:
            self.last_ms = float(report["inference_ms"])
            self.engine_ms.append(self.last_ms)


def _run_of(
    rate_hz: float,
    sent: Sequence[tuple[int, int]],
    latencies_ms: Sequence[float],
    *,
    count: int,
    engine_ms: Sequence[float],
    node_cpu_s_per_frame: float,
    clients_cpu_s_per_frame: float,
) -> _Run:
    engine_p50_ms = float(np.median(engine_ms))
    figures = RateFigures(
        rate_hz=rate_hz,
        reached_hz=rate_hz * len(sent) / count,
        sent=len(sent),
        answered=len(latencies_ms),
        dropped_share=1 - len(latencies_ms) / len(sent),
        latency_ms=Percentiles.of(latencies_ms),
        engine_ms_p50=engine_p50_ms,
        overhead_ms=Percentiles.of(np.asarray(latencies_ms) - engine_p50_ms),
        jitter_ms=float(np.std(latencies_ms)),
        node_cpu_s_per_frame=node_cpu_s_per_frame,
        clients_cpu_s_per_frame=clients_cpu_s_per_frame,
    )
    return _Run(figures, engine_ms_min=min(engine_ms))


def _line_of(run: _Run) -> str:
    figures = run.figures
    return (
        f"{figures.rate_text}: {figures.answered} of {figures.sent} frames answered, after "
        f"{figures.latency_ms.p50:.1f} ms (p99 {figures.latency_ms.p99:.1f}), engine {figures.engine_ms_p50:.1f} ms"
    )


def _search(bench: _Bench, runs: Sequence[_Run], *, seconds: float) -> _Run | None:
    """The lossless run at the highest rate, those given among them; None where none was lossless."""
    found = max((run for run in runs if run.lossless), key=lambda run: run.figures.rate_hz, default=None)
    low_hz = 0.0 if found is None else found.figures.rate_hz
    # frames are served one at a time: a rate above this passes only while a short run fills the node's two places
    ceiling_hz = 1000 / max(min(run.engine_ms_min for run in runs), 1.0)
    high_hz = min(ceiling_hz, _RATE_MAX_HZ)
    failed_hz: float | None = None
    for _ in range(_SEARCH_RUNS):
        if high_hz - low_hz <= _SEARCH_ENDS_WITHIN * high_hz:
            break
        rate_hz = (low_hz + high_hz) / 2
        run = bench.run(rate_hz, seconds=seconds)
        if run.lossless:
            found, low_hz = run, rate_hz
        elif failed_hz == rate_hz:
            high_hz = rate_hz
        else:
            failed_hz = rate_hz
    return found


# --- the relay


@dataclass(frozen=True)
class _Relayed:
    """What the relay's answers take.

    Attributes:
        latency_ms: from publishing a frame to receiving the answer.
        cpu_s_per_frame: of the relay's process.
    """

    latency_ms: Percentiles
    cpu_s_per_frame: float


def _running_relay(log: Path) -> NodeProcess:
    topics = {"image": _TOPIC, "~/class_map": CLASS_MAP_TOPIC}
    return NodeProcess("benchmark_relay", parameters={}, remappings=topics, log=log)


def _measure_relay(
    relay: NodeProcess, recorder: Recorder, camera: _Camera, *, seconds: float, ordinary: bool = False
) -> _Relayed:
    """Send the relay frames at 30 Hz.

    Raises:
        NodeError: if the relay ends.
        BenchmarkError: if it does not answer, or the camera's process ends.
    """
    warm_up = _Order(_WARM_UP_HZ, round(_WARM_UP_HZ * _WARM_UP_S), ordinary)
    deadline_s = time.monotonic() + _DISCOVERY_TIMEOUT_S
    # until the three have found each other
    while len(_relayed_ms(relay, recorder, camera, warm_up)) < warm_up.count:
        if time.monotonic() > deadline_s:
            raise BenchmarkError(
                f"the relay has not answered every frame of a second for {_DISCOVERY_TIMEOUT_S:g} s; "
                f"its last words: {relay.last_words}"
            )
    order = _Order(_RELAY_HZ, max(_FRAMES_MIN, round(_RELAY_HZ * seconds)), ordinary)
    cpu_before_s = _cpu_s(relay.process_id)
    latencies_ms = _relayed_ms(relay, recorder, camera, order)
    if not latencies_ms:
        raise BenchmarkError(f"the relay answered none of {order.count} frames; run the benchmark again")
    return _Relayed(Percentiles.of(latencies_ms), (_cpu_s(relay.process_id) - cpu_before_s) / len(latencies_ms))


def _relayed_ms(relay: NodeProcess, recorder: Recorder, camera: _Camera, order: _Order) -> list[float]:
    first_record = len(recorder.records)
    camera.send(order)
    while (sent := camera.receive()) is None:
        relay.check_alive()
        time.sleep(_POLL_S)
    time.sleep(_QUIET_S)
    return _latencies_ms(sent, recorder, first_record)


# --- the node's process, as Linux sees it


@dataclass(frozen=True)
class _Memory:
    """Of a process, 10⁶ bytes.

    Attributes:
        peak_mb: VmHWM: all that ever was resident at once, pages of shared memory included that it touched.
        resident_mb: VmRSS: what is now.
        shared_mb: RssShmem: how much of that is shared memory.
    """

    peak_mb: float
    resident_mb: float
    shared_mb: float


def _memory_mb(process_id: int) -> _Memory:
    fields = dict(
        line.split(":", 1) for line in Path(f"/proc/{process_id}/status").read_text().splitlines() if ":" in line
    )
    peak, resident, shared = (int(fields[name].split()[0]) * 1024 / 1e6 for name in ("VmHWM", "VmRSS", "RssShmem"))
    return _Memory(peak, resident, shared)


def _cpu_s(process_id: int) -> float:
    """User and system time of all threads of a process so far."""
    # the name of the program comes second, in brackets, and may hold blanks
    fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    user, system = fields[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _engine_load_s(log_lines: Sequence[str]) -> float | None:
    found = [re.search(r"ready after ([0-9.]+) s", line) for line in log_lines]
    return next((float(match[1]) for match in found if match), None)
