"""A thousand generated drives on a Ray cluster of two nodes, one killed in the middle, against one process.

    make scale [ARGS="--drives 1000"]

The drives are three frames of 32×64 pixels each, answered by the fake engine: what is measured is all but the network.
24 of them differ, the others are links to these under names of their own.
Prints what docs/scale.md quotes; ends with 1 unless every file of the two evaluations has the same bytes.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from darkseg_ros.child_processes import start_python
from tests.bundles import write_tiny_bundle
from tests.core.evaluation.fleet.drives import HW, write_drive
from tests.ray_nodes import two_nodes

_DIFFERENT = 24
_KILL_AT = 0.4
_LOOK_EVERY_S = 0.2
_COMPARED = ("metrics.json", "result.jsonl", "run.json")


def main() -> int:
    """Run it from the command line."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--drives", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path("out/scale"))
    arguments = parser.parse_args()
    out: Path = arguments.out.absolute()
    shutil.rmtree(out, ignore_errors=True)
    bundle = write_tiny_bundle(out / "bundle", HW)
    for index in range(arguments.drives):
        drive = out / "drives" / f"drive_{index:05d}"
        if index < _DIFFERENT:
            write_drive(drive, wrong_share=index / 64, hours=index)
        else:
            shutil.copytree(out / "drives" / f"drive_{index % _DIFFERENT:05d}", drive, copy_function=os.link)
    print(f"{arguments.drives} drives written, load average {os.getloadavg()[0]:.1f}", flush=True)
    one = _evaluate(out, bundle, "one", [])
    with two_nodes() as (cluster, second):
        killed = _Kill(cluster, second, at=round(_KILL_AT * arguments.drives))
        ray = _evaluate(out, bundle, "ray", ["--ray", cluster.address], on_look=killed.look)
    different = [
        name
        for name in (*_COMPARED, *(f"drives/{path.name}" for path in (out / "one" / "drives").iterdir()))
        if (out / "one" / name).read_bytes() != (out / "ray" / name).read_bytes()
    ]
    rows = [json.loads(line) for line in (out / "ray" / "result.jsonl").read_text(encoding="utf-8").splitlines()]
    print(
        json.dumps(
            {
                "drives": arguments.drives,
                "node_killed_at": killed.killed_at,
                "lines": len(rows),
                "drives_in_lines": len({row["drive"] for row in rows}),
                "failed": sum("error" in row for row in rows),
                "different_files": different,
                "one_process": one,
                "two_nodes": ray,
                "load_average": os.getloadavg()[0],
            },
            indent=2,
        )
    )
    whole = len(rows) == arguments.drives == len({row["drive"] for row in rows})
    return 0 if whole and not different and killed.killed_at is not None else 1


class _Kill:
    """Kills a node once so many drives have their result."""

    def __init__(self, cluster: Any, node: Any, *, at: int) -> None:
        self._cluster, self._node, self._at = cluster, node, at
        self.killed_at: int | None = None

    def look(self, done: int) -> None:
        if self.killed_at is None and done >= self._at:
            self._cluster.remove_node(self._node, allow_graceful=False)
            self.killed_at = done


def _evaluate(out: Path, bundle: Path, name: str, options: list[str], on_look: Any = None) -> dict[str, Any]:
    """Run `darkseg evaluate` and watch its results and its memory."""
    command = ["-m", "darkseg_ros.commands.cli", "evaluate", str(out / "drives"), "--out", str(out / name)]
    process = start_python([*command, "--bundle", str(bundle), "--backend", "fake", *options])
    memory_mb: dict[int, float] = {}
    cpu_s = 0.0
    started = first = last = time.monotonic()
    done = 0
    while process.poll() is None:
        time.sleep(_LOOK_EVERY_S)
        before, done = done, len(list((out / name / "drives").glob("*.parquet")))
        if done > before:
            last = time.monotonic()
            first = last if not before else first
        if (resident := _resident_mb(process.pid)) and done:
            memory_mb[done // 100 * 100] = round(resident, 1)
        cpu_s = max(cpu_s, _cpu_s(process.pid))
        if on_look is not None:
            on_look(done)
    if process.returncode:
        sys.exit(f"`darkseg evaluate` ended with {process.returncode}")
    return {
        "wall_s": round(time.monotonic() - started, 1),
        "first_to_last_result_s": round(last - first, 1),
        "drives_per_s": round(done / max(last - first, 1e-9), 2),
        "cpu_s": cpu_s,
        "memory_mb_by_results": memory_mb,
    }


def _resident_mb(pid: int) -> float:
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS")), 0.0)


def _cpu_s(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    sys.exit(main())
