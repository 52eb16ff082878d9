from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from darkseg_ros.commands.cli import main
from darkseg_ros.frames.bags import COMPRESSED_TOPIC, IMAGE_TOPIC, LABEL_TOPIC, BagReader, BagWriter
from darkseg_ros.installed_files import package_version
from darkseg_ros.pictures.video_writer import VideoWriter
from tests.bundles import write_tiny_bundle
from tests.core.frames import video_files
from tests.core.frames.recorded_bags import Recorded, write_recorded_bag

HW = (64, 128)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle"), HW)


def write_video(path: Path, *, frames: int = 5, rate_hz: float = 10.0) -> Path:
    with VideoWriter(path, rate_hz=rate_hz) as video:
        for index in range(frames):
            video.write(np.random.default_rng(index).integers(0, 256, (*HW, 3), np.uint8))
    return path


def fake(bundle: Path) -> list[str]:
    return ["--bundle", str(bundle), "--backend", "fake"]


def only_error_line(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("darkseg: ")
    return line


def write_pair(folder: Path, stem: str, *, blue: int, label: int) -> None:
    """A uniform image that the fake backend segments as blue mod 19 at confidence 1, and its label map."""
    for kind in ("images", "labels"):
        (folder / kind).mkdir(exist_ok=True)
    cv2.imwrite(str(folder / "images" / f"{stem}.png"), np.full((*HW, 3), (blue, 255, 0), np.uint8))
    cv2.imwrite(str(folder / "labels" / f"{stem}.bmp"), np.full(HW, label, np.uint8))


def evaluate(folder: Path, bundle: Path, *options: str) -> int:
    arguments = ["--images", folder / "images", "--labels", folder / "labels", "--out", folder / "out"]
    return main(["evaluate", *map(str, arguments), *options, *fake(bundle)])


def fails_if_an_engine_opens(*_: object, **__: object) -> None:
    raise AssertionError("an engine was opened before the paths were looked at")


def test_help_imports_no_verb_and_is_there_at_once() -> None:
    program = (
        "import sys, time; started = time.process_time()\n"
        "from darkseg_ros.commands.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'numpy', 'cv2', 'rosbags', 'openvino', 'onnxruntime', 'darkseg_ros.commands.options'}\n"
        "print(time.process_time() - started, sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    seconds, _, imported = answer.stderr.partition(" ")
    assert imported.strip() == "[]"
    assert float(seconds) < 0.3
    for verb in ("segment", "evaluate", "bench", "bag"):
        assert f"\n    {verb} " in answer.stdout


@pytest.mark.parametrize("verb", ["segment", "evaluate", "bench", "bag from-video", "bag to-night", "bag play"])
def test_every_verb_tells_its_options_and_no_fake_backend(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([*verb.split(), "--help"])
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    assert f"usage: darkseg {verb} [-h] " in text
    assert "--" in text.replace("--help", "")
    assert "fake" not in text


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["--version"])
    assert exit_.value.code == 0
    assert capsys.readouterr().out == f"darkseg {package_version()}\n"


@pytest.mark.parametrize(
    "command",
    [
        ["segment", "{missing}", "--out", "{out}"],
        ["segment", "{image}", "--out", "{image}"],
        ["evaluate", "{missing}", "--out", "{out}"],
        ["evaluate", "--images", "{missing}", "--labels", "{folder}", "--out", "{out}"],
        ["evaluate", "--images", "{folder}", "--labels", "{empty}", "--out", "{out}"],
        ["bag", "to-night", "{missing}", "--out", "{out}"],
        ["bag", "to-night", "{bag}", "--out", "{folder}"],
        ["bag", "to-night", "{bag}", "--out", "{out}", "--topic", "/nothing"],
    ],
)
def test_bad_paths_are_told_before_an_engine_opens(
    tmp_path: Path, command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for opener in ("options.Segmenter.open", "bag_to_night.open_day_to_night"):
        monkeypatch.setattr(f"darkseg_ros.commands.{opener}", fails_if_an_engine_opens)
    paths = {name: tmp_path / name for name in ("missing", "folder", "empty", "bag", "out")}
    paths["image"] = paths["folder"] / "a.png"
    for name in ("folder", "empty"):
        paths[name].mkdir()
    cv2.imwrite(str(paths["image"]), np.zeros((*HW, 3), np.uint8))
    write_bag(paths["bag"])
    assert main([word.format(**paths) for word in command]) == 1
    only_error_line(capsys)
    assert not paths["out"].exists()


def test_an_unknown_backend_names_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["segment", "x", "--out", "y", "--backend", "magic"])
    assert exit_.value.code == 2
    assert "expected one of auto, tensorrt, openvino, onnxruntime, got 'magic'" in capsys.readouterr().err


def test_segment_says_what_it_wrote(tmp_path: Path, bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video = write_video(tmp_path / "drive.mp4")
    out = tmp_path / "out"
    assert main(["segment", str(video), "--out", str(out), "--overlay", *fake(bundle)]) == 0
    assert capsys.readouterr().out == f"5 class maps in {out / 'drive'}, by tiny on fake\n"
    assert len(list((out / "drive").glob("*.png"))) == 5
    assert (out / "drive_overlay.mp4").is_file()


def test_evaluate_writes_figures_worked_by_hand(
    tmp_path: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_pair(tmp_path, "first", blue=0, label=0)  # road, right
    write_pair(tmp_path, "second", blue=20, label=1)  # 20 mod 19 = sidewalk, right
    write_pair(tmp_path, "third", blue=0, label=10)  # sky called road
    assert evaluate(tmp_path, bundle) == 0
    figures = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert figures["bundle"] == "tiny"
    assert figures["backend"] == "fake"
    assert figures["images"] == 3
    # road 1/(1+1), sidewalk 1/1, sky 0/1
    assert {name: iou for name, iou in figures["iou"].items() if iou is not None} == {
        "road": 0.5,
        "sidewalk": 1.0,
        "sky": 0.0,
    }
    assert figures["miou"] == figures["miou_present"] == pytest.approx(0.5)
    assert figures["pixel_accuracy"] == pytest.approx(2 / 3)
    assert figures["class_accuracy"] == pytest.approx(2 / 3)
    assert figures["fwiou"] == pytest.approx((0.5 + 1.0 + 0.0) / 3)
    assert figures["ece"] == pytest.approx(1 / 3)  # certain everywhere, right on two thirds
    assert figures["ci95"]["miou"] == [pytest.approx(0.0), pytest.approx(1.0)]
    table = capsys.readouterr().out
    assert "road            50.0" in table
    assert "car                –" in table
    assert "images             3" in table


def test_evaluate_names_the_file_without_partner(
    tmp_path: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_pair(tmp_path, "first", blue=0, label=0)
    write_pair(tmp_path, "second", blue=0, label=0)
    (tmp_path / "labels" / "second.bmp").unlink()
    assert evaluate(tmp_path, bundle) == 1
    assert "second.png has no label map" in only_error_line(capsys)
    (tmp_path / "images" / "second.png").rename(tmp_path / "labels" / "second.png")
    (tmp_path / "labels" / "third.png").write_bytes((tmp_path / "labels" / "first.bmp").read_bytes())
    assert evaluate(tmp_path, bundle) == 1
    assert "second.png has no image" in only_error_line(capsys)
    assert not (tmp_path / "out").exists()


def test_evaluate_refuses_labels_of_another_size(
    tmp_path: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_pair(tmp_path, "first", blue=0, label=0)
    cv2.imwrite(str(tmp_path / "labels" / "first.bmp"), np.zeros((32, 64), np.uint8))
    assert evaluate(tmp_path, bundle, "--strict") == 1
    assert "is 64×32, its image 128×64" in only_error_line(capsys)
    write_pair(tmp_path, "second", blue=0, label=0)
    assert evaluate(tmp_path, bundle) == 0
    captured = capsys.readouterr()
    assert "skipped: " in captured.err
    assert "1 frames scored, 1 bad frame skipped" in captured.out
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["bad_frames"] == 1


@pytest.mark.parametrize(
    ("label_map", "complaint"),
    [
        (np.full(HW, 33, np.uint8), "holds the value 33"),
        (np.full((*HW, 3), 7, np.uint8), "holds the colour (7, 7, 7)"),
        (np.zeros(HW, np.uint16), "1 channels of uint16"),
        (np.full(HW, 255, np.uint8), "no pixel has ground truth"),
    ],
)
def test_evaluate_refuses_what_is_no_label_map(
    tmp_path: Path, bundle: Path, capsys: pytest.CaptureFixture[str], label_map: np.ndarray, complaint: str
) -> None:
    write_pair(tmp_path, "first", blue=0, label=0)
    (tmp_path / "labels" / "first.bmp").unlink()
    cv2.imwrite(str(tmp_path / "labels" / "first.png"), label_map)
    assert evaluate(tmp_path, bundle, "--strict") == 1
    assert complaint in only_error_line(capsys)
    assert not (tmp_path / "out").exists()


def write_bag(path: Path, *, class_maps: bool = True, label: int = 0) -> Path:
    """Two frames of road, one called road and one called sky; the images are such that the fake backend says road."""
    messages = []
    for index, class_map in enumerate((0, 10)):
        stamp_ns = 1_700_000_000_000_000_000 + index * 100_000_000
        parts = [
            (IMAGE_TOPIC, np.full((*HW, 3), (0, 255, 0), np.uint8)),
            (LABEL_TOPIC, np.full(HW, label, np.uint8)),
            ("/segmentation_node/class_map", np.full(HW, class_map, np.uint8)),
        ]
        messages += [
            Recorded(topic, stamp_ns, pixels, stamp_ns + 20_000_000)
            for topic, pixels in (parts if class_maps else parts[:2])
        ]
    return write_recorded_bag(path, messages)


def evaluate_bag(bag: Path, *options: str) -> int:
    return main(["evaluate", str(bag), "--out", str(bag.parent / "out"), *options])


def figures_in(folder: Path) -> dict[str, Any]:
    figures: dict[str, Any] = json.loads((folder / "out" / "metrics.json").read_text())
    return figures


def test_evaluate_scores_the_class_maps_of_a_bag(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate_bag(write_bag(tmp_path / "drive")) == 0
    figures = figures_in(tmp_path)
    assert figures["miou_present"] == pytest.approx(1 / 2)
    assert (figures["frames_in"], figures["class_maps"], figures["dropped"]) == (2, 2, 0)
    assert figures["latency_p50_ms"] == pytest.approx(20)
    assert (figures["bundle"], figures["passed"]) == (None, None)
    assert figures["input"]["name"] == "drive"
    report = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "as recorded in drive" in report
    output = capsys.readouterr().out
    assert "as recorded in drive" in output
    assert re.search(r"^mIoU present +50\.0 ", output, re.MULTILINE)
    assert f"report: {tmp_path / 'out' / 'report.html'}" in output


@pytest.mark.parametrize("class_maps", [False, True])
def test_evaluate_segments_the_images_of_a_bag(tmp_path: Path, bundle: Path, class_maps: bool) -> None:
    bag = write_bag(tmp_path / "drive", class_maps=class_maps)
    assert evaluate_bag(bag, *fake(bundle)) == 0  # naming a bundle asks for new class maps
    figures = figures_in(tmp_path)
    assert figures["miou"] == 1.0
    assert (figures["bundle"], figures["backend"], figures["latency_from"]) == ("tiny", "fake", None)


def test_a_missed_threshold_is_status_3_and_the_report_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = write_bag(tmp_path / "drive")
    options = ["--at-least", "miou_present=0.5", "--at-most", "latency_p99_ms=25", "--at-least", "iou.road=0.5"]
    assert evaluate_bag(bag, *options) == 0
    assert figures_in(tmp_path)["passed"] is True
    assert evaluate_bag(bag, *options, "--at-most", "dropped_share=0", "--at-least", "miou=0.3") == 3
    figures = figures_in(tmp_path)
    assert figures["passed"] is False
    assert [entry["figure"] for entry in figures["thresholds"] if not entry["passed"]] == ["miou"]
    assert "MISSED: miou 0.25, at least 0.3" in capsys.readouterr().out


def test_thresholds_hold_for_folders_too(tmp_path: Path, bundle: Path) -> None:
    write_pair(tmp_path, "first", blue=0, label=0)
    arguments = ["--images", tmp_path / "images", "--labels", tmp_path / "labels", "--out", tmp_path / "out"]
    command = ["evaluate", *map(str, arguments), *fake(bundle)]
    assert main([*command, "--at-least", "miou=1"]) == 0
    assert main([*command, "--at-most", "latency_p99_ms=50"]) == 3  # nothing ran in real time
    assert "first.png" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ([], "name a bag, or a folder of images"),
        (["--images", "a"], "name a bag, or a folder of images"),
        (["drive", "--images", "a", "--labels", "b"], "not both"),
        (["--images", "a", "--labels", "b", "--label-topic", "/t"], "--label-topic belong to a bag"),
        (["drive", "--bundle", "b", "--class-map-topic", "/c"], "give one of them"),
        (["drive", "--at-least", "miou"], "expected FIGURE=LIMIT such as miou_present=0.2, got 'miou'"),
        (["drive", "--at-least", "speed=1"], "there is no figure 'speed'; known are miou, miou_present"),
        (["drive", "--at-most", "miou=much"], "expected a number, got 'much'"),
        (["drive", "--at-most", "flicker=5"], "the limit of flicker must be a share within 0…1, got 5"),
        (["drive", "--invalid-below", "2"], "within 0…1"),
        (["drive", "--invalid-below", "half"], "expected a number, got 'half'"),
    ],
)
def test_evaluate_options_that_make_no_sense_are_status_2(
    tmp_path: Path, options: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["evaluate", *options, "--out", str(tmp_path / "out")])
    assert exit_.value.code == 2
    assert complaint in " ".join(capsys.readouterr().err.split())


def test_evaluate_of_bad_bags_is_one_line_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for bag, complaint in (
        (tmp_path / "nowhere", "does not exist"),
        (write_bag(tmp_path / "raw_ids", label=33), "the label map holds the value 33"),
    ):
        assert evaluate_bag(bag, "--strict") == 1
        assert complaint in only_error_line(capsys)
    assert evaluate_bag(write_bag(tmp_path / "drive"), "--label-topic", "/truth") == 1
    line = only_error_line(capsys)
    assert "train ids on /truth" in line
    assert "/camera/image_raw (sensor_msgs/msg/Image, 2)" in line
    assert not (tmp_path / "out").exists()


def test_a_full_disk_leaves_the_earlier_report_and_one_line(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "drive")
    assert evaluate_bag(bag) == 0
    out = tmp_path / "out"
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    sizes = sorted(map(len, before.values()))
    # metrics.json fits, report.html does not: as on a disk that fills up between the two
    limit = (sizes[0] + sizes[1]) // 2
    program = (
        "import resource, sys\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
        "from darkseg_ros.commands.cli import main\n"
        f"sys.exit(main(['evaluate', {str(bag)!r}, '--out', {str(out)!r}, '--at-least', 'miou=0']))\n"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert answer.returncode == 1
    (line,) = answer.stderr.splitlines()
    assert line == f"darkseg: {out} cannot be written: File too large; choose a folder with room and permission"
    assert answer.stdout == ""
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_bag_from_video_keeps_count_topic_and_rate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video = write_video(tmp_path / "drive.mp4")
    assert main(["bag", "from-video", str(video), "--out", str(tmp_path / "raw")]) == 0
    assert capsys.readouterr().out == f"5 frames in {tmp_path / 'raw'}\n"
    options = ["--compressed", "--storage", "sqlite3", "--rate-hz", "20"]
    assert main(["bag", "from-video", str(video), "--out", str(tmp_path / "small"), *options]) == 0
    with BagReader(tmp_path / "raw") as bag:
        assert bag.image_topic().name == IMAGE_TOPIC
        assert bag.duration_ns == pytest.approx(4 * 100_000_000)
    with BagReader(tmp_path / "small") as bag:
        assert bag.image_topic().name == COMPRESSED_TOPIC
        assert bag.duration_ns == pytest.approx(4 * 50_000_000)
    assert list((tmp_path / "small").glob("*.db3"))


def test_a_missing_input_is_one_line_and_status_1(
    tmp_path: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["segment", str(tmp_path / "nothing"), "--out", str(tmp_path / "out"), *fake(bundle)]) == 1
    assert "does not exist" in only_error_line(capsys)


def test_an_empty_video_is_one_line_and_status_1(
    tmp_path: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty.mp4").touch()
    assert main(["segment", str(tmp_path / "empty.mp4"), "--out", str(tmp_path / "out"), *fake(bundle)]) == 1
    assert "empty" in only_error_line(capsys)
    assert main(["bag", "from-video", str(tmp_path / "empty.mp4"), "--out", str(tmp_path / "bag")]) == 1
    assert "empty" in only_error_line(capsys)
    assert not (tmp_path / "bag").exists()


def test_a_truncated_video_is_one_line_and_status_1(
    tmp_path: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = video_files.write_video(tmp_path / "whole.mp4", frames=9, size_hw=(480, 640)).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    assert main(["segment", str(tmp_path / "cut.mp4"), "--out", str(tmp_path / "out"), *fake(bundle)]) == 1
    assert "cut" in only_error_line(capsys)
    assert not (tmp_path / "out").exists()


def test_a_bag_without_the_topic_is_one_line_and_status_1(
    tmp_path: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with BagWriter(tmp_path / "night", "mcap") as bag:
        bag.write_image(IMAGE_TOPIC, np.zeros((*HW, 3), np.uint8), stamp_ns=10**18, frame_id="front")
    options = ["--topic", "/rear", "--out", str(tmp_path / "out"), *fake(bundle)]
    assert main(["segment", str(tmp_path / "night"), *options]) == 1
    assert "/rear" in only_error_line(capsys)


def test_a_missing_bundle_is_one_line_and_status_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cv2.imwrite(str(tmp_path / "street.png"), np.zeros((*HW, 3), np.uint8))
    options = ["--out", str(tmp_path / "out"), "--bundle", str(tmp_path / "nothing")]
    assert main(["segment", str(tmp_path / "street.png"), *options]) == 1
    assert "model.json" in only_error_line(capsys)


def test_an_output_that_cannot_be_written_is_one_line_and_status_1(
    tmp_path: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cv2.imwrite(str(tmp_path / "street.png"), np.zeros((*HW, 3), np.uint8))
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "out"
    assert main(["segment", str(tmp_path / "street.png"), "--out", str(out), *fake(bundle)]) == 1
    only_error_line(capsys)


@pytest.mark.parametrize(
    "command",
    [[], ["segment"], ["bag"], ["bag", "play"], ["segment", "x", "--out", "y", "--backend", "magic"]],
)
def test_a_bad_command_line_is_status_2(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(command)
    assert exit_.value.code == 2
    assert "usage: darkseg" in capsys.readouterr().err


def test_interruption_is_status_130(
    tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("darkseg_ros.commands.segment.plan_segmentation", interrupt)
    assert main(["segment", "x", "--out", str(tmp_path), *fake(bundle)]) == 130
    assert capsys.readouterr().err == ""


def test_playing_without_ros_names_the_cure(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "sys.modules['rclpy'] = None  # as on a machine without it: importing raises ImportError\n"
        "from darkseg_ros.commands.cli import main\n"
        f"sys.exit(main(['bag', 'play', {str(tmp_path)!r}]))\n"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert answer.returncode == 1
    (line,) = answer.stderr.splitlines()
    assert line.startswith("darkseg: playing a bag needs ROS 2")
    assert "source a ROS 2 installation" in line


def test_bag_play_hands_on_what_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: dict[str, object] = {}

    def play_bag(path: Path, **options: object) -> SimpleNamespace:
        asked.update(options, path=path)
        return SimpleNamespace(messages=3, seconds=1.5, skipped_topics=("/tf",), unanswered=0)

    player = SimpleNamespace(play_bag=play_bag, Lockstep=SimpleNamespace)
    monkeypatch.setitem(sys.modules, "darkseg_ros.nodes.bag_player", player)
    assert main(["bag", "play", str(tmp_path), "--rate", "2", "--clock", "--wait-for", "front/overlay_node"]) == 0
    assert asked == {
        "path": tmp_path,
        "rate": 2.0,
        "loop": False,
        "topics": None,
        "publish_clock": True,
        "wait_for_subscribers": 120.0,
        "wait_for_nodes": ["/front/overlay_node"],
        "lockstep": None,
    }
    captured = capsys.readouterr()
    assert captured.out == "3 messages in 1.5 s\n"
    assert "/tf" in captured.err


@pytest.mark.parametrize("rate", ["0", "-1", "nan", "fast"])
def test_a_rate_that_is_no_speed_is_status_2(tmp_path: Path, rate: str) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["bag", "play", str(tmp_path), "--rate", rate])
    assert exit_.value.code == 2


def test_a_reader_that_closes_the_pipe_gets_no_traceback(tmp_path: Path, bundle: Path) -> None:
    write_pair(tmp_path, "first", blue=0, label=0)
    arguments = ["--images", tmp_path / "images", "--labels", tmp_path / "labels", "--out", tmp_path / "out"]
    command = [sys.executable, "-m", "darkseg_ros.commands.cli", "evaluate", *map(str, arguments), *fake(bundle)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    stderr = process.stderr.read()
    assert process.wait(timeout=60) == 1
    process.stderr.close()
    assert b"Traceback" not in stderr
    assert b"Exception ignored" not in stderr
