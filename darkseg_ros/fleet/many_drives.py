"""Verbs that write files of their own for every drive: which are done, which failed."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tqdm import tqdm

from darkseg_ros.errors import InputError
from darkseg_ros.fleet.drives import Drive, find_drives
from darkseg_ros.fleet.places import names_in, place_in, write_bytes
from darkseg_ros.fleet.run_record import begin_run
from darkseg_ros.fleet.runs import ray_cluster, run_drives
from darkseg_ros.frames.bad_frames import counted

DONE_FOLDER = "done"


@dataclass(frozen=True)
class Written:
    """What was written of one drive."""

    files: int
    bad_frames: int


def write_of_drives(
    work: Callable[[Drive], Written],
    wanted: Sequence[str],
    *,
    out: str,
    what: str,
    settings: Mapping[str, Any],
    ray: str | None,
    resume: bool,
    strict: bool,
) -> int:
    """Do the work on every drive, and note each that is done in ``OUT/done/``.

    Args:
        work: writes into a folder of `out` that is called like the drive.
        wanted: as `find_drives` takes them.
        out: folder, path or URL.
        what: the files are called.
        settings: of the work, as `begin_run` takes them.
        ray: as `ray_cluster` takes it.
        resume: leave out drives that are noted as done.
        strict: end at the first drive that fails.

    Returns:
        The exit status: 0, or 1 where a drive failed.

    Raises:
        InputError: if a drive cannot be found, two have the same name, `out` was made with other settings, or with
            `strict` at the first that fails.
    """
    drives = find_drives(wanted)
    twice = [name for name, count in Counter(drive.name for drive in drives).items() if count > 1]
    if twice:
        raise InputError(f"several drives are called {min(twice)} and would write one folder; give them one by one")
    done = names_in(place_in(out, DONE_FOLDER), ending=".json") if resume else set()
    begin_run(out, settings, resume=resume)
    missing = [drive for drive in drives if f"{drive.key}.json" not in done]
    if len(missing) < len(drives):
        print(f"{len(drives) - len(missing)} of {len(drives)} drives are done already")
    written = failed = bad_frames = 0
    with ray_cluster(ray), tqdm(total=len(missing), desc="drives", unit="drive", disable=None) as bar:
        for outcome in run_drives(work, missing, on_ray=ray is not None):
            bar.update()
            drive = outcome.drive
            if outcome.result is None:
                if strict:
                    raise InputError(f"{drive.place}: {outcome.error}")
                failed += 1
                tqdm.write(f"darkseg: not done: {drive.place}: {outcome.error}", file=sys.stderr)
                continue
            written += outcome.result.files
            bad_frames += outcome.result.bad_frames
            note = {"drive": drive.place, what.replace(" ", "_"): outcome.result.files}
            write_bytes(place_in(out, f"{DONE_FOLDER}/{drive.key}.json"), f"{json.dumps(note)}\n".encode())
    told = f"{written} {what} of {len(missing) - failed} drives in {out}"
    told += f", {counted(bad_frames, 'bad frame')} skipped" if bad_frames else ""
    print(f"{told}, {counted(failed, 'drive')} failed" if failed else told)
    return 1 if failed else 0
