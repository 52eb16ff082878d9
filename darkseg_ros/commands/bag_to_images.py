"""`darkseg bag to-images`: take images out of a drive, such as for training."""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass
from pathlib import Path

from darkseg_ros.commands.options import (
    add_ray_option,
    add_selection_options,
    add_strict_option,
    count,
    number,
    positive,
    selection_of,
)
from darkseg_ros.errors import InputError
from darkseg_ros.fleet.drives import Drive, means_several
from darkseg_ros.fleet.many_drives import Written, write_of_drives
from darkseg_ros.fleet.places import fetched, folder_for, is_remote, place_in
from darkseg_ros.frames.bad_frames import BadFrames
from darkseg_ros.frames.bag_images import ImageChoice, write_images
from darkseg_ros.model.fid import ReferenceDistance


def declare(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    parser.description = (
        "Write frames of a bag or video as PNG files, chosen by time, by brightness, and by nearness to other images."
    )
    parser.add_argument("bag", nargs="+", help="rosbag2 bag or video; or many, with folders, globs in quotes and URLs")
    parser.add_argument("--out", required=True, help="folder for the images, made if needed; of many a URL too")
    parser.add_argument("--topic", help="image topic of a bag that has several")
    add_selection_options(parser)
    parser.add_argument("--every-s", type=positive, metavar="S", help="at least S seconds from image to image")
    parser.add_argument(
        "--level",
        type=number,
        nargs=2,
        metavar=("LOW", "HIGH"),
        help="only frames of such a histogram level, 0 (black) to 255; night is below 65",
    )
    parser.add_argument(
        "--fid-to",
        type=Path,
        metavar="FOLDER",
        help="those nearest to the images of a folder, by Fréchet distance (FID)",
    )
    parser.add_argument(
        "--fid-max", type=positive, metavar="D", help="with --fid-to: only frames at most so far (the thesis: 450)"
    )
    parser.add_argument(
        "--extractor",
        type=Path,
        metavar="FILE",
        help="with --fid-to: ONNX file of the network that gives the features, such as Inception's of "
        "`python -m training.fetch_inception --out inception.onnx`",
    )
    parser.add_argument(
        "--count", type=count, metavar="N", help="at most N of these: the nearest, or spread evenly over the drive"
    )
    parser.add_argument("--resume", action="store_true", help="of many drives: leave out those that are done")
    add_strict_option(parser)
    add_ray_option(parser)
    parser.set_defaults(run=_run)


@dataclass(frozen=True)
class TakeImages:
    """The work on one drive of many: its images in a folder of its name.

    Attributes:
        out: folder of all, path or URL.
        choice: which frames.
        topic: image topic of bags that have several.
        strict: a frame that cannot be read fails its drive.
    """

    out: str
    choice: ImageChoice
    topic: str | None
    strict: bool

    def __call__(self, drive: Drive) -> Written:
        """Take them; a drive in object storage is copied to this machine for the time."""
        bad_frames = BadFrames(strict=self.strict, tell=lambda _: None)
        with fetched(drive.place) as path, folder_for(place_in(self.out, drive.name)) as folder:
            written = write_images(path, folder, self.choice, topic=self.topic, bad_frames=bad_frames)
        return Written(written, bad_frames.count)


def _distance(arguments: argparse.Namespace) -> ReferenceDistance | None:
    if arguments.fid_to is None:
        return None
    if arguments.extractor is None:
        raise InputError(
            "--fid-to needs --extractor FILE, the network that gives the features, as ONNX; Inception, which FID is "
            "defined on: `python -m training.fetch_inception --out inception.onnx`, in the training environment"
        )
    if arguments.fid_max is None and arguments.count is None:
        raise InputError("--fid-to needs --count N or --fid-max D: without them every frame is near enough")
    return ReferenceDistance(arguments.fid_to, extractor=arguments.extractor)


def _run(arguments: argparse.Namespace) -> int:
    if arguments.level is not None and not arguments.level[0] <= arguments.level[1]:
        raise InputError("--level names the lower level first")
    if arguments.fid_to is None and (arguments.fid_max is not None or arguments.extractor is not None):
        raise InputError("--fid-max and --extractor go with --fid-to FOLDER")
    choice = ImageChoice(
        selection=selection_of(arguments),
        every_s=arguments.every_s,
        level=None if arguments.level is None else (arguments.level[0], arguments.level[1]),
        count=arguments.count,
        distance=_distance(arguments),
        distance_max=arguments.fid_max,
    )
    if arguments.ray or is_remote(arguments.out) or means_several(arguments.bag):
        out = arguments.out if is_remote(arguments.out) else str(Path(arguments.out).absolute())
        work = TakeImages(out, choice, arguments.topic, arguments.strict)
        return write_of_drives(
            work,
            arguments.bag,
            out=out,
            what="images",
            settings={name: value for name, value in asdict(work).items() if name != "out"},
            ray=arguments.ray,
            resume=arguments.resume,
            strict=arguments.strict,
        )
    bad_frames = BadFrames(strict=arguments.strict)
    bag, out = Path(arguments.bag[0]), Path(arguments.out)
    written = write_images(bag, out, choice, topic=arguments.topic, bad_frames=bad_frames)
    print(f"{written} images in {out}{bad_frames.summary()}")
    return 0
