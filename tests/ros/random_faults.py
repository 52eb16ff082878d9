"""Faults of clock, link, engine and disk at once, by chance: ``python -m tests.ros.random_faults``.

The node runs in this process with the fake engine (`DrivenNode`). The seed decides which fault begins when and how long
it lasts; several hold at the same time. What becomes of each frame is known beforehand, so every one is accounted for.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from darkseg_ros.model.backends.fake import FAILING_BGR, HANG_VARIABLE, HANGING_BGR
from darkseg_ros.nodes.middleware import prepare_middleware
from darkseg_ros.stream.frame_gate import REBASE_AFTER_NS
from darkseg_ros.whole_files import write_whole
from tests.bundles import write_tiny_bundle
from tests.ros.driven_node import DrivenNode, driven_node
from tests.ros.probe import bgr_of, image, scene
from tests.ros.soak import PICTURES, Footprint

PERIOD_NS = 33_000_000
HANG_MS = 20
FAULTS_PER_1000_FRAMES = 4
LONGEST_FAULT_FRAMES = 60
WARM_UP_SHARE = 0.2

CLOCK = ("clock_repeats", "clock_runs_back", "clock_leads", "clock_jumps_back")
LINK = ("link_down", "link_garbles")
ENGINE = ("engine_fails", "engine_hangs")
DISK = ("disk_full",)
KINDS = (*CLOCK, *LINK, *ENGINE, *DISK)
SERVED = "served"


@dataclass
class Drive:
    """The frames of a drive with faults: what is given to the node, and what it has to make of each."""

    driven: DrivenNode
    pictures: list[np.ndarray]
    reports: Path
    rng: np.random.Generator
    stamp_ns: int
    newest_ns: int = 0

    def __post_init__(self) -> None:
        self.expected: Counter[str] = Counter()
        self.begun: Counter[str] = Counter()
        self.rebases = self.lost_on_the_link = self.reports_written = self.reports_refused = 0
        self._until: dict[str, int] = {}
        self._limit = resource.getrlimit(resource.RLIMIT_FSIZE)

    def give(self, number: int) -> None:
        """The next frame, with whatever faults hold."""
        self._begin_and_end(number)
        self.stamp_ns += PERIOD_NS
        if "link_down" in self._until:
            self.lost_on_the_link += 1
            return
        picture, outcome = self._picture(number)
        stamp_ns, stamp_outcome = self._stamp()
        message = image(picture, stamp_ns)
        if "link_garbles" in self._until and self.rng.random() < 0.5:
            message.encoding, outcome = "plaid8", "undecodable"
        self.expected[stamp_outcome or outcome] += 1
        self.driven.give(message)
        if number % 25 == 0:
            self._write_report(number)

    def _begin_and_end(self, number: int) -> None:
        for kind in [kind for kind, until in self._until.items() if number >= until]:
            del self._until[kind]
            if kind == "disk_full":
                resource.setrlimit(resource.RLIMIT_FSIZE, self._limit)
        if self.rng.random() < FAULTS_PER_1000_FRAMES * len(KINDS) / 1000:
            kind = KINDS[int(self.rng.integers(len(KINDS)))]
            self.begun[kind] += 1
            if kind == "clock_jumps_back":
                self.stamp_ns -= 2 * REBASE_AFTER_NS + LONGEST_FAULT_FRAMES * PERIOD_NS
                return
            if kind == "disk_full":
                resource.setrlimit(resource.RLIMIT_FSIZE, (0, self._limit[1]))
            self._until[kind] = number + int(self.rng.integers(1, LONGEST_FAULT_FRAMES))

    def _picture(self, number: int) -> tuple[np.ndarray, str]:
        if "engine_fails" in self._until and self.rng.random() < 0.5:
            return bgr_of(FAILING_BGR), "engine_error"
        if "engine_hangs" in self._until and self.rng.random() < 0.1:
            return bgr_of(HANGING_BGR), SERVED
        return self.pictures[number % len(self.pictures)], SERVED

    def _stamp(self) -> tuple[int, str]:
        """The frame's stamp and, where that keeps it from being served, why."""
        if "clock_leads" in self._until and self.rng.random() < 0.5:
            return time.time_ns() + 3600 * 10**9, "future_stamp"
        if self.newest_ns and "clock_repeats" in self._until and self.rng.random() < 0.5:
            return self.newest_ns, "duplicate_stamp"
        if self.newest_ns and "clock_runs_back" in self._until and self.rng.random() < 0.5:
            return self.newest_ns - int(self.rng.integers(1, REBASE_AFTER_NS)), "backward_stamp"
        behind_ns = self.newest_ns - self.stamp_ns
        if 0 <= behind_ns <= REBASE_AFTER_NS:  # faults that followed a jump took the time that it went back
            return self.stamp_ns, "backward_stamp" if behind_ns else "duplicate_stamp"
        self.rebases += behind_ns > 0
        self.newest_ns = self.stamp_ns
        return self.stamp_ns, ""

    def _write_report(self, number: int) -> None:
        report = self.reports / "report.json"
        before = report.read_bytes() if report.is_file() else None
        try:
            write_whole(report, json.dumps({"frame": number}).encode())
        except OSError:
            self.reports_refused += 1
            assert "disk_full" in self._until
            assert (report.read_bytes() if report.is_file() else None) == before
        else:
            self.reports_written += 1
            assert json.loads(report.read_bytes()) == {"frame": number}

    def close(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, self._limit)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--frames", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    os.environ.setdefault(HANG_VARIABLE, str(HANG_MS))
    print(json.dumps(drive_through_faults(**vars(parser.parse_args()))))


def drive_through_faults(*, frames: int, seed: int) -> dict[str, Any]:
    """Give so many frames; the figures that `tests.ros.test_reliability_soak` judges."""
    prepare_middleware()
    pictures = [scene((number % 19, 200), seed=number) for number in range(PICTURES)]
    started_s = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        bundle = write_tiny_bundle(Path(folder) / "bundle")
        with driven_node(bundle, max_future_ms=1000) as driven:
            drive = Drive(driven, pictures, Path(folder), np.random.default_rng(seed), stamp_ns=time.time_ns() - 10**18)
            warm = Footprint.now()
            try:
                for number in range(frames):
                    if number == int(frames * WARM_UP_SHARE):
                        warm = Footprint.now()
                    drive.give(number)
            finally:
                drive.close()
            grown = Footprint.now().since(warm)
            figures = driven.figures
    return {
        "frames": frames,
        "frames_in": figures.frames_in,
        "lost_on_the_link": drive.lost_on_the_link,
        "in_progress": figures.frames_in_progress,
        "found": {SERVED: figures.frames_published}
        | {reason.value: count for reason, count in figures.frames_dropped.items() if count},
        "expected": {outcome: count for outcome, count in drive.expected.items() if count},
        "rebases": [figures.stamp_rebases, drive.rebases],
        "faults": dict(drive.begun),
        "reports": [drive.reports_written, drive.reports_refused],
        "grown": grown.as_dict(),
        "seconds": time.monotonic() - started_s,
    }


if __name__ == "__main__":
    main()
