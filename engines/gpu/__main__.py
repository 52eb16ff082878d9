"""Find out in ten minutes what this machine's GPU can tell about the project.

    python -m engines.gpu --out out/gpu

docs/gpu.md says what is needed and how to run it on a lent machine.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from darkseg_ros.errors import DarksegError, one_line
from darkseg_ros.installed_files import default_bundle
from darkseg_ros.model.bundle import load_bundle
from darkseg_ros.whole_files import write_whole
from engines.gpu.page import page, read_report
from engines.gpu.steps import FAILED, PASSED, STEPS, TIMED_OUT, run_all, run_here, to_json


def main(arguments: list[str] | None = None) -> int:
    """Run the steps; returns 0 where none failed, 1 for bad input or no GPU, 3 where one failed."""
    names = [step.name for step in STEPS]
    parser = argparse.ArgumentParser(prog="engines.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, help="model bundle (default: the shipped one)")
    parser.add_argument("--out", type=Path, default=Path("out/gpu"), help="folder (default: out/gpu)")
    parser.add_argument("--limit-s", type=float, default=560.0, help="for all steps together (default: 560)")
    parser.add_argument("--only", choices=names, nargs="+", help="these steps and no others")
    parser.add_argument("--report", type=Path, help="an earlier report.json: run nothing, write the page from it")
    parser.add_argument("--page", type=Path, help="also write the page to this file")
    parser.add_argument("--step", choices=names, help=argparse.SUPPRESS)  # what the processes of the steps are asked
    options = parser.parse_args(arguments)
    try:
        if options.report is not None:
            write_whole(options.page or options.out / "gpu.md", page(read_report(options.report)).encode())
            return 0
        folder = (options.bundle or default_bundle()).absolute()
        bundle = load_bundle(folder)
        if options.step is not None:
            print(run_here(next(step for step in STEPS if step.name == options.step), bundle))
            return 0
        started = time.monotonic()
        outcomes = run_all(
            [step for step in STEPS if options.only is None or step.name in options.only],
            bundle=folder,
            limit_s=options.limit_s,
            progress=lambda line: print(line, flush=True),
        )
        report = {
            "date": time.strftime("%Y-%m-%d"),
            "bundle": bundle.name,
            "seconds": round(time.monotonic() - started, 1),
            "outcomes": to_json(outcomes),
        }
        text = page(report)
        write_whole(options.out / "report.json", (json.dumps(report, indent=2) + "\n").encode())
        write_whole(options.out / "gpu.md", text.encode())
        if options.page is not None:
            write_whole(options.page, text.encode())
    except (DarksegError, OSError) as error:
        print(f"engines.gpu: {one_line(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    if not any(outcome.status == PASSED for outcome in outcomes):
        print(f"engines.gpu: no step passed; the first says: {outcomes[0].reason}", file=sys.stderr)
        return 1
    return 3 if any(outcome.status in (FAILED, TIMED_OUT) for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
