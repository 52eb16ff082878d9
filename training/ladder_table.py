"""The ladder's page: our rows beside the thesis's, and whether its lessons hold here.

    python -m training.ladder_table --runs ladder/mini --second-seed ladder/second_seed/figures --out docs/ladder.md

Rows that were not run say so. Run it again after every row.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from pathlib import Path

from darkseg_ros.errors import DarksegError
from training.ladder.table import page_of, read_ladder
from training.runs.results import write_result


def main(arguments: list[str] | None = None) -> None:
    """Write the page from the command line."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, required=True, help="folder of the rows: figures of a params.yaml")
    parser.add_argument("--second-seed", type=Path, help="folder of rows that were run with another seed")
    parser.add_argument("--out", type=Path, required=True, help="the page, Markdown")
    parsed = parser.parse_args(arguments)
    try:
        again = read_ladder(parsed.second_seed) if parsed.second_seed else None
        write_result(parsed.out, page_of(read_ladder(parsed.runs), again))
    except DarksegError as error:
        sys.exit(f"ladder_table: {error}")


if __name__ == "__main__":
    main()
