from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from darkseg_ros.installed_files import default_bundle, share_directory
from engines.gpu import steps
from engines.gpu.__main__ import main
from engines.gpu.errors import NotHereError
from engines.gpu.page import NOT_YET_RUN, page, read_report
from engines.gpu.steps import FAILED, PASSED, SKIPPED, STEPS, TIMED_OUT, Outcome, Step, run_all, run_here


def test_the_page_is_what_its_report_says() -> None:
    """docs/gpu.md is written; docs/gpu.json beside it, where a GPU has run, is what it was written from."""
    report = share_directory() / "docs/gpu.json"
    expected = page(read_report(report) if report.exists() else None)
    assert (share_directory() / "docs/gpu.md").read_text(encoding="utf-8") == expected


def test_without_a_report_every_step_says_not_yet_run() -> None:
    assert page(None).count(f"| {NOT_YET_RUN} |") == len(STEPS) == len({step.name for step in STEPS})


def test_a_step_says_how_it_ended() -> None:
    def runs(error: Exception | None) -> dict[str, object]:
        def run(_: object) -> dict[str, object]:
            if error is not None:
                raise error
            return {"ms": 1.5}

        answer: dict[str, object] = json.loads(run_here(Step("a", "b", 1, run), None))
        return answer

    assert runs(None) == {"status": PASSED, "figures": {"ms": 1.5}, "reason": ""}
    assert runs(NotHereError("is not installed"))["status"] == SKIPPED
    assert runs(AssertionError("two\nlines")) == {
        "status": FAILED,
        "figures": {},
        "reason": "AssertionError: two lines",
    }
    assert runs(RuntimeError("CUDA error: out of memory"))["status"] == FAILED


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps' processes that answer at once: their name is what they run."""
    start = steps.start_python
    monkeypatch.setattr(
        steps, "start_python", lambda arguments, **options: start(["-S", "-c", arguments[-1]], **options)
    )


def steps_of(*codes: str, limit_s: float = 20.0) -> list[Step]:
    return [Step(code, "", limit_s, lambda bundle: {}) for code in codes]


_ANSWER = """print('a warning'); print('{"status": "passed", "figures": {"n": 3}, "reason": ""}')"""


@pytest.mark.usefixtures("answering")
def test_a_step_that_dies_or_hangs_does_not_end_the_others() -> None:
    dies, hangs = "import os; print('before'); os.abort()", "import time; print(1, flush=True); time.sleep(60)"
    lines: list[str] = []
    found = run_all(
        [*steps_of(dies), *steps_of(hangs, limit_s=1.0), *steps_of(_ANSWER)],
        bundle=Path("any"),
        limit_s=60,
        progress=lines.append,
    )
    assert [outcome.status for outcome in found] == [FAILED, TIMED_OUT, PASSED]
    assert "before" in found[0].reason
    assert found[2].figures == {"n": 3}
    assert len(lines) == 3


@pytest.mark.usefixtures("answering")
def test_what_the_time_for_all_does_not_reach_is_skipped() -> None:
    (outcome,) = run_all(steps_of(_ANSWER), bundle=Path("any"), limit_s=0.5, progress=lambda line: None)
    assert outcome.status == SKIPPED
    assert "no time was left of 0.5 s" in outcome.reason


def outcomes(*statuses: str) -> list[Outcome]:
    figures = {"gpu": "NVIDIA Fake 1", "capability": "SM90", "driver_cuda": "13.0"}
    return [
        Outcome(
            step.name, status, figures if step.name == "machine" else {"ms": 0.25}, "" if status == PASSED else "a|b", 2
        )
        for step, status in zip(STEPS, statuses, strict=False)
    ]


@pytest.mark.parametrize(("statuses", "status"), [((PASSED, SKIPPED), 0), ((PASSED, FAILED), 3), ((FAILED, FAILED), 1)])
def test_report_and_page_are_written_however_the_steps_end(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    statuses: Sequence[str],
    status: int,
) -> None:
    monkeypatch.setattr("engines.gpu.__main__.run_all", lambda *_, **__: outcomes(*statuses))
    assert main(["--out", str(tmp_path / "gpu"), "--page", str(tmp_path / "page.md")]) == status
    report = read_report(tmp_path / "gpu/report.json")
    assert report["bundle"] == "darkseg_slim"
    text = (tmp_path / "gpu/gpu.md").read_text()
    assert text == page(report) == (tmp_path / "page.md").read_text()
    assert "NVIDIA Fake 1 (SM90), driver for CUDA 13.0" in text
    assert ("a\\|b" in text) == (statuses[-1] != PASSED)
    assert ("no step passed" in capsys.readouterr().err) == (status == 1)
    again = tmp_path / "again.md"
    assert main(["--report", str(tmp_path / "gpu/report.json"), "--page", str(again)]) == 0
    assert again.read_text() == text


def test_a_report_that_is_none_ends_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "report.json").write_text("[]")
    assert main(["--report", str(tmp_path / "report.json"), "--page", str(tmp_path / "page.md")]) == 1
    assert "is no report of engines.gpu" in capsys.readouterr().err
    assert not (tmp_path / "page.md").exists()


def test_on_a_machine_without_a_gpu_the_real_steps_say_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    if Path("/dev/nvidiactl").exists():
        pytest.skip("this machine has an NVIDIA GPU")
    assert main(["--bundle", str(default_bundle()), "--step", "driver"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["status"] == FAILED
    assert "no NVIDIA driver" in answer["reason"]
