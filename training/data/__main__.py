"""Look at data before a training, copy it into shards, or generate some.

    python -m training.data check ROOT [--data-set NAME] [--split NAME] [--sheet FILE.png]
    python -m training.data shard ROOT --out FOLDER [--data-set NAME] [--split NAME] [--shard-mb N]
    python -m training.data generate --out FOLDER [--images N] [--size-hw HEIGHT WIDTH]

Without --data-set the layout is told by the folders. The status of check is 1 where a file is broken or unpaired. shard
writes one split as WebDataset tar files and the index that training reads them by; a broken file ends it. generate
writes scenes of a drawn street with exact labels, for a first training without any data.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from pathlib import Path

from darkseg_ros.errors import InputError
from training.data.catalogue import CATALOGUE, data_set, layouts_of, origin_of
from training.data.check import check_pairs, contact_sheet
from training.data.generated import write_generated
from training.data.pairs import Source, find_source, source_of
from training.data.shards import write_shards
from training.runs.results import one_line_errors, write_picture


def main(arguments: list[str] | None = None) -> int:
    """Check from the command line; returns the exit status."""
    parser = ArgumentParser(prog="python -m training.data", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    check = verbs.add_parser("check", help="counts, sizes, classes, broken and unpaired files of a data set")
    check.add_argument("--sheet", type=Path, metavar="FILE.png", help="write some images above their label maps")
    shard = verbs.add_parser("shard", help="copy a labelled data set into tar files that training streams from")
    shard.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="new folder for them and their index")
    shard.add_argument("--shard-mb", type=int, default=512, metavar="N", help="size of a shard (%(default)s)")
    for verb, default in ((check, "each"), (shard, "its first")):
        verb.add_argument("root", type=Path, metavar="ROOT", help="folder of the data set")
        verb.add_argument("--data-set", choices=CATALOGUE, help="its name; default: told by the folders")
        verb.add_argument("--split", default="", help=f"of the data set; default: {default}")
    generate = verbs.add_parser("generate", help="scenes of a drawn street, with exact labels")
    generate.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="gets train, night and validation")
    generate.add_argument(
        "--images", type=int, default=160, metavar="N", help="labelled ones to train on (%(default)s)"
    )
    generate.add_argument("--size-hw", type=int, nargs=2, default=(128, 256), metavar=("HEIGHT", "WIDTH"))
    parsed = parser.parse_args(arguments)
    with one_line_errors("data"):
        if parsed.verb == "generate":
            write_generated(parsed.out, images=parsed.images, size_hw=tuple(parsed.size_hw))
            return 0
        name = parsed.data_set or layout_of(parsed.root)
        if parsed.verb == "check":
            return _check(parsed.root, name, parsed.split, parsed.sheet)
        return _shard(parsed.root, name, parsed.split, parsed.out, megabytes=parsed.shard_mb)


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


def _shard(root: Path, name: str, split: str, out: Path, *, megabytes: int) -> int:
    if megabytes < 1:
        raise InputError(f"--shard-mb is {megabytes}; expected 1 or more")
    pairs = find_source(source_of({"folder": root, "data_set": name, "split": split}))
    count = write_shards(pairs, out, data_set=name, shard_bytes=megabytes * 10**6)
    print(f"wrote {len(pairs)} images into {count} shards in {out}; train from them with data.source=")
    print(f"  [{{folder: {out}, data_set: shards}}]")
    return 0


if __name__ == "__main__":
    sys.exit(main())
