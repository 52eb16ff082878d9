"""What the process of a `darkseg_ros.model.backends.trial` does; nothing else imports this."""

from __future__ import annotations

import resource
import sys
from pathlib import Path
from typing import Any

import numpy as np

from darkseg_ros.errors import DarksegError
from darkseg_ros.model.backends.onnxruntime_graph import OnnxRuntimeGraph
from darkseg_ros.model.backends.openvino import OpenVinoGraph
from darkseg_ros.model.backends.trial import REFUSED, Trial

_THREADS = 1  # the stacks of many cores would count as memory of the graph


def main(trial_facts: dict[str, Any], cpu_s_max: int) -> int:
    """The trial's process; what it refuses stands in one line on stderr."""
    trial = Trial(**trial_facts)
    height, width = trial.network_hw
    for limit, value in (
        (resource.RLIMIT_DATA, trial.bytes_max),
        (resource.RLIMIT_CPU, cpu_s_max),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
    ):
        resource.setrlimit(limit, (value, value))
    frame = np.zeros((1, height, width, 3), np.uint8)
    path = Path(trial.graph)
    try:
        if trial.library == "openvino":
            weights = Path(trial.weights) if trial.weights else None
            graph = OpenVinoGraph(path, output=trial.outputs[0], threads=_THREADS, weights=weights)
            if graph.shapes[0] == f"[1,{height},{width},3]":  # else the engine that opens it says what is wrong
                graph(frame)
        else:
            OnnxRuntimeGraph(path, outputs=trial.outputs, threads=_THREADS)(frame)
    except DarksegError as error:
        print(error, file=sys.stderr)
        return REFUSED
    except MemoryError:
        print(f"{path} is refused: it takes more than {trial.bytes_max / 2**30:.1f} GiB of memory", file=sys.stderr)
        return REFUSED
    return 0
