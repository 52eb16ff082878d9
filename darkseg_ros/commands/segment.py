"""`darkseg segment`: class maps of images, folders, videos and bags, without ROS."""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from darkseg_ros.commands.offline_segmentation import Outputs, plan_segmentation, segment_files
from darkseg_ros.commands.options import (
    add_model_options,
    add_ray_option,
    add_selection_options,
    add_strict_option,
    bundle_of,
    open_offline_segmenter,
    selection_of,
    worker_device,
)
from darkseg_ros.commands.sidecar import plan_sidecar, write_sidecar
from darkseg_ros.fleet.drives import Drive, means_several
from darkseg_ros.fleet.many_drives import Written, write_of_drives
from darkseg_ros.fleet.places import fetched, folder_for, is_remote, place_in
from darkseg_ros.fleet.worker_model import open_once
from darkseg_ros.frames.bad_frames import BadFrames
from darkseg_ros.frames.source import FrameSelection
from darkseg_ros.model.bundle import load_bundle
from darkseg_ros.whole_files import sha256_of

_PICTURE_OPTIONS = ("overlay", "side_by_side", "color", "palette", "label_ids")
_SELECTION_OPTIONS = ("start", "duration", "every_nth")


def declare(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    parser.description = (
        "Class maps of every frame. Folders of bags, globs in quotes, URLs and --ray make a folder OUT/<name> for each "
        "drive; one that fails is told, and the others go on."
    )
    parser.add_argument("input", nargs="+", help="image, folder of images, video or rosbag2 bag; or many")
    parser.add_argument("--out", required=True, help="folder for the class maps (PNG, train ids); of many a URL too")
    parser.add_argument(
        "--sidecar",
        action="store_true",
        help="instead of pictures, write class maps, confidence, label info and diagnostics of each bag to a bag of "
        "their own with the same stamps: OUT/<bag>_predictions",
    )
    parser.add_argument("--overlay", action="store_true", help="also write overlays: JPEGs, for videos and bags an MP4")
    parser.add_argument("--side-by-side", action="store_true", help="overlays with the camera image on their left")
    parser.add_argument("--color", action="store_true", help="also write <name>_color.png, in the classes' colours")
    parser.add_argument("--palette", action="store_true", help="also write <name>_palette.png, train ids with colours")
    parser.add_argument("--label-ids", action="store_true", help="also write <name>_labelIds.png, raw label ids")
    add_selection_options(parser)
    parser.add_argument("--recursive", action="store_true", help="take the images of all folders below a folder")
    parser.add_argument("--resume", action="store_true", help="keep class maps that an earlier run wrote to --out")
    parser.add_argument("--topic", help="image topic of a bag that has several")
    add_strict_option(parser)
    add_model_options(parser)
    add_ray_option(parser)
    parser.set_defaults(run=partial(_run, parser))


@dataclass(frozen=True)
class SegmentDrive:
    """The work on one drive of many: its class maps in a folder of its name.

    Attributes:
        out: folder of all, path or URL.
        bundle: of the model.
        backend: of the model.
        device: of the backend.
        topic: image topic of bags that have several.
        selection: frames to take.
        recursive: take the images of all folders below a folder.
        outputs: what to write beside the class maps.
        resume: keep class maps that are there.
        strict: a frame that cannot be read fails its drive.
    """

    out: str
    bundle: Path
    backend: str
    device: str
    topic: str | None
    selection: FrameSelection
    recursive: bool
    outputs: Outputs
    resume: bool
    strict: bool

    def __call__(self, drive: Drive) -> Written:
        """Segment it; a drive in object storage is copied to this machine for the time."""
        bad_frames = BadFrames(strict=self.strict, tell=lambda _: None)
        with fetched(drive.place) as path, folder_for(place_in(self.out, drive.name)) as folder:
            plan = plan_segmentation(
                [path],
                out=folder,
                topic=self.topic,
                bad_frames=bad_frames,
                selection=self.selection,
                recursive=self.recursive,
            )
            # the folder bears the drive's name already
            plan = replace(plan, folders=(folder,))
            segmenter = open_once(self.bundle, self.backend, self.device)
            segmented = segment_files(plan, segmenter=segmenter, outputs=self.outputs, resume=self.resume)
        return Written(segmented.frames, bad_frames.count)


def _run(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    if arguments.sidecar:
        _check_sidecar(parser, arguments)
        _write_sidecars(arguments)
        return 0
    return _write_pictures(arguments)


def _check_sidecar(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    of_pictures = (*_PICTURE_OPTIONS, "recursive", "resume", "ray", *_SELECTION_OPTIONS)
    if given := [name for name in of_pictures if getattr(arguments, name) != parser.get_default(name)]:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        parser.error(f"a sidecar holds every frame and no pictures; leave out --sidecar or {options}")


def _write_sidecars(arguments: argparse.Namespace) -> None:
    bad_frames = BadFrames(strict=arguments.strict)
    plans = [plan_sidecar(Path(drive), out=Path(arguments.out), topic=arguments.topic) for drive in arguments.input]
    segmenter = open_offline_segmenter(arguments)
    try:
        for plan in plans:
            sidecar = write_sidecar(plan, segmenter=segmenter, bad_frames=bad_frames)
            print(
                f"predictions of {sidecar.frames} frames in {sidecar.path}, by {segmenter.bundle.name} on "
                f"{segmenter.engine.name}{bad_frames.summary()}"
            )
    finally:
        segmenter.close()


def _write_pictures(arguments: argparse.Namespace) -> int:
    outputs = Outputs(
        overlay=arguments.overlay,
        side_by_side=arguments.side_by_side,
        color=arguments.color,
        palette=arguments.palette,
        label_ids=arguments.label_ids,
    )
    if arguments.ray or is_remote(arguments.out) or any(means_several([each]) for each in arguments.input):
        load_bundle(bundle_of(arguments))
        work = SegmentDrive(
            out=arguments.out if is_remote(arguments.out) else str(Path(arguments.out).absolute()),
            bundle=bundle_of(arguments).absolute(),
            backend=arguments.backend,
            device=worker_device(arguments),
            topic=arguments.topic,
            selection=selection_of(arguments),
            recursive=arguments.recursive,
            outputs=outputs,
            resume=arguments.resume,
            strict=arguments.strict,
        )
        return write_of_drives(
            work,
            arguments.input,
            out=work.out,
            what="class maps",
            settings={
                **{name: value for name, value in asdict(work).items() if name not in ("out", "bundle", "resume")},
                "model": sha256_of(work.bundle / "model.json"),
            },
            ray=arguments.ray,
            resume=arguments.resume,
            strict=arguments.strict,
        )
    _segment_here(arguments, outputs)
    return 0


def _segment_here(arguments: argparse.Namespace, outputs: Outputs) -> None:
    bad_frames = BadFrames(strict=arguments.strict)
    plan = plan_segmentation(
        [Path(each) for each in arguments.input],
        out=Path(arguments.out),
        topic=arguments.topic,
        bad_frames=bad_frames,
        selection=selection_of(arguments),
        recursive=arguments.recursive,
    )
    segmenter = open_offline_segmenter(arguments)
    try:
        segmented = segment_files(plan, segmenter=segmenter, outputs=outputs, resume=arguments.resume)
    finally:
        segmenter.close()
    folders = ", ".join(map(str, segmented.folders))
    print(
        f"{segmented.frames} class map{'s' if segmented.frames != 1 else ''} in {folders}, "
        f"by {segmenter.bundle.name} on {segmenter.engine.name}{bad_frames.summary()}"
    )
