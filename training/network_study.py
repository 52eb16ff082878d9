"""Train every network of a study on one budget, change one setting at a time, and write the page that compares them.

    python -m training.network_study --config training/configs/study_mini.yaml [--only unet …] [--page-only]

A run that has figures is not repeated; one that was stopped continues. The page says which runs are missing.
"""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

from omegaconf import DictConfig

from darkseg_ros.errors import InputError
from training.runs.results import one_line_errors, write_result
from training.study.page import page_of, write_plots
from training.study.results import read_results
from training.study.settings import StudyConfig, StudyRun, read_study, runs_of


def main(arguments: list[str] | None = None) -> None:
    """Run the study from the command line."""
    root = Path(__file__).parent.parent
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="YAML of the study")
    parser.add_argument(
        "--only", nargs="+", metavar="WORD", help="runs whose folder below the study's has one of these"
    )
    parser.add_argument("--page-only", action="store_true", help="train nothing, write the page of what there is")
    parser.add_argument("--out", type=Path, default=root / "docs" / "study.md", help="page to write")
    parsed = parser.parse_args(arguments)
    with one_line_errors("network_study"):
        study = read_study(parsed.config)
        runs = runs_of(study)
        if not parsed.page_only:
            make_runs(study, _chosen(runs, parsed.only))
        results = read_results(study, runs)
        pictures = write_plots(study, runs, results, parsed.out.parent / "pictures")
        write_result(parsed.out, page_of(study, runs, results, command=parsed.config, pictures=pictures))
        print(f"{len(results)} of {len(runs)} runs have figures; wrote {parsed.out}")


def _chosen(runs: list[StudyRun], words: list[str] | None) -> list[StudyRun]:
    if words is None:
        return runs
    chosen = [run for run in runs if any(word in run.folder.as_posix() for word in words)]
    if not chosen:
        raise InputError(
            f"no run is called {' or '.join(words)}; there are {', '.join(str(run.folder) for run in runs)}"
        )
    return chosen


def make_runs(study: StudyConfig, runs: list[StudyRun]) -> None:
    """Train what has no figures yet.

    Raises:
        InputError: as `training.train_segmenter` does, before the first run where a setting of any is unusable.
    """
    from training.coarsen_labels import coarsen_folder
    from training.runs.config import load_config
    from training.segmenter_config import SegmenterConfig, refuse_unusable
    from training.study.results import figures_file, measure
    from training.train_segmenter import train

    def config_of(run: StudyRun) -> DictConfig:
        settings = [*run.settings, f"output={Path(study.output) / run.folder}"]
        config = load_config(SegmenterConfig, Path(study.segmenter), settings)
        refuse_unusable(config)
        return config

    configs = {run: config_of(run) for run in runs}
    for run in runs:
        if figures_file(study, run).is_file():
            continue
        if any(study.coarse in setting for setting in run.settings):
            fine = Path(str(load_config(SegmenterConfig, Path(study.segmenter), list(study.settings)).data.source[0]))
            coarsen_folder(fine, Path(study.coarse), margin=0.02)
        print(f"{run.folder}: {' '.join(run.settings)}")
        train(configs[run])
        measure(study, run, configs[run])


if __name__ == "__main__":
    main()
