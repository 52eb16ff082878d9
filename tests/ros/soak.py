"""Many frames through the node's callback; figures and memory as JSON: ``python -m tests.ros.soak``.

The fake engine answers, or with ``--shipped-model`` the shipped bundle on frames of 1024×512.
"""

from __future__ import annotations

import argparse
import gc
import json
import re
import tempfile
import time
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from darkseg_ros.installed_files import default_bundle
from darkseg_ros.nodes.middleware import prepare_middleware
from darkseg_ros.stream.monitor import StreamFigures
from tests.bundles import write_tiny_bundle
from tests.ros.driven_node import DrivenNode, driven_node
from tests.ros.probe import image, scene

PICTURES = 50
WARM_UP_SHARE = 0.2


@dataclass(frozen=True)
class Footprint:
    """What this process holds.

    Attributes:
        mb: resident memory, 10⁶ bytes, without the middleware's shared segment, whose pages count once they were
            touched.
        descriptors: open files, sockets and pipes.
        threads: of all libraries.
    """

    mb: float
    descriptors: int
    threads: int

    @classmethod
    def now(cls) -> Footprint:
        gc.collect()
        own = Path("/proc/self")
        status = (own / "status").read_text(encoding="ascii")
        return cls(
            mb=sum(int(re.search(rf"{kind}:\s+(\d+) kB", status)[1]) for kind in ("RssAnon", "RssFile")) / 1000,
            descriptors=sum(1 for _ in (own / "fd").iterdir()),
            threads=sum(1 for _ in (own / "task").iterdir()),
        )

    def since(self, before: Footprint) -> Footprint:
        return Footprint(self.mb - before.mb, self.descriptors - before.descriptors, self.threads - before.threads)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--frames", type=int, required=True)
    parser.add_argument("--period-ms", type=float, default=0.0, help="0: each frame when the one before is served")
    parser.add_argument("--shipped-model", action="store_true")
    options = parser.parse_args()
    prepare_middleware()
    hw = (512, 1024) if options.shipped_model else (96, 128)
    pictures = [scene((number % 19, 200), hw, seed=number) for number in range(PICTURES)]
    started_s = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        bundle = default_bundle() if options.shipped_model else write_tiny_bundle(Path(folder))
        backend = "auto" if options.shipped_model else "fake"
        figures, grown = _soak(driven_node(bundle, backend=backend), pictures, options)
    print(
        json.dumps(
            {
                "frames_in": figures.frames_in,
                "frames_out": figures.frames_published,
                "dropped": {reason.value: count for reason, count in figures.frames_dropped.items() if count},
                "in_progress": figures.frames_in_progress,
                "latency_p99_ms": figures.latency_p99_ms,
                "grown": grown.as_dict(),
                "seconds": time.monotonic() - started_s,
            }
        )
    )


def _soak(
    node: AbstractContextManager[DrivenNode], pictures: list[np.ndarray], options: argparse.Namespace
) -> tuple[StreamFigures, Footprint]:
    """The node's own figures, and by how much it grew after the warm-up."""
    with node as driven:
        warm = Footprint.now()
        due_s = time.monotonic()
        for number in range(options.frames):
            if number == int(options.frames * WARM_UP_SHARE):
                warm = Footprint.now()
            message = image(pictures[number % PICTURES], time.time_ns())
            if options.period_ms:
                driven.give_and_go_on(message)
                due_s += options.period_ms / 1000
                time.sleep(max(0.0, due_s - time.monotonic()))
            else:
                driven.give(message)
        return driven.figures, Footprint.now().since(warm)


if __name__ == "__main__":
    main()
