"""The `darkseg` command: work on files, without ROS but for `bag play`, `view` of a live node and a part of `bench`.

Each verb is a module of this folder with a function `declare(parser)`, which adds the verb's options and sets `run`,
what is called with the parsed options. Only the module of the verb that was called is imported.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from darkseg_ros.commands.interruption import second_interrupt_ends
from darkseg_ros.errors import DarksegError, one_line

_VERBS = {
    "segment": "class maps of images, folders, videos and bags",
    "evaluate": "mIoU and other figures against label maps, with a report",
    "view": "a page in the browser that shows a live node or a file",
    "bench": "latency, memory and CPU time of a model, alone and through ROS",
    "bag from-video": "turn a video into a bag",
    "bag from-images": "turn images, with or without label maps, into a bag",
    "bag to-images": "take images out of a drive, such as for training",
    "bag to-night": "add a night frame for each day frame of a bag",
    "bag play": "publish a bag's messages as they were recorded",
}
"""Each verb and its line in `--help`; `bag to-night` is the module bag_to_night."""

_GROUPS = {"bag": "make and play rosbag2 bags"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns:
        The exit status: 0, 1 for bad input, 2 for a bad command line, 3 when a figure of `evaluate` missed a
        threshold or `bench --compare` found a regression, 130 after Ctrl-C.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    try:
        arguments = _parser(argv).parse_args(argv)
        with second_interrupt_ends():
            status: int = arguments.run(arguments) or 0
        sys.stdout.flush()
    except BrokenPipeError:
        # the reader, such as `head`, has seen enough; Python would complain once more at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (DarksegError, OSError) as error:
        print(f"darkseg: {one_line(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return status


class _PrintVersion(argparse.Action):
    """Prints the version and ends; reads package.xml only when asked to."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from darkseg_ros.installed_files import package_version

        print(f"darkseg {package_version()}")
        parser.exit()


def _parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    """The parser of all verbs; only the verb that `argv` calls has its options."""
    parser = argparse.ArgumentParser(prog="darkseg", description="Segment night images and videos, make bags.")
    parser.add_argument("--version", action=_PrintVersion, nargs=0, help="print the version and end")
    groups = {"": parser.add_subparsers(required=True, metavar="COMMAND")}
    words = [word for word in argv if not word.startswith("-")]
    for name, summary in _VERBS.items():
        group, _, verb = name.rpartition(" ")
        if group not in groups:
            group_parser = groups[""].add_parser(group, help=_GROUPS[group])
            groups[group] = group_parser.add_subparsers(required=True, metavar="COMMAND")
        verb_parser = groups[group].add_parser(verb, help=summary)
        if name.split() == words[: len(name.split())]:
            import_module(f"darkseg_ros.commands.{name.replace(' ', '_').replace('-', '_')}").declare(verb_parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
