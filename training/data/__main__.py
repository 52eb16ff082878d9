"""Look at data before a training.

    python -m training.data check ROOT [--data-set NAME] [--split NAME] [--sheet FILE.png]

Without --data-set the layout is told by the folders. The status is 1 where a file is broken or unpaired.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from pathlib import Path

from darkseg_ros.errors import InputError
from training.data.catalogue import CATALOGUE, data_set, layouts_of, origin_of
from training.data.check import check_pairs, contact_sheet
from training.data.pairs import Source, find_source
from training.runs.results import one_line_errors, write_picture


def main(arguments: list[str] | None = None) -> int:
    """Check from the command line; returns the exit status."""
    parser = ArgumentParser(prog="python -m training.data", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    check = verbs.add_parser("check", help="counts, sizes, classes, broken and unpaired files of a data set")
    check.add_argument("root", type=Path, metavar="ROOT", help="its folder")
    check.add_argument("--data-set", choices=CATALOGUE, help="its name; default: told by the folders")
    check.add_argument("--split", default="", help="of the data set; default: each")
    check.add_argument("--sheet", type=Path, metavar="FILE.png", help="write some images above their label maps")
    parsed = parser.parse_args(arguments)
    with one_line_errors("data"):
        return _check(parsed.root, parsed.data_set or layout_of(parsed.root), parsed.split, parsed.sheet)


def layout_of(root: Path) -> str:
    """The one data set whose layout a folder has.

    Raises:
        InputError: if it has none, or several, which are named.
    """
    if not root.is_dir():
        raise InputError(f"{root} is not a folder; expected the root of a data set")
    found = layouts_of(root)
    if len(found) != 1:
        which = f"looks like {' and '.join(found)}" if found else "has the layout of none"
        raise InputError(f"{root} {which}; name one with --data-set: {', '.join(CATALOGUE)}")
    return found[0]


def _check(root: Path, name: str, split: str, sheet: Path | None) -> int:
    row = data_set(name)
    known = origin_of(root.resolve()) or row if name == "plain" else row
    print(f"{root}: {known.title}; terms: {known.terms}; {known.url or 'no home page'}")
    for merged, others in row.merged.items():
        print(f"its {merged} holds {', '.join(others)} too; data.source can ignore it")
    if row.read is None:
        assert row.read_unlabelled is not None
        for each in [split] if split else row.splits:
            print(f"{each}: {len(row.read_unlabelled(root, each))} images without labels")
        return 0
    status, shown = 0, []
    for each in [split] if split else row.splits:
        try:
            pairs = find_source(Source(str(root), name, each))
        except InputError as error:
            print(f"{each}: {error}")
            status = 1 if split or len(row.splits) == 1 else status
            continue
        report = check_pairs(pairs)
        print("\n".join(f"{each}: {line}" for line in report.lines()))
        status = 1 if report.broken else status
        shown += pairs
    if not shown:
        return 1
    picture = contact_sheet(shown) if sheet else None
    if sheet and picture is not None:
        write_picture(sheet, picture)
    return status


if __name__ == "__main__":
    sys.exit(main())
