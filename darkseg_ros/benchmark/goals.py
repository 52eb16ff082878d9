"""The figures that this package set itself."""

from __future__ import annotations

from darkseg_ros.benchmark.figures import ContestantFigures, Goal, RateFigures, RosFigures

GOALS_HW = (512, 1024)
"""Size of the camera frames that they are stated for."""

_OVERHEAD_RATE_HZ = 30.0


def own_goals(
    engine: ContestantFigures, segmenter: ContestantFigures, ros: RosFigures | None, *, cores: int
) -> tuple[Goal, ...]:
    """Those that one bundle must reach on camera frames of GOALS_HW, on two cores of a common server.

    Args:
        engine: figures of `contestants.own_engine`.
        segmenter: figures of `contestants.own_segmenter` for the same bundle and backend.
        ros: figures of `ros_run.measure_ros` for them; None leaves the goals through ROS unmeasured.
        cores: that all processes share.
    """
    no_ros = "" if ros else "not measured without ROS"
    overhead = "publish to class map received, less the median of the engine's time"
    at_30_hz = next((run for run in ros.runs if run.rate_hz == _OVERHEAD_RATE_HZ), None) if ros else None
    highest_hz = ros.highest.rate_hz if ros and ros.highest else None
    shared_mb = ros.node_shared_memory_mb if ros else 0
    return (
        Goal(
            text="camera frame to class map, frames per second",
            target=60,
            measured=segmenter.fps,
            unit="fps",
            higher_is_better=True,
            note=f"1000 / median latency; {segmenter.description}",
        ),
        Goal(
            text="highest rate through ROS with < 1 % drops, over the engine's own",
            target=0.9,
            measured=None if highest_hz is None else highest_hz / engine.fps,
            unit="×",
            higher_is_better=True,
            note=no_ros or _rate_note(ros.highest if ros else None, engine, cores=cores),
        ),
        Goal(
            text="time that ROS adds at 30 Hz, median",
            target=3,
            measured=at_30_hz.overhead_ms.p50 if at_30_hz else None,
            unit="ms",
            higher_is_better=False,
            note=no_ros or overhead + _relay_note(ros),
        ),
        Goal(
            text="time that ROS adds at 30 Hz, p99",
            target=10,
            measured=at_30_hz.overhead_ms.p99 if at_30_hz else None,
            unit="ms",
            higher_is_better=False,
            note=no_ros or f"{overhead}; so it holds what the engine's time varies by",
        ),
        Goal(
            text="peak memory of the node",
            target=300,
            measured=ros.node_peak_memory_mb if ros else None,
            unit="MB",
            higher_is_better=False,
            note=no_ros or f"VmHWM of its process, {shared_mb:.0f} MB of it the middleware's shared memory",
        ),
        Goal(
            text="load of the model",
            target=1,
            measured=segmenter.load_s,
            unit="s",
            higher_is_better=False,
            note="import of the libraries (NumPy apart), checks of the bundle and its golden answer included; "
            "the files lay in memory",
        ),
    )


def _relay_note(ros: RosFigures | None) -> str:
    if ros is None or ros.relay_latency_ms is None:
        return ""
    return f"; {ros.relay_latency_ms.p50:.1f} ms through a node that computes nothing"


def _rate_note(highest: RateFigures | None, engine: ContestantFigures, *, cores: int) -> str:
    """What bounds the rate: CPU time that a frame takes at the highest one, of all processes."""
    if highest is None:
        return "at every rate 1 % of the frames or more were dropped"
    node_ms, clients_ms, engine_ms = (
        1000 * cpu_s
        for cpu_s in (highest.node_cpu_s_per_frame, highest.clients_cpu_s_per_frame, engine.cpu_s_per_frame)
    )
    return (
        f"{highest.rate_hz:.1f} of {engine.fps:.1f} Hz; CPU time for a frame at that rate: {node_ms:.1f} ms in the "
        f"node (the engine alone takes {engine_ms:.1f} ms), {clients_ms:.1f} ms in the camera's and the receiver's "
        f"process, with which {cores} cores are full at {1000 * cores / (node_ms + clients_ms):.0f} Hz"
    )
