"""The steps of `python -m engines.gpu`, each in a process of its own with a time limit: none can end the others."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from darkseg_ros.child_processes import start_python
from darkseg_ros.errors import DarksegError, one_line
from darkseg_ros.model.backends.tensorrt.cuda import CudaDevice, load_driver
from darkseg_ros.model.bundle import ModelBundle
from engines.gpu.errors import NotHereError

PASSED, FAILED, SKIPPED, TIMED_OUT = "passed", "failed", "skipped", "ended at its limit"

_SANITIZER = "compute-sanitizer"
_SANITIZER_FOLDERS = ("/usr/local/cuda/bin", "/usr/local/cuda/compute-sanitizer")
_SANITIZER_FOUND = 9
_LINES_KEPT = 20


@dataclass(frozen=True)
class Step:
    """One question to the GPU.

    Attributes:
        name: on the command line and in the report.
        shows: what its passing means.
        limit_s: when it is ended.
        run: answers with figures; called in the step's own process.
    """

    name: str
    shows: str
    limit_s: float
    run: Callable[[ModelBundle], dict[str, Any]]


@dataclass(frozen=True)
class Outcome:
    """What came of a step.

    Attributes:
        step: its name.
        status: PASSED, FAILED, SKIPPED or TIMED_OUT.
        figures: what it measured.
        reason: why it did not pass; the last lines that it printed where it ended by itself.
        seconds: that it took.
    """

    step: str
    status: str
    figures: dict[str, Any]
    reason: str
    seconds: float


def _machine(_: ModelBundle) -> dict[str, Any]:
    device = CudaDevice(load_driver())
    import torch

    properties = torch.cuda.get_device_properties(0)
    return {
        "gpu": device.name,
        "capability": device.capability,
        "driver_cuda": device.driver_cuda,
        "memory_gib": round(properties.total_memory / 2**30, 1),
        "multiprocessors": properties.multi_processor_count,
        "torch": torch.__version__,
        "cudnn": torch.backends.cudnn.version(),
        "python": sys.version.split()[0],
    }


def _driver(_: ModelBundle) -> dict[str, Any]:
    from engines.gpu.driver import exercise

    return exercise(load_driver())


def _memcheck(_: ModelBundle) -> dict[str, Any]:
    sanitizer = shutil.which(_SANITIZER, path=os.pathsep.join([os.environ.get("PATH", ""), *_SANITIZER_FOLDERS]))
    if sanitizer is None:
        raise NotHereError(f"{_SANITIZER} is not installed; it comes with the CUDA toolkit")
    done = subprocess.run(
        [
            *(sanitizer, "--tool", "memcheck", "--leak-check", "full", "--error-exitcode", str(_SANITIZER_FOUND)),
            *(sys.executable, "-m", "engines.gpu.driver"),
        ],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    text = done.stdout + done.stderr
    if "not supported" in text and done.returncode:
        raise NotHereError(f"{_SANITIZER} does not take this device: {_last_lines(text)}")
    assert done.returncode == 0, _last_lines(text)
    return {"found": "no error, no leak"}


def _engine_in(precision: str) -> Callable[[ModelBundle], dict[str, Any]]:
    def run(bundle: ModelBundle) -> dict[str, Any]:
        from engines.gpu.stand_in import CudaPlace
        from engines.gpu.whole_engine import check_engine

        return check_engine(bundle, load_driver(), CudaPlace(), precision=precision)

    return run


def _memory(bundle: ModelBundle) -> dict[str, Any]:
    import torch

    from engines.gpu.stand_in import CudaPlace
    from engines.gpu.whole_engine import memory_comes_back

    return memory_comes_back(bundle, load_driver(), CudaPlace(), lambda: torch.cuda.mem_get_info()[0])


def _lost(_: ModelBundle) -> dict[str, Any]:
    from engines.gpu.driver import lose_gpu

    return lose_gpu(load_driver())


def _lost_in_engine(bundle: ModelBundle) -> dict[str, Any]:
    from engines.gpu.driver import poke
    from engines.gpu.stand_in import CudaPlace
    from engines.gpu.whole_engine import lose_gpu_in_engine

    driver = load_driver()
    return lose_gpu_in_engine(bundle, driver, CudaPlace(), lambda device: poke(driver, device, 0))


def _graph_times(bundle: ModelBundle) -> dict[str, Any]:
    from engines.gpu.times import time_graph

    return time_graph(bundle, "cuda")


def _finish_times(bundle: ModelBundle) -> dict[str, Any]:
    from engines.gpu.times import time_finishes

    return time_finishes(bundle, "cuda")


def _compiled_finish_times(bundle: ModelBundle) -> dict[str, Any]:
    from engines.gpu.times import time_finishes

    return time_finishes(bundle, "cuda", compiled=True)


def _library(name: str) -> Callable[[ModelBundle], dict[str, Any]]:
    def run(bundle: ModelBundle) -> dict[str, Any]:
        from engines.gpu import libraries

        figures: dict[str, Any] = getattr(libraries, f"run_{name}")(bundle)
        return figures

    return run


STEPS = (
    Step("machine", "a GPU, its driver and torch", 60, _machine),
    Step("driver", "`cuda.py`: copies and recordings on several streams and threads, a foreign context", 30, _driver),
    Step("memcheck", "the same under compute-sanitizer: no error, no leak", 90, _memcheck),
    Step("engine fp32", "the whole engine over torch: golden frame, batches, graphs, threads", 60, _engine_in("fp32")),
    Step("engine fp16", "the same with the graph of an fp16 plan", 60, _engine_in("fp16")),
    Step("memory", "engines that are opened and closed give the GPU's memory back", 60, _memory),
    Step("lost", "an illegal access is told as a lost device by every later call", 30, _lost),
    Step("lost in engine", "the same out of a running engine, which still closes", 60, _lost_in_engine),
    Step("driver again", "a new process can use the GPU after that", 30, _driver),
    Step("graph times", "the fused graph by torch, launched and replayed", 60, _graph_times),
    Step("finish times", "logits to class map: ArgMax against ReduceMax", 30, _finish_times),
    Step("compiled finish times", "the same through torch.compile, which fuses", 90, _compiled_finish_times),
    Step("onnxruntime", "with CUDA: golden frame, times, nodes left to the CPU", 60, _library("onnxruntime")),
    Step("tensorrt", "real plans in each precision: golden frame, graphs, times", 240, _library("tensorrt")),
    Step("torch_tensorrt", "the fused graph through Torch-TensorRT", 120, _library("torch_tensorrt")),
)
"""In this order; those that need most libraries last."""


def run_all(steps: Sequence[Step], *, bundle: Path, limit_s: float, progress: Callable[[str], None]) -> list[Outcome]:
    """Run each step in a process of its own.

    Args:
        steps: with distinct names, which the process looks up in `STEPS`.
        bundle: the model's folder.
        limit_s: for all steps together; those that it leaves no time for are skipped.
        progress: told of each outcome.
    """
    ends_s = time.monotonic() + limit_s
    outcomes = []
    for step in steps:
        left_s = ends_s - time.monotonic()
        outcome = (
            _run_in_process(step, bundle, min(step.limit_s, left_s))
            if left_s > 1
            else Outcome(step.name, SKIPPED, {}, f"no time was left of {limit_s:g} s", 0.0)
        )
        progress(f"{outcome.seconds:6.1f} s  {outcome.status}: {step.name}  {outcome.reason[:200]}")
        outcomes.append(outcome)
    return outcomes


def _run_in_process(step: Step, bundle: Path, limit_s: float) -> Outcome:
    started = time.monotonic()
    process = start_python(
        ["-m", "engines.gpu", "--bundle", str(bundle), "--step", step.name],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    with process:
        try:
            output, _ = process.communicate(timeout=limit_s)
            ended = True
        except BaseException as error:  # Ctrl-C as well
            os.killpg(process.pid, signal.SIGKILL)  # with what it started
            output, _ = process.communicate()
            ended = False
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
    seconds, text = round(time.monotonic() - started, 1), output.decode(errors="replace")
    if not ended:
        return Outcome(step.name, TIMED_OUT, {}, f"{limit_s:.0f} s; {_last_lines(text)}", seconds)
    *_, last = text.strip().splitlines() or [""]
    try:
        answer = json.loads(last)
        return Outcome(step.name, answer["status"], answer["figures"], answer["reason"], seconds)
    except (ValueError, TypeError, KeyError):
        return Outcome(step.name, FAILED, {}, f"status {process.returncode}; {_last_lines(text)}", seconds)


def run_here(step: Step, bundle: ModelBundle) -> str:
    """Run a step in this process; its outcome as a line of JSON."""
    status, figures, reason = PASSED, {}, ""
    try:
        figures = step.run(bundle)
    except NotHereError as error:
        status, reason = SKIPPED, one_line(error)
    except (DarksegError, AssertionError, ImportError, RuntimeError) as error:
        status, reason = FAILED, f"{type(error).__name__}: {one_line(error)}"
    return json.dumps({"status": status, "figures": figures, "reason": reason})


def to_json(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """For the report."""
    return [asdict(outcome) for outcome in outcomes]


def _last_lines(text: str) -> str:
    return " | ".join(text.strip().splitlines()[-_LINES_KEPT:])[-2000:]
