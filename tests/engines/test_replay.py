from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from darkseg_ros.installed_files import default_bundle
from darkseg_ros.model.bundle import GoldenMatch
from engines import replay
from engines.replay import Answers, judge
from tests.bundles import write_tiny_bundle

LEAST = GoldenMatch(agreement=0.95, confidence_difference=3.0)


def test_the_shipped_bundle_answers_as_its_reference_says() -> None:
    """Whatever is meant to change is accepted by `python -m engines.replay --accept`."""
    verdicts = replay.replay(default_bundle())
    assert [verdict for verdict in verdicts if verdict.failure] == []
    judged = {verdict.instruction_set for verdict in verdicts if "identical" in verdict.found}
    assert judged == set(replay.sets_of_this_cpu()) or any("differ" in verdict.found for verdict in verdicts)


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Answers:
    bundle = write_tiny_bundle(tmp_path_factory.mktemp("bundle"))
    frames = list(np.random.default_rng(0).integers(0, 256, (2, 40, 64, 3), dtype=np.uint8))
    return replay.answer(bundle, frames, twice=True)


def changed(answers: Answers, *, pixels: int, confidence: int = 0) -> Answers:
    class_maps = answers.class_maps.copy()
    class_maps.reshape(-1)[:pixels] = (class_maps.reshape(-1)[:pixels] + 1) % 19
    return replace(
        answers,
        class_maps=class_maps,
        class_map_sha256=("another", *answers.class_map_sha256[1:]),
        confidences=answers.confidences // 2 + confidence,
    )


def test_the_same_answers_are_identical_and_survive_the_disk(answers: Answers, tmp_path: Path) -> None:
    assert answers.repeated
    for name in ("a.npz", "b.npz"):
        answers.save(tmp_path / name)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    found, failure = judge(answers, Answers.load(tmp_path / "a.npz"), same_set=True, least=LEAST)
    assert found.startswith("identical")
    assert failure == ""


def test_one_changed_map_fails_on_the_same_instruction_set(answers: Answers) -> None:
    _, failure = judge(changed(answers, pixels=0), answers, same_set=True, least=LEAST)
    assert failure.startswith("1 of 2 class maps differ")
    other = replace(answers, confidence_sha256=("another", answers.confidence_sha256[1]))
    assert judge(other, answers, same_set=True, least=LEAST)[1].startswith("1 of 2 confidences differ")


@pytest.mark.parametrize("what", ["library", "frames_sha256", "set"])
def test_elsewhere_the_golden_match_is_asked_for(answers: Answers, what: str) -> None:
    near = replace(answers, class_map_sha256=("another", "another"))
    far = changed(answers, pixels=answers.class_maps.size // 10)
    for given, fails in ((near, False), (far, True)):
        given = given if what == "set" else replace(given, **{what: "another"})
        found, failure = judge(given, answers, same_set=what != "set", least=LEAST)
        assert "from the reference's" in found
        assert bool(failure) == fails


def test_an_answer_that_is_not_repeated_fails_whatever_the_reference_says(answers: Answers) -> None:
    assert "two engines" in judge(replace(answers, repeated=False), answers, same_set=True, least=LEAST)[1]


def test_a_slower_frame_fails(answers: Answers) -> None:
    slow = replace(answers, time_ratio=1.7 * (answers.time_ratio or 1))
    assert "more than 1.6 times" in judge(slow, answers, same_set=True, least=LEAST)[1]


def test_a_difference_fails_until_it_is_accepted_with_a_page_of_it(
    answers: Answers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle")
    today = answers

    def answers_by_set(_: Path) -> Iterator[tuple[str, dict[str, Answers]]]:
        yield "AVX2", {"generated": today}

    def judged(*, accept: bool = False) -> list[str]:
        verdicts = replay.replay(bundle, reference=tmp_path / "reference", accept=accept)
        return [verdict.failure for verdict in verdicts]

    page = tmp_path / "page" / "index.html"
    monkeypatch.setattr(replay, "answers_by_set", answers_by_set)
    monkeypatch.setattr(replay, "PAGE", page)
    frames = list(np.random.default_rng(0).integers(0, 256, (2, 40, 64, 3), dtype=np.uint8))
    monkeypatch.setattr(replay, "DRIVES", {"generated": lambda: frames, "tmo324": lambda: None})
    assert judged() == ["there is no reference to compare with", ""]
    assert judged(accept=True) == ["", ""]
    assert "no reference before" in page.read_text()
    assert judged() == ["", ""]
    today = changed(answers, pixels=20)
    assert judged()[0].startswith("1 of 2 class maps differ")
    assert judged(accept=True) == ["", ""]
    content = page.read_text()
    assert f"{20 / answers.class_maps.size:.1%}".replace("%", " %") in content
    assert content.count("<img") == 4
    assert "IoU of the two" in content
    assert judged() == ["", ""]
