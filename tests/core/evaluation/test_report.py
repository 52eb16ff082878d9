from __future__ import annotations

import hashlib
import html.parser
import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from darkseg_ros.classes import CITYSCAPES, ClassTable, SegmentationClass
from darkseg_ros.errors import InputError
from darkseg_ros.evaluation.drive import DriveEvaluation, EvaluatedInput, EvaluationResult
from darkseg_ros.evaluation.page import render_page
from darkseg_ros.evaluation.report import check_output, metrics_json, table_of, write_report
from darkseg_ros.evaluation.thresholds import FIGURES, Threshold, ThresholdResult, figures_of, judge

EVALUATED = EvaluatedInput(
    name="a < b & c",
    comparison="Class maps of /node/class_map against the label maps of /label.",
    sha256=hashlib.sha256(b"").hexdigest(),
)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def drive_of_noise(*, frames: int = 12, hw: tuple[int, int] = (48, 96), noise: bool = False) -> EvaluationResult:
    """Frames half a second apart; the class maps are wrong in a part that grows."""
    evaluation = DriveEvaluation(lambda _: frozenset(), capacity=1, on_unusable=pytest.fail)
    rng = np.random.default_rng(5)
    for index in range(frames):
        label_map = np.zeros(hw, np.uint8)
        label_map[: hw[0] // 2] = 10
        label_map[:4, :4] = 255
        class_map = label_map.copy()
        class_map[:, : 1 + index * hw[1] // frames] = 8
        class_map[-4:, -4:] = 255
        if noise:
            label_map, class_map = (rng.integers(0, 19, hw, np.uint8) for _ in range(2))
        bgr = rng.integers(0, 256, (*hw, 3), np.uint8)
        evaluation.put(
            1_700_000_000_000_000_000 + index * 500_000_000,
            image=lambda bgr=bgr: bgr,
            label_map=label_map,
            class_map=class_map,
            confidence=rng.integers(0, 256, hw, np.uint8),
            class_map_age_ms=20.0 + index,
        )
    return evaluation.result()


@pytest.fixture(scope="module")
def result() -> EvaluationResult:
    return drive_of_noise()


class Page(html.parser.HTMLParser):
    """What a page refers to, and whether its elements nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.references: list[str] = []
        self.scripts = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.references += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]
        self.scripts += tag == "script" or any(name.startswith("on") for name, _ in attrs)
        if tag not in ("meta", "img", "input", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.references += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def page_of(
    result: EvaluationResult, evaluated: EvaluatedInput = EVALUATED, *, thresholds: Sequence[ThresholdResult] = ()
) -> str:
    return render_page(result, evaluated, thresholds=thresholds, date="2026-11-28 06:00 +0000")


def metrics_of(result: EvaluationResult, *limits: Threshold) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(metrics_json(result, EVALUATED, thresholds=judge(result, limits)))
    return content


def test_thresholds_pass_at_the_limit_and_fail_beyond(result: EvaluationResult) -> None:
    exact = result.metrics.pixel_accuracy
    limits = [
        Threshold("pixel_accuracy", "at least", exact),
        Threshold("pixel_accuracy", "at least", exact + 1e-9),
        Threshold("latency_p99_ms", "at most", 31.0),
        Threshold("latency_p99_ms", "at most", 30.9),
    ]
    assert [judged.passed for judged in judge(result, limits)] == [True, False, True, False]


def test_a_figure_that_was_not_measured_passes_no_threshold(result: EvaluationResult) -> None:
    without = replace(result, drive=None)
    limits = [Threshold("iou.train", "at least", 0.0), Threshold("latency_p99_ms", "at most", 1e9)]
    assert [(judged.value, judged.passed) for judged in judge(without, limits)] == [(None, False), (None, False)]


def test_class_and_drive_figures_can_be_limited(result: EvaluationResult) -> None:
    values = figures_of(result.metrics, result.drive, result.classes)
    assert set(values) == {*FIGURES, *(f"iou.{name}" for name in CITYSCAPES.names)}
    assert values["iou.sky"] == result.metrics.iou["sky"]
    assert values["iou.train"] is None
    assert values["latency_p50_ms"] == 25.0  # 20…31, nearest rank


def test_thresholds_name_the_classes_of_the_table(result: EvaluationResult) -> None:
    with pytest.raises(ValueError, match=r"there is no figure 'iou\.tram'; the classes are road, sidewalk"):
        judge(result, [Threshold("iou.tram", "at least", 0.1)])


TRAM = ClassTable((SegmentationClass("tram", "vehicle", (9, 8, 7)), SegmentationClass("rest", "other", (1, 2, 3))))


def test_a_drive_of_another_table_is_reported_by_its_names() -> None:
    evaluation = DriveEvaluation(lambda _: frozenset(), capacity=1, on_unusable=pytest.fail, classes=TRAM)
    evaluation.put(1, label_map=np.array([[0, 0, 1, 255]], np.uint8), class_map=np.array([[0, 1, 1, 1]], np.uint8))
    result = evaluation.result()
    assert metrics_of(result, Threshold("iou.tram", "at least", 0.5))["iou"] == {"tram": 0.5, "rest": 0.5}
    assert result.confusion.tolist() == [[1, 1, 0], [0, 1, 0]]
    assert "tram" in "".join(table_of(result))


@pytest.mark.parametrize(
    ("figure", "limit", "complaint"),
    [
        *((figure, 0.1, "there is no figure") for figure in ("mIoU", "iou", "uiou_min_confidence")),
        ("miou", float("nan"), "must be a number"),
        ("flicker", 5, "must be a share within 0…1, got 5; write 20 % as 0.2"),  # would pass whatever it is
        ("iou.car", 1.01, "must be a share"),
        ("dropped", -1, "must not be negative, got -1"),
    ],
)
def test_a_threshold_that_says_nothing_is_refused(figure: str, limit: float, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Threshold(figure, "at most", limit)


@pytest.mark.parametrize("figure", ["images", "frames_in", "dropped", "latency_p99_ms"])
def test_counts_and_times_may_exceed_one(figure: str) -> None:
    assert Threshold(figure, "at most", 50).limit == 50


def test_metrics_json_holds_figures_thresholds_versions_and_input(result: EvaluationResult) -> None:
    passed, missed = Threshold("miou", "at least", 0.0), Threshold("ece", "at most", 0.0)
    content = metrics_of(result, passed, missed)
    assert content["input"]["name"] == "a < b & c"
    assert content["input"]["sha256"] == EVALUATED.sha256
    assert content["miou"] == result.metrics.miou
    assert content["latency_from"] == "stamp"
    assert content["iou"]["train"] is None
    assert np.array(content["confusion"]).shape == (19, 20)
    assert content["passed"] is False
    assert [entry["passed"] for entry in content["thresholds"]] == [True, False]
    assert content["thresholds"][1] == {
        "figure": "ece",
        "bound": "at most",
        "limit": 0.0,
        "value": result.metrics.ece,
        "passed": False,
    }
    assert content["versions"]["numpy"] == np.__version__
    assert re.fullmatch(r"\d+\.\d+\.\d+", content["versions"]["darkseg_ros"])
    assert metrics_of(result, passed)["passed"] is True
    assert metrics_of(result)["passed"] is None


def test_the_page_stands_alone_and_is_well_formed(result: EvaluationResult) -> None:
    text = page_of(result, thresholds=judge(result, [Threshold("miou", "at least", 0.9)]))
    page = Page(text)
    assert page.open == []
    assert page.scripts == 0
    assert len(page.references) == len(result.shown) * 4
    assert all(reference.startswith("data:image/") for reference in page.references)
    assert not re.search(r"https?:|url\(|@import", text)
    assert "a &lt; b &amp; c" in text
    assert "a < b" not in text
    assert "failed" in text
    assert "$" not in re.sub(r"<style>.*</style>", "", text, flags=re.DOTALL)


def test_the_worst_frame_comes_first_with_stamp_iou_and_largest_error(result: EvaluationResult) -> None:
    text = page_of(result)
    rows = re.findall(r'<div class="what"><b>([\d.]+) s</b> mIoU ([\d.]+) % · largest error: (.*?), ', text)
    assert len(rows) == 8
    assert rows[0][0] == "1700000005.500000000"  # the last frame is wrong in most of it
    assert [float(share) for _, share, _ in rows] == sorted(float(share) for _, share, _ in rows)
    assert rows[0][2] == "road called vegetation"


def test_without_latency_confidence_and_pictures_the_page_leaves_them_out() -> None:
    evaluation = DriveEvaluation(lambda _: frozenset(), capacity=1, on_unusable=pytest.fail, shown_frames=0)
    evaluation.put(0, label_map=np.zeros((2, 2), np.uint8), class_map=np.zeros((2, 2), np.uint8))
    text = page_of(replace(evaluation.result(), drive=None), replace(EVALUATED, sha256=None))
    assert Page(text).open == []
    for absent in ("<img", "<h2>Latency", "withholding", "SHA-256", "<h2>Thresholds"):
        assert absent not in text
    assert "no thresholds set" in text


def test_confidence_for_a_part_of_the_frames_is_told_in_place_of_figures() -> None:
    evaluation = DriveEvaluation(lambda _: frozenset(), capacity=1, on_unusable=pytest.fail)
    road = np.zeros((2, 2), np.uint8)
    for index in range(10):
        confidence = {"confidence": np.full((2, 2), 255, np.uint8)} if index == 3 else {}
        evaluation.put(index, label_map=road, class_map=road, **confidence)
    result = evaluation.result()
    assert list(table_of(result))[-1] == "no ECE and no UIoU: confidence came with 1 of 10 images"
    assert "no ECE, no UIoU: confidence came with 1 of 10 frames" in page_of(result)
    content = metrics_of(result, Threshold("ece", "at most", 0.5))
    assert (content["ece"], content["uiou"], content["images_with_confidence"]) == (None, None, 1)
    assert content["passed"] is False


def test_a_page_speaks_of_the_classes_of_its_model() -> None:
    classes = ClassTable((SegmentationClass("lane", "flat", (9, 8, 7)), SegmentationClass("void", "none", (0, 0, 0))))
    evaluation = DriveEvaluation(lambda _: frozenset(), capacity=1, on_unusable=pytest.fail, classes=classes)
    evaluation.put(0, label_map=np.zeros((2, 2), np.uint8), class_map=np.array([[0, 0], [1, 255]], np.uint8))
    text = page_of(evaluation.result())
    assert "largest error: lane called void, 25.0 % of the labelled pixels" in text
    assert '<i style="background:rgb(9,8,7)"></i>lane' in text
    assert 'title="lane → unlabelled: 25.00 %"' in text
    assert "sidewalk" not in text


def test_a_frame_without_camera_image_shows_its_maps() -> None:
    evaluation = DriveEvaluation(lambda _: frozenset(), capacity=1, on_unusable=pytest.fail)
    evaluation.put(0, label_map=np.zeros((2, 2), np.uint8), class_map=np.full((2, 2), 255, np.uint8))
    text = page_of(evaluation.result())
    assert text.count("<img") == 3
    assert "road left unlabelled, 100.0 %" in text


def test_the_page_of_the_worst_to_compress_stays_below_5_mb() -> None:
    text = page_of(drive_of_noise(hw=(512, 1024), frames=9, noise=True))
    assert text.count("<img") == 8 * 4
    assert len(text.encode()) < 5_000_000


def test_the_table_names_what_was_missed(result: EvaluationResult) -> None:
    lines = list(table_of(result, judge(result, [Threshold("miou", "at least", 1.0)])))
    assert lines[-1] == f"MISSED: miou {result.metrics.miou:.6g}, at least 1"
    assert any(line.startswith("latency ms") and "from the camera's stamp" in line for line in lines)
    assert any(line.startswith("train ") and line.endswith("–") for line in lines)


def test_an_output_is_judged_before_the_work_and_nothing_is_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file" / "a" / "b"):
        with pytest.raises(InputError, match=f"{tmp_path / 'file'} is a file; name a folder to write to"):
            check_output(out)
    check_output(tmp_path / "a" / "b")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_an_output_without_permission_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # not by chmod: tests may run as root, who may write everywhere
    monkeypatch.setattr("os.access", lambda path, _: Path(path) != tmp_path)
    with pytest.raises(InputError, match=f"{tmp_path} may not be written; choose a folder with room and permission"):
        check_output(tmp_path / "report")


def test_both_files_are_replaced_together(tmp_path: Path, result: EvaluationResult) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "report.html").write_text("old")
    write_report(result, EVALUATED, out=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.json", "notes.txt", "report.html"]
    assert (tmp_path / "report.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


HARNESS = """<!DOCTYPE html><meta charset="utf-8"><pre id="answer"></pre>
<iframe id="narrow" src="report.html" style="width:400px;height:900px;border:0"></iframe>
<iframe id="wide" src="report.html" style="width:1280px;height:900px;border:0"></iframe>
<script>
window.onload = () => {
  const answer = {};
  for (const frame of document.querySelectorAll("iframe")) {
    const page = frame.contentDocument;
    const width = page.documentElement.clientWidth;
    const picture = page.querySelector("figure img");
    const small = picture.getBoundingClientRect();
    picture.click();
    const large = picture.getBoundingClientRect();
    picture.click();
    const again = picture.getBoundingClientRect();
    answer[frame.id] = {
      screen: [large.left, large.top, large.width, large.height],
      restored: again.width === small.width && again.height === small.height,
      images: page.images.length,
      broken: [...page.images].filter(image => !image.complete || !image.naturalWidth).length,
      overflow_px: page.documentElement.scrollWidth - width,
      invisible: [...page.querySelectorAll(".card, tr, .chart svg, figure, h2")]
        .filter(element => !element.getBoundingClientRect().width || !element.getBoundingClientRect().height).length,
      charts: page.querySelectorAll(".chart svg").length,
      height_px: page.documentElement.scrollHeight,
    };
  }
  document.getElementById("answer").textContent = JSON.stringify(answer);
};
</script>
"""


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine to render the report in")
def test_headless_chromium_shows_everything_on_wide_and_narrow_screens(tmp_path: Path) -> None:
    assert CHROMIUM is not None
    result = drive_of_noise(noise=True)  # all classes: the widest confusion table
    limits = [Threshold("latency_p99_ms", "at most", 5.0)]
    long_name = replace(EVALUATED, name="a_name_without_a_space_" * 5)
    write_report(result, long_name, thresholds=judge(result, limits), out=tmp_path)
    (tmp_path / "harness.html").write_text(HARNESS, encoding="utf-8")
    command = [
        *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
        *("--allow-file-access-from-files", "--enable-logging=stderr", "--virtual-time-budget=20000"),
        *(f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", (tmp_path / "harness.html").as_uri()),
    ]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)
    assert answer.returncode == 0, answer.stderr
    found = re.search(r'<pre id="answer">(.+?)</pre>', answer.stdout)
    assert found, answer.stdout[-500:] + answer.stderr
    screens = list(json.loads(found[1]).values())
    for screen in screens:
        assert screen["images"] == len(result.shown) * 4 == 32
        assert (screen["broken"], screen["overflow_px"], screen["invisible"]) == (0, 0, 0)
        assert screen["charts"] == 3  # latency twice, uiou
        assert screen["restored"] is True
        assert screen["height_px"] > 2000
    # a click gives the first picture the whole screen
    assert [screen["screen"] for screen in screens] == [[0, 0, 400, 900], [0, 0, 1280, 900]]
    assert "CONSOLE" not in answer.stderr, answer.stderr
