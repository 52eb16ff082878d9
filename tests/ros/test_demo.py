"""The demo as a user runs it: its own process, a real node, a real player, real DDS between them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from darkseg_ros.commands.demo import InputFrame, match_records
from darkseg_ros.frames.bags import IMAGE_TOPIC, LABEL_TOPIC, START_STAMP_NS, BagWriter
from darkseg_ros.frames.videos import open_video
from darkseg_ros.pictures.video_writer import VideoWriter
from tests.bundles import write_tiny_bundle

pytest.importorskip("rclpy", reason="the demo plays through a ROS 2 node")

HW = (64, 128)
FRAMES = 20
RESULT = ["index.html", "metrics.json", "overlay.mp4"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle"), HW)


def demo_command(out: Path, bundle: Path, options: Sequence[str]) -> list[str]:
    return [
        *(sys.executable, "-m", "darkseg_ros.commands.demo", "--out", str(out)),
        *("--bundle", str(bundle), "--backend", "fake", *options),
    ]


def run_demo(out: Path, bundle: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        demo_command(out, bundle, options),
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
        env={**os.environ, **environment},
    )


def metrics_of(answer: subprocess.CompletedProcess[str], out: Path) -> dict[str, Any]:
    assert answer.returncode == 0, answer.stderr
    (line,) = answer.stdout.splitlines()
    metrics: dict[str, Any] = json.loads(line)
    assert json.loads((out / "metrics.json").read_text()) == metrics
    return metrics


def assert_every_frame_is_answered_or_dropped(metrics: dict[str, Any]) -> None:
    assert metrics["frames_in"] == metrics["frames_received"] == FRAMES
    assert metrics["frames_out"] == FRAMES - sum(metrics["dropped"].values())
    assert set(metrics["dropped"]) <= {"replaced_by_newer"}  # on a busy machine the node may fall behind
    assert metrics["lost"] == 0
    assert metrics["stamps_and_frame_ids_match"] is True


def only_error_line(answer: subprocess.CompletedProcess[str]) -> str:
    assert answer.returncode == 1, answer.stderr
    assert answer.stdout == ""
    assert "Traceback" not in answer.stderr
    return answer.stderr.splitlines()[-1]


def frame_count(video: Path) -> int:
    return sum(1 for _ in open_video(video).read_frames())


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def descendants_of(process_id: int) -> list[int]:
    children = Path(f"/proc/{process_id}/task/{process_id}/children").read_text().split()
    found = [int(child) for child in children]
    return found + [grandchild for child in found for grandchild in descendants_of(child)]


def command_line_of(process_id: int) -> str:
    return Path(f"/proc/{process_id}/cmdline").read_text().replace("\0", " ")


def is_running(process_id: int) -> bool:
    return Path(f"/proc/{process_id}").exists()


def write_video(path: Path) -> Path:
    with VideoWriter(path, rate_hz=20.0) as video:
        for index in range(FRAMES):
            video.write(np.full((*HW, 3), (10 * index, 120, 60), np.uint8))
    return path


def write_labelled_bag(path: Path, *, blue_of_label: dict[int, int]) -> Path:
    """Uniform images whose blue the fake backend answers, mod 19; the label maps hold the keys in turn."""
    labels = list(blue_of_label)
    with BagWriter(path) as bag:
        for index in range(FRAMES):
            label = labels[index % len(labels)]
            header: dict[str, Any] = {
                "stamp_ns": START_STAMP_NS + index * 50_000_000,
                "frame_id": "front_left",
            }
            bag.write_image(IMAGE_TOPIC, np.full((*HW, 3), (blue_of_label[label], 200, 0), np.uint8), **header)
            bag.write_image(LABEL_TOPIC, np.full(HW, label, np.uint8), encoding="mono8", **header)
    return path


@dataclass(frozen=True)
class Result:
    """What a run left behind.

    Attributes:
        out: its folder.
        metrics: as printed.
    """

    out: Path
    metrics: dict[str, Any]


@pytest.fixture(scope="module")
def of_a_video(tmp_path_factory: pytest.TempPathFactory, bundle: Path) -> Result:
    """Into a folder that holds a file of the user's and one of an earlier run."""
    folder = tmp_path_factory.mktemp("video")
    out = folder / "out" / "demo"
    out.mkdir(parents=True)
    (out / "notes.txt").write_text("mine")
    (out / "metrics.json").write_text("old")
    return Result(out, metrics_of(run_demo(out, bundle, "--input", str(write_video(folder / "night.mp4"))), out))


@pytest.fixture(scope="module")
def of_a_bag(tmp_path_factory: pytest.TempPathFactory, bundle: Path) -> Result:
    """Half of the frames road called road, half of them sky (10) called car (13)."""
    folder = tmp_path_factory.mktemp("bag")
    bag = write_labelled_bag(folder / "a < b & c", blue_of_label={0: 0, 10: 13})
    out = folder / "out" / "demo"
    return Result(out, metrics_of(run_demo(out, bundle, "--input", str(bag)), out))


def test_a_video_gives_a_class_map_for_every_frame(of_a_video: Result) -> None:
    metrics, out = of_a_video.metrics, of_a_video.out
    assert metrics["input"] == "night.mp4"
    assert metrics["bundle"] == "tiny"
    assert metrics["engine"] == "fake"
    assert metrics["frame_hw"] == list(HW)
    assert_every_frame_is_answered_or_dropped(metrics)
    assert 0 < metrics["age_p50_ms"] <= metrics["age_p95_ms"] <= metrics["age_p99_ms"]
    assert metrics["input_rate_hz"] == pytest.approx(20.0, rel=0.2)
    assert metrics["miou"] is None
    assert names_in(out.parent) == ["demo"]  # the work folder is gone
    assert frame_count(out / "overlay.mp4") == FRAMES


def test_the_page_stands_alone(of_a_bag: Result) -> None:
    page = (of_a_bag.out / "index.html").read_text(encoding="utf-8")
    assert "http" not in page
    assert "<title>Demo: tiny on a &lt; b &amp; c, 20" in page
    assert "The street below is generated" not in page
    assert page.count("data:image/jpeg;base64,") == 8 * 3  # camera, overlay and label map of eight frames
    assert 'src="overlay.mp4"' in page
    assert "a &lt; b &amp; c" in page
    assert "a < b" not in page


def test_label_maps_of_a_bag_give_the_iou_worked_by_hand(of_a_bag: Result) -> None:
    metrics = of_a_bag.metrics
    assert_every_frame_is_answered_or_dropped(metrics)
    occurring = {name: iou for name, iou in metrics["iou"].items() if iou is not None}
    assert occurring == {"road": 1.0, "sky": 0.0, "car": 0.0}
    assert metrics["miou"] == pytest.approx(1 / 3)
    assert metrics["miou_present"] == pytest.approx(1 / 2)


def test_frames_add_up_when_the_engine_is_slow(tmp_path: Path, bundle: Path) -> None:
    out = tmp_path / "demo"
    video = write_video(tmp_path / "night.mp4")
    answer = run_demo(out, bundle, "--input", str(video), DARKSEG_FAKE_ENGINE_DELAY_MS="150")
    metrics = metrics_of(answer, out)
    # 20 frames in a second, 150 ms each: about a third is served, the others give way to newer ones
    assert 3 <= metrics["frames_out"] <= 12
    assert metrics["dropped"].get("replaced_by_newer", 0) > 0
    accounted = metrics["frames_out"] + sum(metrics["dropped"].values()) + metrics["lost"]
    assert accounted == metrics["frames_in"] == FRAMES
    assert metrics["stamps_and_frame_ids_match"] is True
    assert frame_count(out / "overlay.mp4") == FRAMES


def test_without_input_it_drives_through_generated_night(tmp_path: Path, bundle: Path) -> None:
    out = tmp_path / "demo"
    metrics = metrics_of(run_demo(out, bundle, "--seconds", "0.3"), out)
    assert metrics["frames_in"] == 9
    assert metrics["frame_hw"] == [512, 1024]
    assert metrics["miou"] is not None


def test_a_rerun_replaces_only_its_own_files(of_a_bag: Result, of_a_video: Result) -> None:
    assert names_in(of_a_bag.out) == RESULT
    assert names_in(of_a_video.out) == sorted([*RESULT, "notes.txt"])
    assert (of_a_video.out / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("broken", ["missing", "empty", "cut", "folder", "no_images"])
def test_bad_input_is_one_line_and_leaves_the_earlier_result(tmp_path: Path, bundle: Path, broken: str) -> None:
    given = tmp_path / f"{broken}.mp4"
    if broken == "empty":
        given.touch()
    elif broken == "cut":
        content = write_video(tmp_path / "whole.mp4").read_bytes()
        given.write_bytes(content[: len(content) // 2])
    elif broken == "folder":
        given.mkdir()
    elif broken == "no_images":
        with BagWriter(given) as bag:
            bag.write_image(LABEL_TOPIC, np.zeros(HW, np.uint8), stamp_ns=1, frame_id="x", encoding="mono8")
    out = tmp_path / "demo"
    out.mkdir()
    (out / "metrics.json").write_text("earlier")
    before = names_in(tmp_path)
    line = only_error_line(run_demo(out, bundle, "--input", str(given)))
    assert line.startswith("demo: ")
    assert given.name in line
    assert (out / "metrics.json").read_text() == "earlier"
    assert names_in(out) == ["metrics.json"]
    assert names_in(tmp_path) == before


def test_a_missing_bundle_is_one_line(tmp_path: Path) -> None:
    line = only_error_line(run_demo(tmp_path / "demo", tmp_path / "nothing"))
    assert "model.json" in line
    assert not (tmp_path / "demo").exists()


def test_no_class_map_at_all_is_an_error(tmp_path: Path, bundle: Path) -> None:
    with BagWriter(tmp_path / "magenta") as bag:
        for index in range(3):
            pixels = np.full((*HW, 3), (255, 0, 255), np.uint8)  # the fake engine fails on these
            bag.write_image(IMAGE_TOPIC, pixels, stamp_ns=START_STAMP_NS + index * 10**8, frame_id="camera")
    line = only_error_line(run_demo(tmp_path / "demo", bundle, "--input", str(tmp_path / "magenta")))
    assert "no class map came back for 3 images" in line
    assert "all-magenta" in line
    assert names_in(tmp_path) == ["magenta"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_processes_and_leaves_nothing(tmp_path: Path, bundle: Path, number: signal.Signals) -> None:
    command = demo_command(tmp_path / "demo", bundle, ["--input", str(write_video(tmp_path / "night.mp4"))])
    environment = {**os.environ, "DARKSEG_FAKE_ENGINE_DELAY_MS": "1000"}
    demo = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    assert demo.stdout is not None
    assert demo.stderr is not None
    while "playing" not in (line := demo.stderr.readline()):
        assert line, "the demo ended before it played"
    time.sleep(0.3)
    children = descendants_of(demo.pid)
    assert any("segmentation_node" in command_line_of(child) for child in children)
    demo.send_signal(number)
    stdout, stderr = demo.communicate(timeout=30)
    assert demo.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}[number]
    assert stdout == ""
    assert "Traceback" not in stderr
    deadline_s = time.monotonic() + 10
    while (alive := [child for child in children if is_running(child)]) and time.monotonic() < deadline_s:
        time.sleep(0.1)
    assert alive == []
    assert names_in(tmp_path) == ["night.mp4"]


def test_a_node_that_dies_is_an_error(tmp_path: Path, bundle: Path) -> None:
    command = demo_command(tmp_path / "demo", bundle, ["--input", str(write_video(tmp_path / "night.mp4"))])
    environment = {**os.environ, "DARKSEG_FAKE_ENGINE_DELAY_MS": "1000"}
    demo = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    assert demo.stderr is not None
    while "playing" not in (line := demo.stderr.readline()):
        assert line, "the demo ended before it played"
    (node,) = (child for child in descendants_of(demo.pid) if "segmentation_node" in command_line_of(child))
    os.kill(node, signal.SIGKILL)
    _, stderr = demo.communicate(timeout=30)
    assert demo.returncode == 1
    assert "segmentation_node ended with status -9" in stderr.splitlines()[-1]


@dataclass(frozen=True)
class Record:
    stamp_ns: int
    frame_id: str


def test_class_maps_find_their_images_by_stamp_and_frame_id() -> None:
    frames = [InputFrame(1, "a"), InputFrame(2, "a"), InputFrame(2, "b"), InputFrame(3, "a")]
    records: list[Any] = [Record(2, "b"), Record(1, "a")]
    assert match_records(frames, records) == ([records[1], None, records[0], None], True)


@pytest.mark.parametrize("stray", [Record(4, "a"), Record(1, "b"), Record(1, "a")])
def test_a_class_map_of_no_image_or_a_second_one_is_noticed(stray: Record) -> None:
    records: list[Any] = [Record(1, "a"), stray]
    assert match_records([InputFrame(1, "a"), InputFrame(2, "a")], records) == ([records[0], None], False)
