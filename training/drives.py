"""A stage that takes a folder of images, run over many drives: bags, videos and folders, here or on a Ray cluster."""

from __future__ import annotations

import os
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from darkseg_ros.commands.options import add_ray_option
from darkseg_ros.errors import InputError
from darkseg_ros.fleet.drives import Drive, means_several
from darkseg_ros.fleet.many_drives import Written, write_of_drives
from darkseg_ros.fleet.places import fetched, folder_for, is_remote, place_in
from darkseg_ros.frames.bad_frames import BadFrames
from darkseg_ros.frames.bag_images import ImageChoice, write_images
from darkseg_ros.frames.bags import is_bag

Stage = Callable[[Path, Path, str], int]
"""Takes a folder of images, the folder to write and what the drive is called; returns how many images it did."""


def add_drive_options(parser: ArgumentParser) -> None:
    """``--ray`` and ``--resume``."""
    add_ray_option(parser)
    parser.add_argument("--resume", action="store_true", help="of many drives: leave out those that are done")


def are_many(wanted: Sequence[str], arguments: Namespace) -> bool:
    """Whether a command line means other than one folder of images of this machine."""
    elsewhere = arguments.ray is not None or is_remote(arguments.out)
    return elsewhere or means_several(wanted) or not _holds_images(Path(wanted[0]))


@dataclass(frozen=True)
class StageOnDrive:
    """The work on one drive of many, in a folder of its name.

    Attributes:
        stage: what is done; on a cluster it is pickled.
        out: folder of all, path or URL.
    """

    stage: Stage
    out: str

    def __call__(self, drive: Drive) -> Written:
        """Do it; what lies in object storage is copied here, and frames of a bag or video are images, for the time."""
        bad_frames = BadFrames(tell=lambda _: None)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # as on a worker that shares its machine: the same bytes however many there are
        try:
            with _images_of(drive.place, bad_frames) as images, folder_for(place_in(self.out, drive.name)) as folder:
                return Written(self.stage(images, folder, drive.place), bad_frames.count)
        finally:
            torch.set_num_threads(threads)


def run_on_drives(
    stage: Stage, wanted: Sequence[str], arguments: Namespace, *, what: str, settings: Mapping[str, Any]
) -> None:
    """Run a stage on every drive, as `write_of_drives` does.

    Args:
        stage: what is done.
        wanted: bags, videos, folders of images, globs and URLs.
        arguments: ``out``, which gets a folder for each drive, and those of `add_drive_options`.
        what: the files are called.
        settings: of the stage; where the run is resumed, they must be the same.

    Raises:
        InputError: as `write_of_drives`, if a drive failed, or under ``fabric run``, whose processes share out images.
    """
    if "LT_CLI_USED" in os.environ:
        raise InputError("fabric run shares out the images of one folder; start many drives without it, or with --ray")
    out = arguments.out if is_remote(arguments.out) else str(Path(arguments.out).absolute())
    status = write_of_drives(
        StageOnDrive(stage, out),
        wanted,
        out=out,
        what=what,
        settings=settings,
        ray=arguments.ray,
        resume=arguments.resume,
        strict=False,
    )
    if status:
        raise InputError("not all drives are done; mend those named above and go on with --resume")


@contextmanager
def _images_of(place: str, bad_frames: BadFrames) -> Iterator[Path]:
    with fetched(place) as path:
        if _holds_images(path):
            yield path
            return
        with tempfile.TemporaryDirectory(prefix="darkseg-") as folder:
            write_images(path, Path(folder), ImageChoice(), bad_frames=bad_frames)
            yield Path(folder)


def _holds_images(path: Path) -> bool:
    return path.is_dir() and not is_bag(path)
