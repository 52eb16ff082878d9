"""What a run over many drives was started with, written beside its results: `--resume` refuses to mix others in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from darkseg_ros.errors import InputError
from darkseg_ros.fleet.places import place_in, read_bytes, write_bytes

RUN_FILE = "run.json"


def begin_run(out: str, settings: Mapping[str, Any], *, resume: bool) -> None:
    """Write the settings to ``OUT/run.json``, or compare them with those that are there.

    Args:
        out: folder, path or URL.
        settings: of anything that JSON holds; a file by its checksum, so that its name and place may change.
        resume: go on with the run that `out` holds, if it holds one.

    Raises:
        InputError: if that run had other settings, or its record is damaged.
    """
    asked = json.loads(json.dumps(settings, default=str))
    content = read_bytes(place_in(out, RUN_FILE)) if resume else None
    if content is None:
        write_bytes(place_in(out, RUN_FILE), f"{json.dumps(asked, indent=2)}\n".encode())
        return
    try:
        before = json.loads(content)
    except ValueError as error:
        raise InputError(f"{RUN_FILE} in {out} is damaged: {error}; choose another --out") from error
    if changed := sorted(name for name in asked if before.get(name) != asked[name]):
        raise InputError(f"{out} was made with another {', '.join(changed)}; choose another --out")
