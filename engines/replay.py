"""Whether a bundle still answers a drive as it did, pixel by pixel: the replay gate.

    python -m engines.replay              # judge; exit status 3 for a difference
    python -m engines.replay --accept     # take today's answers for the reference; the differences go to out/replay

The reference (engines/replay_reference) holds, for each instruction set that the CPU graph's kernels differ by, a hash
of every class map and confidence map, and every eighth pixel of them. A machine judges all the sets that its CPU has,
each in a process of its own that is limited to it. A bundle's answers must be identical where instruction set, library
and frames are those of the reference. Where one of them is another, each class map must agree with the reference on the
share of pixels that the bundle's golden answer asks for.

Drives: twelve frames of the generated street, by night and by day, and, where DARKSEG_DATA (default ../shared/data) has
it, 60 frames (12 s) of replay/tmo324_night.mp4. The generated drive is answered twice, by two engines, and the time of
a frame is told as a ratio to a matrix product of the same run.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

from darkseg_ros.benchmark.machine import read_instruction_sets
from darkseg_ros.errors import DarksegError, one_line
from darkseg_ros.frames.videos import open_video
from darkseg_ros.installed_files import default_bundle
from darkseg_ros.model.bundle import GoldenMatch, load_bundle
from darkseg_ros.model.segmenter import Segmenter
from darkseg_ros.synthetic_drive import SyntheticDrive
from darkseg_ros.whole_files import write_whole
from engines.replay_page import Change, write_page

REFERENCE = Path(__file__).parent / "replay_reference"
PAGE = Path("out/replay/index.html")
ISA_OF_SET = {"AVX2": "AVX2", "AVX-512 VNNI": "AVX512_CORE_VNNI", "AMX int8": "AVX512_CORE_AMX"}
"""Names of `read_instruction_sets`, and the value of ONEDNN_MAX_CPU_ISA that limits OpenVINO's CPU kernels to them."""

NEAREST_SET = "AVX-512 VNNI"
"""Whose answers those of a CPU with none of the sets are compared with."""

TIME_RATIO_MAX = 1.6
"""A frame may take so many times the reference's ratio to the matrix product."""

SAMPLE_STEP = 8
_REAL_FRAMES, _REAL_STEP = 60, 6
_DIFFERENCE = 3
_SIZE_HW = (270, 480)
_KERNEL_SIDE = 384


@dataclass(frozen=True)
class Answers:
    """What a segmenter answered to one drive.

    Attributes:
        frames_sha256: of the pixels that went in.
        library: the engine's name and version, without its number of threads.
        bundle_sha256: of the CPU graph and its weights.
        class_map_sha256: one for each frame, over the map in camera geometry.
        confidence_sha256: the same.
        class_maps: (N, h, w) uint8, every SAMPLE_STEP-th pixel along each axis.
        confidences: (N, h', w') uint8, every second of these along each axis.
        time_ratio: processor time of a frame over that of the reference kernel, medians of one run; None where the
            drive was answered once.
        repeated: whether a second engine gave the same maps; None where none was asked.
    """

    frames_sha256: str
    library: str
    bundle_sha256: str
    class_map_sha256: tuple[str, ...]
    confidence_sha256: tuple[str, ...]
    class_maps: np.ndarray
    confidences: np.ndarray
    time_ratio: float | None
    repeated: bool | None

    def save(self, path: Path) -> None:
        """Write an .npz without pickles, the same bytes for the same answers."""
        facts = {name: value for name, value in asdict(self).items() if not isinstance(value, np.ndarray)}
        with tempfile.TemporaryDirectory() as folder:
            unfinished = Path(folder) / "answers.npz"
            text = np.frombuffer(json.dumps(facts).encode(), np.uint8)
            np.savez_compressed(unfinished, facts=text, class_maps=self.class_maps, confidences=self.confidences)
            write_whole(path, unfinished.read_bytes())

    @classmethod
    def load(cls, path: Path) -> Answers:
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            facts = json.loads(arrays["facts"].tobytes())
            for name in ("class_map_sha256", "confidence_sha256"):
                facts[name] = tuple(facts[name])
            return cls(**facts, class_maps=arrays["class_maps"], confidences=arrays["confidences"])


@dataclass(frozen=True)
class Verdict:
    """On one drive and instruction set: what was found, and why that fails; empty where it does not."""

    drive: str
    instruction_set: str
    found: str
    failure: str = ""


def generated_drive() -> list[np.ndarray]:
    """Twelve frames of the generated street, eight by night and four by day, (H, W, 3) uint8 BGR."""
    night, day = (SyntheticDrive(seed=15, size_hw=_SIZE_HW, night=is_night) for is_night in (True, False))
    return [night.frame(45 * index).bgr for index in range(8)] + [day.frame(90 * index).bgr for index in range(4)]


def real_drive() -> list[np.ndarray] | None:
    """60 frames of a real night drive, every sixth; None where there is none."""
    path = Path(os.environ.get("DARKSEG_DATA", "../shared/data")) / "replay" / "tmo324_night.mp4"
    if not path.is_file():
        return None
    frames = (frame.bgr for frame in open_video(path).read_frames() if frame.index % _REAL_STEP == 0)
    return list(islice(frames, _REAL_FRAMES))


DRIVES = {"generated": generated_drive, "tmo324": real_drive}


def answer(bundle: Path, frames: Sequence[np.ndarray], *, twice: bool) -> Answers:
    """Segment frames with the bundle's CPU graph on one thread, in this process.

    Args:
        bundle: folder.
        frames: (H, W, 3) uint8 BGR, all of one size.
        twice: open a second engine and compare; measures the time, too.

    Raises:
        BundleError: if the bundle is none.
        EngineError: if OpenVINO cannot run it.
    """
    first = _run(bundle, frames, timed=twice)
    if not twice:
        return first
    second = _run(bundle, frames, timed=True)
    ratios = [run.time_ratio for run in (first, second) if run.time_ratio is not None]
    same = (first.class_map_sha256, first.confidence_sha256) == (second.class_map_sha256, second.confidence_sha256)
    return replace(first, repeated=same, time_ratio=min(ratios))


def _run(bundle: Path, frames: Sequence[np.ndarray], *, timed: bool) -> Answers:
    digest = hashlib.sha256()
    maps: list[tuple[np.ndarray, np.ndarray]] = []
    frame_s, kernel_s = [], []
    matrix = np.random.default_rng(0).random((_KERNEL_SIDE, _KERNEL_SIDE), np.float32)
    segmenter = Segmenter.open(bundle, backend="openvino", threads=1)
    try:
        for bgr in frames:
            digest.update(np.ascontiguousarray(bgr).tobytes())
            started_s = time.process_time()
            segmentation = segmenter(bgr)
            maps.append((segmentation.class_map, segmentation.confidence))
            frame_s.append(time.process_time() - started_s)
            if timed:
                started_s = time.process_time()
                for _ in range(4):
                    matrix @ matrix
                kernel_s.append((time.process_time() - started_s) / 4)
    finally:
        segmenter.close()
    files = segmenter.bundle.cpu_graph.sha256 + segmenter.bundle.cpu_weights.sha256
    return Answers(
        frames_sha256=digest.hexdigest(),
        library=segmenter.engine.name.partition(",")[0],
        bundle_sha256=hashlib.sha256(files.encode()).hexdigest(),
        class_map_sha256=tuple(_sha256(class_map) for class_map, _ in maps),
        confidence_sha256=tuple(_sha256(confidence) for _, confidence in maps),
        class_maps=np.stack([_sampled(class_map) for class_map, _ in maps]),
        confidences=np.stack([_sampled(confidence)[::2, ::2] for _, confidence in maps]),
        time_ratio=float(np.median(frame_s) / np.median(kernel_s)) if timed else None,
        repeated=None,
    )


def _sha256(values: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()


def _sampled(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values[SAMPLE_STEP // 2 :: SAMPLE_STEP, SAMPLE_STEP // 2 :: SAMPLE_STEP])


def sets_of_this_cpu() -> tuple[str, ...]:
    """The instruction sets of ISA_OF_SET that this CPU has."""
    return tuple(name for name in ISA_OF_SET if name in read_instruction_sets())


def answers_by_set(bundle: Path) -> Iterator[tuple[str, dict[str, Answers]]]:
    """Answers to each drive that is there, by each instruction set of this CPU; by "other" where it has none.

    Each set has a process of its own.

    Args:
        bundle: folder.

    Raises:
        DarksegError: if such a process fails.
    """
    for name in sets_of_this_cpu() or ("other",):
        environment = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        if name in ISA_OF_SET:
            environment["ONEDNN_MAX_CPU_ISA"] = ISA_OF_SET[name]
        with tempfile.TemporaryDirectory() as folder:
            child = subprocess.run(
                [sys.executable, "-m", "engines.replay", "--bundle", str(bundle), "--answers-to", folder],
                env={**os.environ, **environment},
                capture_output=True,
                text=True,
                check=False,
            )
            if child.returncode != 0:
                raise DarksegError(f"no answers by {name}: {child.stderr}")
            paths = {drive: Path(folder) / f"{drive}.npz" for drive in DRIVES}
            yield name, {drive: Answers.load(path) for drive, path in paths.items() if path.is_file()}


def _write_answers(bundle: Path, folder: Path) -> None:
    """What such a process does."""
    for drive, frames_of in DRIVES.items():
        frames = frames_of()
        if frames is not None:
            answer(bundle, frames, twice=drive == "generated").save(folder / f"{drive}.npz")


def judge(answers: Answers, reference: Answers | None, *, same_set: bool, least: GoldenMatch) -> tuple[str, str]:
    """Compare answers with the reference's.

    Args:
        answers: of today.
        reference: None where there is none.
        same_set: whether they were made by the instruction set of the reference.
        least: how well the maps of a drive must match where identity cannot be asked for.

    Returns:
        What was found, and why that fails; the latter empty where it does not.
    """
    if answers.repeated is False:
        return "another answer the second time", "two engines of one run gave different maps for the same frames"
    if reference is None:
        return "no reference", "there is no reference to compare with"
    if answers.class_maps.shape != reference.class_maps.shape:
        return "other frames", f"{answers.class_maps.shape} maps, the reference has {reference.class_maps.shape}"
    match = match_of(answers, reference)
    found = (
        f"{match.agreement:.3%} of the pixels have the reference's class, the confidence is "
        f"{match.confidence_difference:.2f} of 255 off"
    )
    reasons = {
        "the instruction set": not same_set,
        "the library": answers.library != reference.library,
        "the frames' pixels": answers.frames_sha256 != reference.frames_sha256,
    }
    if others := [reason for reason, differs in reasons.items() if differs]:
        found += f" ({' and '.join(others)} {'differs' if len(others) == 1 else 'differ'} from the reference's)"
        if match.reaches(least):
            return found, ""
        return found, f"{found}, expected {least.agreement:.1%} and {least.confidence_difference:.2f}"
    of_maps = {
        "class map": (answers.class_map_sha256, reference.class_map_sha256),
        "confidence": (answers.confidence_sha256, reference.confidence_sha256),
    }
    for what, (ours, theirs) in of_maps.items():
        if changed := sum(one != other for one, other in zip(ours, theirs, strict=True)):
            return found, f"{changed} of {len(ours)} {what}s differ from the reference's; {found}"
    if answers.time_ratio is None or reference.time_ratio is None:
        return "identical", ""
    found = (
        f"identical; a frame takes {answers.time_ratio:.1f} matrix products, the reference {reference.time_ratio:.1f}"
    )
    too_slow = answers.time_ratio > TIME_RATIO_MAX * reference.time_ratio
    return found, f"{found}: more than {TIME_RATIO_MAX} times as long" if too_slow else ""


def match_of(answers: Answers, reference: Answers) -> GoldenMatch:
    """Over all sampled pixels of a drive."""
    differences = np.abs(answers.confidences.astype(np.int16) - reference.confidences)
    return GoldenMatch(float((answers.class_maps == reference.class_maps).mean()), float(differences.mean()))


def reference_path(folder: Path, drive: str, instruction_set: str) -> Path:
    """The file of one drive and instruction set."""
    return folder / f"{drive}_{instruction_set.lower().replace('-', '').replace(' ', '_')}.npz"


def replay(bundle: Path, *, reference: Path = REFERENCE, accept: bool = False) -> list[Verdict]:
    """Judge a bundle, or take its answers for the reference.

    Args:
        bundle: folder.
        reference: folder of the reference.
        accept: write the reference of every set that this CPU has, and PAGE with the differences from the one before.

    Raises:
        BundleError: if the bundle is none.
        DarksegError: if a process that answers fails.
    """
    least = load_bundle(bundle).cpu_match
    verdicts: list[Verdict] = []
    changes: list[Change] = []
    for name, answers_of in answers_by_set(bundle):
        same_set = name in ISA_OF_SET
        for drive in DRIVES:
            answers = answers_of.get(drive)
            if answers is None:
                verdicts.append(Verdict(drive, name, "not judged: its video is not below DARKSEG_DATA"))
                continue
            path = reference_path(reference, drive, name if same_set else NEAREST_SET)
            before = Answers.load(path) if path.is_file() else None
            found, failure = judge(answers, before, same_set=same_set, least=least)
            if accept and same_set and answers.repeated is not False:
                if before is not None and before.class_maps.shape == answers.class_maps.shape:
                    changes.append(Change(f"{drive}, {name}", DRIVES[drive], before.class_maps, answers.class_maps))
                answers.save(path)
                found, failure = f"accepted; before: {failure or found}", ""
            verdicts.append(Verdict(drive, name, found, failure))
    if accept:
        write_page(PAGE, changes, load_bundle(bundle))
    return verdicts


def main(arguments: list[str] | None = None) -> int:
    """Run from the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, help="the model's folder (default: the shipped one)")
    parser.add_argument("--accept", action="store_true", help=f"write {REFERENCE.name}, and the differences to {PAGE}")
    parser.add_argument("--answers-to", type=Path, help=argparse.SUPPRESS)  # of a process of `answers_by_set`
    parsed = parser.parse_args(arguments)
    bundle = parsed.bundle or default_bundle()
    try:
        if parsed.answers_to:
            _write_answers(bundle, parsed.answers_to)
            return 0
        verdicts = replay(bundle, accept=parsed.accept)
    except (DarksegError, OSError) as error:
        print(f"replay: {one_line(error)}", file=sys.stderr)
        return 1
    for verdict in verdicts:
        print(f"{verdict.drive}, {verdict.instruction_set}: {verdict.failure or verdict.found}")
    if parsed.accept:
        print(f"reference: {REFERENCE}\ndifferences: {PAGE}")
    failed = any(verdict.failure for verdict in verdicts)
    if failed:
        print("replay: if that is meant, accept it with `python -m engines.replay --accept`", file=sys.stderr)
    return _DIFFERENCE if failed else 0


if __name__ == "__main__":
    sys.exit(main())
