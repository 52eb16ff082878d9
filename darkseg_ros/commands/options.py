"""Options that several verbs have, and the types of their values."""

from __future__ import annotations

import argparse
from pathlib import Path

from darkseg_ros.errors import InputError
from darkseg_ros.fleet.runs import check_ray_option
from darkseg_ros.frames.source import FrameSelection
from darkseg_ros.installed_files import bundle_folder
from darkseg_ros.model.backends import BACKENDS, DEVICES
from darkseg_ros.model.backends.cpu_settings import usable_cpus
from darkseg_ros.model.backends.fake import FakeEngine
from darkseg_ros.model.segmenter import Segmenter

_STREAMS = 2


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """``--bundle``, ``--backend`` and ``--device``."""
    parser.add_argument("--bundle", type=Path, help="model bundle; default: the one that came with the package")
    parser.add_argument(
        "--backend",
        type=_backend,
        default="auto",
        metavar=f"{{{','.join(BACKENDS)}}}",
        help="inference library; default: %(default)s",
    )
    parser.add_argument(
        "--device",
        choices=DEVICES,
        default="auto",
        help="cuda: the first visible GPU; auto takes it if the backend can use it, else the CPU; default: %(default)s",
    )


def bundle_of(arguments: argparse.Namespace) -> Path:
    """The folder of the model that the options of `add_model_options` name."""
    return bundle_folder(arguments.bundle)


def open_segmenter(arguments: argparse.Namespace) -> Segmenter:
    """The model that the options of `add_model_options` name; the caller closes it."""
    return Segmenter.open(bundle_of(arguments), backend=arguments.backend, device=arguments.device)


def open_offline_segmenter(arguments: argparse.Namespace) -> Segmenter:
    """As `open_segmenter`, for verbs that no frame waits for: on the CPU, two frames at once where it has two cores.

    Threads that share one frame wait for each other, several times a layer.
    """
    streams = min(_STREAMS, len(usable_cpus()))
    return Segmenter.open(bundle_of(arguments), backend=arguments.backend, device=arguments.device, streams=streams)


def add_new_bag_options(parser: argparse.ArgumentParser) -> None:
    """``--out``, ``--compressed`` and ``--storage``."""
    parser.add_argument("--out", type=Path, required=True, help="the bag, a folder that does not exist yet")
    parser.add_argument("--compressed", action="store_true", help="write JPEGs instead of raw images")
    parser.add_argument("--storage", choices=("mcap", "sqlite3"), default="mcap")


def add_strict_option(parser: argparse.ArgumentParser) -> None:
    """``--strict``."""
    parser.add_argument(
        "--strict", action="store_true", help="end at the first frame that cannot be read; default: skip and count it"
    )


def add_selection_options(parser: argparse.ArgumentParser) -> None:
    """``--start``, ``--duration`` and ``--every-nth``."""
    parser.add_argument(
        "--start", type=_seconds, default=0.0, metavar="S", help="begin S seconds after the first frame"
    )
    parser.add_argument("--duration", type=positive, metavar="S", help="end S seconds later; default: at the end")
    parser.add_argument("--every-nth", type=count, default=1, metavar="N", help="take each N-th frame only")


def selection_of(arguments: argparse.Namespace) -> FrameSelection:
    """What the options of `add_selection_options` name."""
    return FrameSelection(start_s=arguments.start, duration_s=arguments.duration, every_nth=arguments.every_nth)


def add_ray_option(parser: argparse._ActionsContainer) -> None:
    """``--ray``."""
    parser.add_argument(
        "--ray",
        type=_ray,
        metavar="{auto,local[N],ADDRESS}",
        help="run the inputs side by side on a Ray cluster: the one this machine belongs to, N workers of this "
        "machine, or the one at an address; default: one after the other in this process",
    )


def worker_device(arguments: argparse.Namespace) -> str:
    """The device that ``--device`` names for many drives.

    Raises:
        InputError: if it is a GPU and the drives go to a cluster, whose workers are given processors only.
    """
    if arguments.ray and arguments.device == "cuda":
        raise InputError("the workers of --ray run on the CPU; leave out --device cuda, or --ray")
    return str(arguments.device)


def count(text: str) -> int:
    """A whole number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 on, got {text!r}")
    return int(text)


def number(text: str) -> float:
    """Any number."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number, got {text!r}") from None


def positive(text: str) -> float:
    """A number above 0."""
    value = number(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text}")
    return value


def share(text: str) -> float:
    """A number within 0…1."""
    value = number(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected a number within 0…1, got {text}")
    return value


def _seconds(text: str) -> float:
    value = number(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected seconds from 0 on, got {text}")
    return value


def _ray(text: str) -> str:
    try:
        return check_ray_option(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _backend(text: str) -> str:
    if text not in (*BACKENDS, FakeEngine.name):
        raise argparse.ArgumentTypeError(f"expected one of {', '.join(BACKENDS)}, got {text!r}")
    return text
