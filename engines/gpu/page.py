"""docs/gpu.md: what a GPU told, or "not yet run" for each step that has not run on one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from darkseg_ros.errors import InputError
from engines.gpu.steps import STEPS

NOT_YET_RUN = "not yet run"

_HEAD = """# What a GPU told

Written by `python -m engines.gpu --page docs/gpu.md`; do not edit. Run it on your own machine:

    make gpu                                        # with this checkout's environment, into out/gpu
    python3 -m engines.gpu --out FOLDER             # with any Python that has torch for CUDA, onnx, NumPy and OpenCV

Neither installs anything, writes outside its folder, or changes the GPU's settings. It ends within ten minutes
(`--limit-s`). Each step is a process of its own with a limit, and one that fails does not end the others. What is not
installed is skipped with the reason: `compute-sanitizer`, `onnxruntime-gpu`, `tensorrt` or `tensorrt-rtx-cu13`,
`torch_tensorrt`. `report.json` and `gpu.md` in the folder are the whole result, some kilobytes.

On a machine that is lent for minutes and has no network, this is the whole command, run in the root of the checkout.
The checkout is 17 MB and nothing else need be carried; `$OUT` is the folder that comes home:

    PYTHONUNBUFFERED=1 python3 -m engines.gpu --out "$OUT" --limit-s 540

At home, `python -m engines.gpu --report FOLDER/report.json --page docs/gpu.md` writes this page from it.
"""


def page(report: Mapping[str, Any] | None) -> str:
    """The page.

    Args:
        report: as `engines.gpu` writes it; None where there is none yet.
    """
    outcomes = {outcome["step"]: outcome for outcome in report["outcomes"]} if report else {}
    lines = [_HEAD, _machine_line(report), "", "| step | shows | outcome |", "|---|---|---|"]
    lines += [f"| {step.name} | {step.shows} | {_status(outcomes.get(step.name))} |" for step in STEPS]
    for step in STEPS:
        figures = outcomes.get(step.name, {}).get("figures")
        if figures:
            lines += ["", f"## {step.name}", "", "| figure | value |", "|---|---|"]
            lines += [f"| {name} | {_value(value)} |" for name, value in figures.items()]
    return "\n".join(lines) + "\n"


def read_report(path: Path) -> dict[str, Any]:
    """A report of `engines.gpu`.

    Raises:
        InputError: if the file holds none.
    """
    try:
        report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        page(report)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is no report of engines.gpu ({error}); name the report.json that it wrote") from error
    return report


def _machine_line(report: Mapping[str, Any] | None) -> str:
    if report is None:
        return (
            "No GPU has run it yet: every row says so. What the tests show without one stands in `tests/engines/gpu`."
        )
    machine: Mapping[str, Any] = next((each["figures"] for each in report["outcomes"] if each["step"] == "machine"), {})
    gpu, capability, cuda = (machine.get(name, "–") for name in ("gpu", "capability", "driver_cuda"))
    run = f"Run on {report['date']} with the bundle {report['bundle']} in {report['seconds']:.0f} s"
    return f"{run}. GPU: {gpu} ({capability}), driver for CUDA {cuda}."


def _status(outcome: Mapping[str, Any] | None) -> str:
    if outcome is None:
        return NOT_YET_RUN
    reason = f": {outcome['reason'][:300]}" if outcome["reason"] else ""
    return f"{outcome['status']} in {outcome['seconds']:.0f} s{_cell(reason)}"


def _value(value: Any) -> str:
    return _cell(json.dumps(value) if isinstance(value, dict | list) else str(value))


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
