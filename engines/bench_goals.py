"""The goals that the engines were built for, with what one benchmark measured of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from darkseg_ros.benchmark.figures import ContestantFigures, Goal, RateFigures, RosFigures
from engines.peers import (
    DDRNET_INT8,
    DDRNET_PUBLISHED,
    RESNET101_INT8,
    RESNET101_ONNXRUNTIME,
    RESNET101_OPENVINO,
    SLIM_INT8,
    SLIM_TORCH,
)
from engines.plan_cost import PlanCost

GOALS_HW = (512, 1024)
"""Size of the camera frames that they are stated for."""

_OVERHEAD_RATE_HZ = 30.0
_GROWTH_MB = 5.0  # the bound of tests/ros/test_reliability_soak.py
_GROWTH_NOTE = (
    "takes longer than a benchmark should: `make soak` measures it in "
    "test_50_000_frames_of_the_shipped_model_leave_no_memory_behind (tests/ros/test_reliability_soak.py) and writes "
    "out/reliability/soak_shipped_model.json, of which docs/reliability.md is made: its row `1024×512 through the "
    "shipped model`"
)
_NOT_MEASURED = "not part of this run"


@dataclass(frozen=True)
class FinishCost:
    """From quarter-size logits to class map and confidence on one thread, medians of one interleaved run.

    Attributes:
        kernel_ms: of this package's kernel, wall time.
        numpy_ratio: CPU time of its numpy twin over the kernel's, in the same round.
        torch_ratio: of torch.
        onnxruntime_ratio: of the finish inside a graph in ONNX Runtime.
    """

    kernel_ms: float
    numpy_ratio: float
    torch_ratio: float
    onnxruntime_ratio: float


def goals_of(
    figures: Sequence[ContestantFigures],
    ros: RosFigures | None,
    *,
    shipped: str,
    shipped_hw: tuple[int, int],
    finish: FinishCost | None,
    plan: PlanCost | None,
    cores: int,
) -> tuple[Goal, ...]:
    """All goals; those whose contestants did not take part are not measured.

    Args:
        figures: of the contestants, on camera frames of GOALS_HW.
        ros: of the shipped bundle's node.
        shipped: name of the shipped bundle's contestants.
        shipped_hw: input size of its network.
        finish: of 19×128×256 logits.
        plan: of the shipped bundle.
        cores: that all processes share.
    """
    found = {(row.name, row.kind): row for row in figures}
    engine, segmenter = found.get((shipped, "engine")), found.get((shipped, "segmenter"))
    own = own_goals(engine, segmenter, ros, cores=cores) if engine and segmenter else ()
    as_shipped = f"as shipped, network at {'×'.join(map(str, shipped_hw))}"
    return (
        *(replace(goal, text=f"{as_shipped}: {goal.text}") for goal in own),
        *_latency_goals(
            found.get((SLIM_INT8, "segmenter")),
            segmenter,
            found.get((DDRNET_PUBLISHED, "segmenter")),
            found.get((DDRNET_INT8, "segmenter")),
            as_shipped=as_shipped,
            shipped_hw=shipped_hw,
        ),
        *_ratio_goals({row.name: row for row in figures if row.kind == "segmenter"}),
        *_finish_goals(finish),
        *_plan_goals(plan),
        Goal(
            text="as shipped: growth of the node's memory over 50,000 frames",
            target=_GROWTH_MB,
            measured=None,
            unit="MB",
            higher_is_better=False,
            note=_GROWTH_NOTE,
        ),
    )


def _latency_goals(
    at_camera_size: ContestantFigures | None,
    shipped: ContestantFigures | None,
    ddrnet: ContestantFigures | None,
    ddrnet_with_our_finish: ContestantFigures | None,
    *,
    as_shipped: str,
    shipped_hw: tuple[int, int],
) -> tuple[Goal, ...]:
    same_weights = "the same weights, network at 512×1024"

    def over_ddrnet(own: ContestantFigures | None, *remarks: str) -> str:
        if own and ddrnet_with_our_finish:
            ratio = own.latency_ms.p50 / ddrnet_with_our_finish.latency_ms.p50
            remarks = (f"{ratio:.2f} × with our finish in the place of DDRNet's", *remarks)
        return "; ".join(remarks)

    return (
        Goal(
            text=f"{same_weights}: camera frame to class map, frames per second",
            target=60,
            measured=at_camera_size.fps if at_camera_size else None,
            unit="fps",
            higher_is_better=True,
            note=f"1000 / median latency; {at_camera_size.description}" if at_camera_size else _NOT_MEASURED,
        ),
        _ratio_goal(
            f"{as_shipped}: camera frame of 512×1024 to class map, over DDRNet-23-slim as published at 512×1024",
            0.4,
            shipped,
            ddrnet,
            remark=over_ddrnet(
                shipped, *([] if shipped_hw == GOALS_HW else ["the networks see different numbers of pixels"])
            ),
        ),
        _ratio_goal(
            f"{same_weights}: camera frame to class map, over DDRNet-23-slim as published at 512×1024",
            0.4,
            at_camera_size,
            ddrnet,
            remark=over_ddrnet(at_camera_size),
        ),
    )


def _ratio_goals(segmenters: dict[str, ContestantFigures]) -> tuple[Goal, ...]:
    floats = [segmenters[name] for name in (RESNET101_OPENVINO, RESNET101_ONNXRUNTIME) if name in segmenters]
    best_float = min(floats, key=lambda row: row.latency_ms.p50) if floats else None
    return (
        _ratio_goal(
            "slim FPN at 512×1024, int8, over the same network in torch eager",
            0.2,
            segmenters.get(SLIM_INT8),
            segmenters.get(SLIM_TORCH),
        ),
        _ratio_goal(
            "FPN ResNet-101 at 512×1024, int8, over its best fp32",
            0.3,
            segmenters.get(RESNET101_INT8),
            # the best of two; of one alone nobody knows whether it is
            best_float if len(floats) == 2 else None,
        ),
    )


def _ratio_goal(
    text: str, target: float, own: ContestantFigures | None, other: ContestantFigures | None, *, remark: str = ""
) -> Goal:
    measured, note = None, _NOT_MEASURED
    if own and other:
        measured = own.latency_ms.p50 / other.latency_ms.p50
        least, most = own.round_p50_ms[0] / other.round_p50_ms[1], own.round_p50_ms[1] / other.round_p50_ms[0]
        note = (
            f"median {own.latency_ms.p50:.1f} of {other.latency_ms.p50:.1f} ms ({other.name}) in the same run; "
            f"{least:.2f}…{most:.2f} by the rounds that differ most"
        )
        if remark:
            note = f"{note}; {remark}"
    return Goal(text=text, target=target, measured=measured, unit="×", higher_is_better=False, note=note)


def _finish_goals(finish: FinishCost | None) -> tuple[Goal, ...]:
    ratios = (
        f"CPU time in the same round; numpy takes {finish.numpy_ratio:.1f} ×, torch {finish.torch_ratio:.1f} ×"
        if finish
        else _NOT_MEASURED
    )
    return (
        Goal(
            text="finish (upsampling, argmax, confidence) of 19×128×256 logits on one thread",
            target=1.5,
            measured=finish.kernel_ms if finish else None,
            unit="ms",
            higher_is_better=False,
            note="median wall time in `engines.bench_finish`" if finish else _NOT_MEASURED,
        ),
        Goal(
            text="ONNX Runtime's in-graph finish over ours",
            target=15,
            measured=finish.onnxruntime_ratio if finish else None,
            unit="×",
            higher_is_better=True,
            note=ratios,
        ),
    )


def _plan_goals(plan: PlanCost | None) -> tuple[Goal, ...]:
    note = plan.description if plan else f"{_NOT_MEASURED}; it takes TensorRT for RTX"
    return (
        Goal(
            text="as shipped: build of the fp16 plan without a GPU, the whole command",
            target=3,
            measured=plan.seconds if plan else None,
            unit="s",
            higher_is_better=False,
            note=note,
        ),
        Goal(
            text="as shipped: peak memory of that build",
            target=512,
            measured=plan.peak_memory_mb if plan else None,
            unit="MB",
            higher_is_better=False,
            note=note,
        ),
    )


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
