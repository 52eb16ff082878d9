"""`darkseg evaluate DRIVES…`: many drives, in this process or on a Ray cluster, with one report over all."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from tqdm import tqdm

from darkseg_ros.commands.options import bundle_of, worker_device
from darkseg_ros.errors import InputError
from darkseg_ros.evaluation.bag import BagTopics
from darkseg_ros.evaluation.fleet.comparison import RESULTS_FILE, Comparison, compare_with
from darkseg_ros.evaluation.fleet.judgement import JudgementSettings, judge_drive
from darkseg_ros.evaluation.fleet.page import render_fleet_page
from darkseg_ros.evaluation.fleet.result_file import from_parquet, to_parquet
from darkseg_ros.evaluation.fleet.summary import FleetResult, FleetSummary, JudgedDrive, TagTable, read_tags
from darkseg_ros.evaluation.report import METRICS_FILE, REPORT_FILE, check_output, versions, without_nan
from darkseg_ros.evaluation.thresholds import ThresholdResult, judge_figures
from darkseg_ros.fleet.drives import Drive, find_drives
from darkseg_ros.fleet.places import fetched, folder_for, is_remote, names_in, place_in, read_bytes, write_bytes
from darkseg_ros.fleet.run_record import begin_run
from darkseg_ros.fleet.runs import ray_cluster, run_drives
from darkseg_ros.frames.bad_frames import counted
from darkseg_ros.model.bundle import load_bundle
from darkseg_ros.pictures.report_shell import now_text
from darkseg_ros.whole_files import sha256_of, whole_file

DRIVES_FOLDER = "drives"
_ENDING = ".parquet"
MISSED = 3
_SHARES = (
    "miou_present",
    "miou",
    "pixel_accuracy",
    "ece",
    "consistency",
    "mean_confidence",
    "healthy_share",
    "dispersity",
    "trust",
)


@dataclass(frozen=True)
class JudgeDrive:
    """The work on one drive: from its place to the content of its result file."""

    settings: JudgementSettings

    def __call__(self, drive: Drive) -> bytes:
        """Judge it; a drive in object storage is copied to this machine for the time."""
        with fetched(drive.place) as path:
            return to_parquet(judge_drive(path, self.settings, place=drive.place))


def evaluate_fleet(arguments: argparse.Namespace) -> int:
    """Judge every drive, then add up.

    Returns:
        The exit status: 0, or 3 where a threshold was missed or a drive fell.

    Raises:
        InputError: if a drive cannot be found, `--out` holds another evaluation, no drive could be judged, or with
            `--strict` at the first that could not.
    """
    out = str(arguments.out)
    if not is_remote(out):
        check_output(Path(out))
    comparison = None if arguments.compare is None else compare_with(arguments.compare, fall=arguments.fall)
    tags = TagTable() if arguments.tags is None else read_tags(arguments.tags)
    settings = _settings_of(arguments)
    drives = find_drives(arguments.drives)
    for name in _unknown_drives(tags, drives):
        print(f"darkseg: {arguments.tags} names {name}, which is none of the drives", file=sys.stderr)
    done = _begin(out, settings, resume=arguments.resume)
    failures = _judge_missing(drives, done, settings, out=out, ray=arguments.ray, strict=arguments.strict)
    with folder_for(out) as folder:
        result = _add_up(drives, failures, tags, settings, out=out, folder=folder, comparison=comparison)
        thresholds = judge_figures(result.figures, arguments.thresholds or (), matching=result.figures["images"] != 0)
        fallen = comparison is not None and bool(comparison.fallen)
        repeat = [
            _command(each.drive, settings, unlabelled=not each.labelled)
            for each in (*result.worst_drives, *result.least_trusted)
        ]
        page = render_fleet_page(
            result,
            name=f"{len(drives)} drives",
            thresholds=thresholds,
            comparison=comparison,
            repeat=repeat,
            date=now_text(),
        )
        with whole_file(folder / METRICS_FILE) as metrics_path, whole_file(folder / REPORT_FILE) as page_path:
            metrics_path.write_text(_metrics_json(result, thresholds, comparison), encoding="utf-8")
            page_path.write_text(page, encoding="utf-8")
    _tell(result, thresholds, comparison, out=out)
    return MISSED if fallen or not all(threshold.passed for threshold in thresholds) else 0


def _settings_of(arguments: argparse.Namespace) -> JudgementSettings:
    try:
        ZoneInfo(arguments.timezone)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise InputError(f"there is no time zone {arguments.timezone!r}; expected one such as Europe/Berlin") from error
    return JudgementSettings(
        bundle=bundle_of(arguments).absolute(),
        backend=arguments.backend,
        device=worker_device(arguments),
        topics=BagTopics(
            image=arguments.image_topic, class_map=arguments.class_map_topic, invalid=arguments.invalid_topic
        ),
        label_topic=arguments.label_topic,
        unlabelled=arguments.unlabelled,
        recorded=arguments.bundle is None,
        classes=None if arguments.classes is None else arguments.classes.absolute(),
        timezone=arguments.timezone,
        strict=arguments.strict,
    )


def _unknown_drives(tags: TagTable, drives: list[Drive]) -> list[str]:
    known = {drive.name for drive in drives} | {drive.place for drive in drives}
    return sorted(set(tags.of_drive) - known)


def _begin(out: str, settings: JudgementSettings, *, resume: bool) -> set[str]:
    """Names of the results that are there; the settings are written beside them, or compared with those."""
    load_bundle(settings.bundle)
    asked = {
        **{name: value for name, value in asdict(settings).items() if name not in ("bundle", "classes")},
        "model": sha256_of(settings.bundle / "model.json"),
        "classes": None if settings.classes is None else sha256_of(settings.classes / "model.json"),
    }
    done = names_in(place_in(out, DRIVES_FOLDER), ending=_ENDING)
    if done and not resume:
        raise InputError(f"{out} holds results of {len(done)} drives; go on with --resume, or choose another --out")
    begin_run(out, asked, resume=resume)
    return done


def _judge_missing(
    drives: list[Drive], done: set[str], settings: JudgementSettings, *, out: str, ray: str | None, strict: bool
) -> dict[str, str]:
    """Judge the drives that have no result yet; why others failed, by their place."""
    missing = [drive for drive in drives if f"{drive.key}{_ENDING}" not in done]
    if len(missing) < len(drives):
        print(f"{len(drives) - len(missing)} of {len(drives)} drives have their result already")
    failures: dict[str, str] = {}
    if not missing:
        return failures
    with ray_cluster(ray), tqdm(total=len(missing), desc="drives", unit="drive", disable=None) as bar:
        for outcome in run_drives(JudgeDrive(settings), missing, on_ray=ray is not None):
            bar.update()
            if outcome.result is not None:
                write_bytes(place_in(out, f"{DRIVES_FOLDER}/{outcome.drive.key}{_ENDING}"), outcome.result)
                continue
            reason = outcome.error or ""
            if strict:
                raise InputError(f"{outcome.drive.place}: {reason}")
            failures[outcome.drive.place] = reason
            tqdm.write(f"darkseg: not judged: {outcome.drive.place}: {reason}", file=sys.stderr)
    return failures


def _add_up(
    drives: list[Drive],
    failures: Mapping[str, str],
    tags: TagTable,
    settings: JudgementSettings,
    *,
    out: str,
    folder: Path,
    comparison: Comparison | None,
) -> FleetResult:
    """Read every result in the order of the drives, and write a line for each."""
    summary = FleetSummary()
    with whole_file(folder / RESULTS_FILE) as path, path.open("w", encoding="utf-8") as lines:
        for drive in drives:
            row: dict[str, Any] = {"drive": drive.place, "name": drive.name}
            if drive.place in failures:
                reason = failures[drive.place]
                summary.fail(drive, reason)
                if comparison is not None:
                    comparison.add(drive, "", None)
                row |= {"error": reason, "ranked_by": None, "rank": None}
                row["command"] = _command(drive, settings, unlabelled=settings.unlabelled)
            else:
                name = f"{DRIVES_FOLDER}/{drive.key}{_ENDING}"
                content = read_bytes(place_in(out, name))
                if content is None:
                    raise InputError(f"{name} was removed from {out} meanwhile; evaluate again with --resume")
                judgement = from_parquet(content, name=name)
                judged = summary.add(judgement, tags.tags_of(drive))
                if comparison is not None:
                    comparison.add(drive, judged.ranked_by, judged.rank)
                row |= _row_of(judged)
                row["bad_frames"], row["sha256"] = judgement.bad_frames, judgement.sha256
                row["command"] = _command(drive, settings, unlabelled=not judged.labelled)
            lines.write(f"{json.dumps(row, ensure_ascii=False, allow_nan=False)}\n")
        return summary.result()


def _row_of(judged: JudgedDrive) -> dict[str, Any]:
    return {
        "ranked_by": judged.ranked_by,
        "rank": judged.rank,
        **judged.figures,
        "tags": dict(judged.tags),
        "worst_frame": judged.worst and judged.worst.name,
    }


def _command(drive: Drive, settings: JudgementSettings, *, unlabelled: bool) -> str:
    """What evaluates the one drive again, with a report of its own."""
    words = ["darkseg", "evaluate", drive.place, "--out", f"out/{drive.key}"]
    options = {
        "--bundle": None if settings.recorded else str(settings.bundle),
        "--backend": None if settings.backend == "auto" else settings.backend,
        "--device": None if settings.device == "auto" else settings.device,
        "--label-topic": settings.label_topic,
        "--image-topic": settings.topics.image,
        "--class-map-topic": settings.topics.class_map,
        "--invalid-topic": settings.topics.invalid,
        "--classes": None if settings.classes is None else str(settings.classes),
    }
    for option, value in options.items():
        if value is not None:
            words += [option, value]
    return shlex.join([*words, *(["--unlabelled"] if unlabelled else [])])


def _metrics_json(result: FleetResult, thresholds: tuple[ThresholdResult, ...], comparison: Comparison | None) -> str:
    """The content of metrics.json: nothing in it depends on the time or the number of workers."""
    content = {
        "bundle": result.bundle,
        "backend": result.backend,
        **result.figures,
        "ci95": result.ci95,
        "bad_frames": result.bad_frames,
        "groups": result.groups,
        "worst_drives": [_ranked(each) for each in result.worst_drives],
        "least_trusted_drives": [_ranked(each) for each in result.least_trusted],
        "worst_frames": [
            {"drive": each.drive.place, "camera": each.camera, "frame": each.frame.name, "value": each.frame.value}
            for each in result.worst_frames
        ],
        "failed": [{"drive": each.drive.place, "reason": each.reason} for each in result.failed],
        "compared_with": None if comparison is None else comparison.old,
        "fallen": None
        if comparison is None
        else [
            {"drive": each.drive.place, "figure": each.figure, "before": each.before, "now": each.now}
            for each in comparison.worst_first()
        ],
        "thresholds": [asdict(threshold) for threshold in thresholds],
        "passed": all(threshold.passed for threshold in thresholds) if thresholds else None,
        "versions": versions(),
    }
    return f"{json.dumps(without_nan(content), indent=2, ensure_ascii=False, allow_nan=False)}\n"


def _ranked(judged: JudgedDrive) -> dict[str, Any]:
    return {"drive": judged.drive.place, judged.ranked_by: judged.rank}


def _tell(
    result: FleetResult,
    thresholds: tuple[ThresholdResult, ...],
    comparison: Comparison | None,
    *,
    out: str,
) -> None:
    figures = result.figures
    print(f"{figures['drives']} drives, {figures['frames']} frames, {figures['images']} with a label map")
    for name in _SHARES:
        value = figures[name]
        if value is not None:
            print(f"{name:<16} {100 * value:5.1f} %")
    for title, drives in (("worst", result.worst_drives), ("least trusted", result.least_trusted)):
        for judged in drives[:5]:
            print(f"{title}: {judged.drive.place}, {judged.ranked_by} {100 * (judged.rank or 0):.1f} %")
    if result.bad_frames:
        print(f"{counted(result.bad_frames, 'bad frame')} skipped")
    if figures["failed_drives"]:
        print(f"{figures['failed_drives']} drives could not be judged; --resume tries them again")
    if comparison is not None:
        print(f"{len(comparison.fallen)} of {comparison.compared} drives fell against {comparison.old}")
        for each in comparison.worst_first()[:5]:
            now = "failed" if each.now is None else f"{100 * each.now:.1f} %"
            print(f"fell: {each.drive.place}, {each.figure} {100 * each.before:.1f} % → {now}")
    for threshold in thresholds:
        value_text = "not measured" if threshold.value is None else f"{threshold.value:.6g}"
        verdict = "passed" if threshold.passed else "MISSED"
        print(f"{verdict}: {threshold.figure} {value_text}, {threshold.bound} {threshold.limit:g}")
    print(f"report: {place_in(out, REPORT_FILE)}")
