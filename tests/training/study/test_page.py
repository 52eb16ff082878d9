from __future__ import annotations

from pathlib import Path

from training.study.page import page_of, sentences, write_plots
from training.study.results import TEST_SETS, RunFigures
from training.study.settings import StudyConfig, StudyRun, Sweeps, runs_of

STUDY = StudyConfig(
    segmenter="s.yaml",
    output="o",
    figures="f",
    coarse="c",
    networks={"fcn": [], "unet": []},
    coarse_labels=["unet"],
    sweeps=Sweeps(networks=["unet"], changes={"loss": {"focal": ["loss.kind=focal"]}}),
)
RUNS = runs_of(STUDY)


def figures(day: float, *, spread: float = 1.0) -> RunFigures:
    return RunFigures(
        miou=dict.fromkeys(TEST_SETS, day),
        low=dict.fromkeys(TEST_SETS, day - spread),
        high=dict.fromkeys(TEST_SETS, day + spread),
        steps=150,
        parameters=1_500_000,
        latency_ms=12.0,
    )


def by_name(**days: float) -> dict[StudyRun, RunFigures]:
    names = {"fcn": RUNS[0], "unet": RUNS[1], "coarse": RUNS[2], "focal": RUNS[3]}
    return {names[name]: figures(day) for name, day in days.items()}


def page(results: dict[StudyRun, RunFigures]) -> str:
    return page_of(STUDY, RUNS, results, command=Path("study.yaml"), pictures={"a plot": "pictures/a.svg"})


def test_runs_stand_in_tables_and_missing_ones_say_so() -> None:
    text = page(by_name(fcn=20.0, unet=24.0, focal=22.5))
    assert "| unet | U-Net | 24.0 (23.0–25.0) | 24.0 (23.0–25.0) | 24.0 (23.0–25.0) | 1.50 | 12 |" in text
    assert text.index("| unet | U-Net") < text.index("| fcn | FCN")
    assert "| unet | loss | focal | 22.5 (21.5–23.5) | -1.5 |" in text
    assert "| unet | labels | coarse | not yet run |" in text
    assert "3 of 4 runs were made" in text
    assert "python -m training.network_study --config study.yaml" in text
    assert "![a plot](pictures/a.svg)" in text


def test_nothing_run_claims_nothing() -> None:
    assert list(sentences({})) == []
    assert "best" not in page({})


def test_the_sentences_follow_the_figures_and_their_intervals() -> None:
    said = list(sentences(by_name(fcn=20.0, unet=24.0, coarse=21.0, focal=24.5)))
    assert len(said) == 5
    assert said[0] == (
        "By day unet is best of 2 networks with 24.0, and fcn last with 20.0, a difference beyond the intervals."
    )
    assert said[3] == "Coarse in the place of fine labels change the mIoU by day so: unet -3.0."
    assert "Of 2 single changes 1 move the mIoU by day beyond the intervals" in said[4]
    assert said[4].endswith("the largest move is labels on unet (coarse), -3.0.")
    assert "within the intervals" in next(sentences(by_name(fcn=20.0, unet=20.5)))


def test_plots_of_the_same_figures_are_the_same_bytes(tmp_path: Path) -> None:
    results = by_name(fcn=20.0, unet=24.0, focal=22.5)
    addresses = write_plots(STUDY, RUNS, results, tmp_path / "pictures")
    assert set(addresses) == {"mIoU by network", "mIoU of unet, one change at a time"}
    first = {name: (tmp_path / name).read_bytes() for name in addresses.values()}
    assert all(content.startswith(b"<?xml") and b"</svg>" in content for content in first.values())
    write_plots(STUDY, RUNS, results, tmp_path / "pictures")
    assert first == {name: (tmp_path / name).read_bytes() for name in addresses.values()}
