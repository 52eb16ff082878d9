"""What a data set of the ladder holds, as a file that stages depend on wherever the data lie.

    python -m training.ladder_data FOLDER --out FILE

Writes the number of files below the folder and a digest of their names and sizes.
"""

from __future__ import annotations

import json
import os
import sys
from argparse import ArgumentParser
from pathlib import Path

from darkseg_ros.errors import DarksegError, InputError
from training.data.listing import files_digest
from training.runs.results import write_result


def main(arguments: list[str] | None = None) -> None:
    """Run the stage from the command line."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="root of the data set")
    parser.add_argument("--out", type=Path, required=True, help="JSON file")
    parsed = parser.parse_args(arguments)
    try:
        describe_folder(parsed.folder, parsed.out)
    except DarksegError as error:
        sys.exit(f"ladder_data: {error}")


def describe_folder(folder: Path, out: Path) -> None:
    """Write ``{"files": …, "digest": …}`` of all files below a folder.

    Raises:
        InputError: if the folder is missing or empty, or `out` cannot be written.
    """
    files = sorted(Path(parent) / name for parent, _, names in os.walk(folder) for name in names)
    if not files:
        raise InputError(f"there is no file in {folder}; set DARKSEG_DATA to the folder that holds the data sets")
    content = {"files": len(files), "digest": files_digest(files)}
    write_result(out, f"{json.dumps(content, indent=2)}\n")


if __name__ == "__main__":
    main()
