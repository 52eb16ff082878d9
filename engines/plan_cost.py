"""What it takes to build a bundle's TensorRT plan on a machine without a GPU."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from darkseg_ros.errors import BenchmarkError

_CAPABILITY = "SM86"


@dataclass(frozen=True)
class PlanCost:
    """Of one build, cache empty.

    Attributes:
        seconds: from the start of the command to its end.
        peak_memory_mb: greatest resident set of its process, 10⁶ bytes.
        description: what was built.
    """

    seconds: float
    peak_memory_mb: float
    description: str


def measure_plan_build(bundle: Path) -> PlanCost:
    """Run ``build_plan --precision fp16 --for SM86`` in a process of its own.

    The kernel counts a new process' memory from its parent's size on, so the caller has to be the smaller one.

    Raises:
        BenchmarkError: if the command fails, with its last line.
    """
    command = [sys.executable, "-m", "darkseg_ros.commands.build_plan", "--bundle", str(bundle)]
    with tempfile.TemporaryDirectory() as cache, tempfile.TemporaryFile("w+") as output:
        started = time.perf_counter()
        process = subprocess.Popen(
            [*command, "--precision", "fp16", "--for", _CAPABILITY],
            stdout=output,
            stderr=output,
            env={**os.environ, "XDG_CACHE_HOME": cache, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        _, status, usage = os.wait4(process.pid, 0)  # RUSAGE_CHILDREN would be the greatest of all children so far
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        lines = output.read().splitlines()
    if process.returncode:
        raise BenchmarkError(
            f"build_plan failed with status {process.returncode}: {lines[-1] if lines else 'no output'}"
        )
    return PlanCost(seconds, usage.ru_maxrss * 1024 / 1e6, f"TensorRT for RTX, fp16, for {_CAPABILITY}")
