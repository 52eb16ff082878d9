"""Builds TensorRT plans, in a process of its own: a builder takes hundreds of megabytes that the library never gives
back, and its crash would take the node along.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from darkseg_ros.child_processes import start_python
from darkseg_ros.errors import BundleError, DarksegError, EngineError, one_line
from darkseg_ros.model.backends.tensorrt.library import LibraryLog, import_library
from darkseg_ros.model.backends.tensorrt.plan_cache import writing_in

PLAN_RECIPE = 2
"""Part of every plan's key; to be raised when this module or `plan_graph` builds other plans of the same order."""

Progress = Callable[[str], None]

_PROGRESS_EVERY_S = 2.0
_PROCESS = "import sys; from darkseg_ros.model.backends.tensorrt.plan_builder import main; sys.exit(main(sys.argv[1:]))"


@dataclass(frozen=True)
class PlanOrder:
    """What to build.

    Attributes:
        library: module, "tensorrt" or "tensorrt_rtx".
        onnx: the bundle's fused graph.
        precision: one of `plan_cache.PRECISIONS`.
        batch: the plan serves 1…batch frames at once.
        capabilities: of the GPUs that it is for, such as ("SM86", "SM89"); the full library builds for the GPU at
            hand, whatever stands here.
        plan: file to write.
    """

    library: str
    onnx: str
    precision: str
    batch: int
    capabilities: tuple[str, ...]
    plan: str


def build_plan(order: PlanOrder, *, progress: Progress) -> None:
    """Build a plan in another process.

    Args:
        order: what to build; paths must be absolute.
        progress: called with a line on what the builder does, every few seconds.

    Raises:
        EngineError: if the builder fails, dies, or cannot write the plan.
        BundleError: if the graph is not the one of a bundle.
    """
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as complaints,
        start_python(
            ["-c", _PROCESS, json.dumps(asdict(order))],
            environment={**os.environ, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=complaints,
            text=True,
        ) as builder,
    ):
        assert builder.stdout is not None
        try:
            for line in builder.stdout:
                progress(line.rstrip())
            status = builder.wait()
        except BaseException:  # Ctrl-C, or what `progress` raised
            builder.kill()
            raise
        complaints.seek(0)
        complaint = complaints.read().strip()
    if status == _Status.REFUSED_BUNDLE:
        raise BundleError(complaint)
    if status == _Status.REFUSED:
        raise EngineError(complaint)
    if status < 0:
        raise EngineError(
            f"the plan builder was killed by signal {-status}; 9 is mostly for lack of memory: free some, or build the "
            f"plan on another machine with `build_plan --for`. Its last words: {complaint[-500:] or 'none'}"
        )
    if status:
        raise EngineError(f"the plan builder failed with status {status}: {complaint[-2000:]}")


class _Status:
    REFUSED = 3
    REFUSED_BUNDLE = 4


def main(arguments: list[str]) -> int:
    """The builder's process; what it refuses stands in one line on stderr."""
    order = PlanOrder(**json.loads(arguments[0]))
    try:
        _build(order)
    except DarksegError as error:
        print(one_line(error), file=sys.stderr)
        return _Status.REFUSED_BUNDLE if isinstance(error, BundleError) else _Status.REFUSED
    return 0


def _build(order: PlanOrder) -> None:
    graph = _typed_graph(order)
    library = import_library(order.library)
    log = LibraryLog(library)
    builder = log.created(lambda: library.Builder(log.logger), "its builder")
    # the flag is gone from versions that build nothing else
    strongly_typed = getattr(library.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if strongly_typed is None else 1 << int(strongly_typed))
    parser = library.OnnxParser(network, log.logger)
    if not parser.parse(graph):
        raise EngineError(_parse_error(parser, order))
    del graph
    settings = builder.create_builder_config()
    _set_targets(library, settings, order)
    # float means float: TF32 has ten binary places
    if order.precision == "fp32" and hasattr(library.BuilderFlag, "TF32"):
        settings.clear_flag(library.BuilderFlag.TF32)
    # without it a context allocates while it runs, and such a run cannot be recorded as a CUDA graph
    if hasattr(library.BuilderFlag, "REQUIRE_USER_ALLOCATION"):
        settings.set_flag(library.BuilderFlag.REQUIRE_USER_ALLOCATION)
    if order.batch > 1:
        shape = tuple(network.get_input(0).shape)[1:]
        profile = builder.create_optimization_profile()
        profile.set_shape("frame", (1, *shape), (order.batch, *shape), (order.batch, *shape))
        settings.add_optimization_profile(profile)
    if hasattr(settings, "progress_monitor"):
        monitor = _progress_monitor(library)
        settings.progress_monitor = monitor
    plan = builder.build_serialized_network(network, settings)
    if plan is None:
        raise EngineError(
            f"{order.library} {library.__version__} cannot build a {order.precision} plan of {order.onnx}: "
            f"{log.last_error()}; try --precision fp32 or another backend"
        )
    _write(Path(order.plan), plan)


def _typed_graph(order: PlanOrder) -> bytes:
    try:
        from darkseg_ros.model.backends.tensorrt.plan_graph import graph_for_plan
    except ImportError as error:
        raise EngineError(
            f"building a plan needs onnx, which does not import ({error}); run `pip install onnx`"
        ) from error
    print(f"preparing the graph: {order.precision}, batch 1…{order.batch}")
    model = graph_for_plan(Path(order.onnx), precision=order.precision, batch=order.batch)
    serialised: bytes = model.SerializeToString()
    return serialised


def _parse_error(parser: Any, order: PlanOrder) -> str:
    error = parser.get_error(0)
    node = f"node {error.node_name()!r} ({error.node_operator()})" if hasattr(error, "node_name") else error.node()
    return (
        f"{order.library} cannot take {order.onnx}: {node}: {error.desc()}; "
        "export the model without that operator, or choose another backend"
    )


def _set_targets(library: Any, settings: Any, order: PlanOrder) -> None:
    if not hasattr(settings, "set_compute_capability"):
        return
    settings.num_compute_capabilities = len(order.capabilities)
    for index, capability in enumerate(order.capabilities):
        if not settings.set_compute_capability(getattr(library.ComputeCapability, capability), index):
            raise EngineError(
                f"{order.library} {library.__version__} refuses to build for {capability}; "
                "build for other GPUs with --for, or choose another backend"
            )


def _progress_monitor(library: Any) -> Any:
    """Prints what the builder begins, and how far it is while that takes long."""

    class Monitor(library.IProgressMonitor):
        def __init__(self) -> None:
            library.IProgressMonitor.__init__(self)
            self._steps: dict[str, int] = {}
            self._printed_s = 0.0

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._steps[phase_name] = num_steps
            if parent_phase is None or self._is_due():
                print(phase_name)

        def step_complete(self, phase_name: str, step: int) -> bool:
            if self._is_due():
                print(f"{phase_name}: {step + 1} of {self._steps.get(phase_name, 0)}")
            return True  # go on

        def phase_finish(self, phase_name: str) -> None:
            self._steps.pop(phase_name, None)

        def _is_due(self) -> bool:
            now_s = time.monotonic()
            due = now_s - self._printed_s > _PROGRESS_EVERY_S
            if due:
                self._printed_s = now_s
            return due

    return Monitor()


def _write(path: Path, plan: Any) -> None:
    with writing_in(path.parent), path.open("wb") as file:
        file.write(plan)
