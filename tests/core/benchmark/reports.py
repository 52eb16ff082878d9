"""Reports with figures chosen by hand."""

from __future__ import annotations

from dataclasses import replace

from darkseg_ros.benchmark.figures import ContestantFigures, Goal, Percentiles, RateFigures, Ratio, RosFigures
from darkseg_ros.benchmark.machine import Machine
from darkseg_ros.benchmark.report import BenchmarkInput, BenchmarkReport

CONTESTANT = ContestantFigures(
    name="darkseg_slim auto",
    kind="segmenter",
    description="openvino 2026.4.1 int8 CPU",
    frames=500,
    latency_ms=Percentiles(20.0, 22.0, 30.0),
    round_p50_ms=(19.0, 21.0),
    jitter_ms=1.5,
    fps=50.0,
    cpu_s_per_frame=0.035,
    peak_memory_mb=280.0,
    load_s=0.9,
    ratio=None,
    energy_j_per_frame=None,
)
RATE = RateFigures(
    rate_hz=30.0,
    reached_hz=30.0,
    sent=150,
    answered=147,
    dropped_share=0.02,
    latency_ms=Percentiles(22.0, 25.0, 33.0),
    engine_ms_p50=19.5,
    overhead_ms=Percentiles(2.5, 4.0, 9.0),
    jitter_ms=2.0,
    node_cpu_s_per_frame=0.04,
    clients_cpu_s_per_frame=0.01,
)
ROS = RosFigures(
    runs=(replace(RATE, rate_hz=10.0, reached_hz=10.0), RATE),
    highest=replace(RATE, rate_hz=44.0, reached_hz=44.0, dropped_share=0.009),
    node_peak_memory_mb=290.0,
    node_shared_memory_mb=70.0,
    node_load_s=2.0,
    engine_load_s=0.8,
    relay_latency_ms=Percentiles(4.6, 5.0, 6.2),
    relay_cpu_s_per_frame=0.0041,
    ordinary_clients_latency_ms=Percentiles(5.7, 6.1, 7.3),
)
GOAL = Goal(text="peak memory", target=300, measured=280.0, unit="MB", higher_is_better=False, note="VmHWM")
REPORT = BenchmarkReport(
    schema_version=1,
    date="2026-11-22T21:06:16+00:00",
    machine=Machine("AMD EPYC", 2, (), 25_300.0, "6.18", None, 0.1, ("AVX2", "AVX-512")),
    versions={"darkseg_ros": "0.1.0", "numpy": "2.4.6"},
    input=BenchmarkInput("generated night drive", "ab" * 32, frames=60, size_hw=(512, 1024)),
    rounds=5,
    turn_s=2.0,
    reference=None,
    contestants=(replace(CONTESTANT, kind="engine"), CONTESTANT),
    ros=ROS,
    goals=(GOAL,),
)


def with_reference(ratio: Ratio, *, latency_ms: float) -> BenchmarkReport:
    """A peer as the yardstick, and one contestant with that ratio to it."""
    peer = replace(CONTESTANT, name="torch eager", latency_ms=Percentiles(100.0, 110.0, 120.0), ratio=Ratio(1, 1, 1))
    own = replace(
        CONTESTANT,
        latency_ms=Percentiles(latency_ms, 2 * latency_ms, 3 * latency_ms),
        round_p50_ms=(0.99 * latency_ms, 1.01 * latency_ms),
        ratio=ratio,
    )
    return replace(REPORT, reference="torch eager", contestants=(peer, own), ros=None)
