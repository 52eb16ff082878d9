"""The stages of dvc.yaml, on generated images."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from training.ladder.rows import OWN_ROWS, THESIS_ROWS

REPOSITORY = Path(__file__).parents[2]
ROWS = sorted(f"row_{row.row.replace('.', '_')}" for row in (*THESIS_ROWS, *OWN_ROWS))
PARAMETER_SETS = ("params.yaml", "ladder/thesis/params.yaml", "ladder/second_seed/params.yaml")

UNIT_CONFIG = """
output: set by the stage
steps: 2
view_px: 32
crop_px: 32
loader_workers: 0
accelerator: cpu
data: {day: [], night: []}
network: {channels: 2, residual_blocks: 1, shared_blocks: 1, discriminator_channels: 2, discriminator_layers: 1,
  discriminator_scales: 1}
perceptual: {vgg_weights: vgg.pth, layer: relu1_1}
"""
SEGMENTER_CONFIG = """
output: set by the stage
accelerator: cpu
loader_workers: 0
rare_class_share: 0.0
network: {input_px: 64, options: {channels: 8}}
augmentation: {view_px: 64, crop_px: 64}
cheap_night: {share: 0.0}
self_training: {mix_share: 0.0}
"""


def read_yaml(path: str) -> Any:
    return yaml.safe_load((REPOSITORY / path).read_text(encoding="utf-8"))


def dvc(folder: Path, *arguments: str, state: Path, data: Path | None = None) -> str:
    """Output of a DVC command; AssertionError with all of it if it fails.

    Args:
        folder: where it runs.
        arguments: of the command.
        state: folder for what DVC remembers, instead of the user's.
        data: DARKSEG_DATA; None leaves it unset.
    """
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(REPOSITORY),
        "OMP_NUM_THREADS": "1",
        "DVC_NO_ANALYTICS": "1",
        "DVC_SITE_CACHE_DIR": str(state / "site_cache"),
        "DVC_GLOBAL_CONFIG_DIR": str(state / "global_config"),
        "COLUMNS": "200",
    }
    environment.pop("DARKSEG_DATA", None)
    if data is not None:
        environment["DARKSEG_DATA"] = str(data)
    finished = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=900,
    )
    assert finished.returncode == 0, finished.stdout
    return finished.stdout


def stages_run(output: str) -> list[str]:
    return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]


@pytest.fixture
def toy(generated_data: Path, tmp_path: Path) -> Path:
    """A checkout's pipeline with parameters for generated images and runs of seconds."""
    (tmp_path / "unit.yaml").write_text(UNIT_CONFIG)
    (tmp_path / "segmenter.yaml").write_text(SEGMENTER_CONFIG)
    torch.save({"features.0.weight": torch.ones(2, 3, 3, 3), "features.0.bias": torch.zeros(2)}, tmp_path / "vgg.pth")
    params = {
        "checkout": ".",
        "runs": "runs/toy",
        "figures": "figures",
        "data": {
            "day_train": str(generated_data / "source"),
            "day_validation": str(generated_data / "validation"),
            "day_unlabelled": str(generated_data / "source" / "image"),
            "night_unlabelled": str(generated_data / "night"),
            "night_test": "${DARKSEG_DATA:-nowhere}/night_validation",
            "other_weather_test": str(generated_data / "validation"),
            "dusk_test": str(generated_data / "validation"),
        },
        "split": "--night-threshold 255 --no-band",
        "selection": {"histogram": "--band 0 255 --count 2", "fid": "--count 2"},
        "extractor": "none.pt",
        "unit": {
            "day": f"[{generated_data / 'source' / 'image'}]",
            "plain": {"config": "unit.yaml", "run": "runs/unit_plain"},
            "perceptual": {"config": "unit.yaml", "run": "runs/unit_perceptual"},
            "settings": "seed=0",
        },
        "translate": "--resize-px 32",
        "pseudo_labels": "--confidence-min 0",
        "pseudo_labels_sure": "--confidence-min 0.1 --confidence-maps",
        "segmenter": {
            "config": "segmenter.yaml",
            "settings": "self_training.pooled=true",
            "from_scratch": "steps=2",
            "continued": "steps=1",
            "validation": f"data.validation.day={generated_data / 'validation'} "
            "data.validation.night=${DARKSEG_DATA:-nowhere}/night_validation",
            "labelled_only": "batch_size=3",
            "quarter_unlabelled": "batch_size=2 self_training.batch_size=1",
            "mostly_unlabelled": "batch_size=1 self_training.batch_size=2",
        },
    }
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    shutil.copy(REPOSITORY / "dvc.yaml", tmp_path)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text("[core]\n    no_scm = True\n    check_update = false\n")
    return tmp_path


@pytest.mark.timeout(1200)  # a dozen processes that import PyTorch
def test_a_row_and_all_it_needs_are_made_once_and_only_what_changed_again(
    toy: Path, generated_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    def repro(*arguments: str, data: Path = generated_data) -> list[str]:
        run = stages_run(dvc(toy, "repro", *arguments, "row_4_1", state=toy, data=data))
        return [stage for stage in run if not stage.startswith("data@")]  # these always run

    chain = ["split", "select_histogram", "unit_perceptual", "translate@night_perceptual_train", "row_3_1"]
    chain += ["pseudo_labels@3_1_histogram", "row_4_1"]
    assert sorted(repro()) == sorted(chain)

    figures = json.loads((toy / "figures" / "row_4_1" / "figures.json").read_text())
    assert 0 <= figures["miou_low"] <= figures["miou"] <= figures["miou_high"] <= 100
    assert "figures/row_4_1/figures.json" in dvc(toy, "metrics", "show", state=toy)
    labels = sorted(path.name for path in (toy / "runs" / "toy" / "pseudo_labels" / "3_1_histogram").glob("*.png"))
    assert len(labels) == 2

    moved = tmp_path_factory.mktemp("moved")
    shutil.copytree(generated_data / "night_validation", moved / "night_validation")
    assert repro(data=moved) == []
    assert str(moved) not in (toy / "dvc.lock").read_text()

    params = (toy / "params.yaml").read_text()
    (toy / "params.yaml").write_text(params.replace("self_training.batch_size=1", "self_training.batch_size=2"))
    assert repro("--dry") == ["row_4_1"]
    (toy / "params.yaml").write_text(params.replace("--resize-px 32", "--resize-px 64"))
    would_run = repro("--dry")
    assert would_run[0] == "translate@night_perceptual_train"
    assert not {"split", "select_histogram", "unit_perceptual"} & set(would_run)


@pytest.mark.parametrize("folder", [Path(path).parent for path in PARAMETER_SETS], ids=str)
def test_all_parameter_sets_fill_the_same_stages(folder: str, tmp_path: Path) -> None:
    listed = [line.split()[0] for line in dvc(REPOSITORY / folder, "stage", "list", state=tmp_path).splitlines()]
    assert [name for name in listed if name.startswith("row_")] == ROWS
    assert {"split", "unit_plain", "unit_perceptual", "translate@night_plain_train", "fid@day_to_night"} <= set(listed)


@pytest.mark.parametrize("path", PARAMETER_SETS)
def test_the_stage_file_of_all_parameter_sets_is_one(path: str) -> None:
    assert (REPOSITORY / path).with_name("dvc.yaml").resolve() == REPOSITORY / "dvc.yaml"


def test_the_second_seed_differs_in_seeds_and_places_alone() -> None:
    first, second = read_yaml("params.yaml"), read_yaml("ladder/second_seed/params.yaml")
    assert (second.pop("checkout"), second.pop("figures")) == ("../..", "ladder/second_seed/figures")
    del first["checkout"], first["figures"]
    moved = json.loads(json.dumps(first).replace("runs/ladder/mini", "runs/ladder/second_seed"))
    moved["segmenter"]["settings"] = moved["segmenter"]["settings"].replace("seed=0", "seed=1")
    moved["unit"]["settings"] += " seed=1"
    assert second == moved


@pytest.mark.parametrize("path", PARAMETER_SETS)
def test_every_trained_row_has_the_same_budget(path: str) -> None:
    segmenter = read_yaml(path)["segmenter"]
    shares = ("labelled_only", "quarter_unlabelled", "mostly_unlabelled")
    for name in shares:
        assert sum(int(setting.split("=")[1]) for setting in segmenter[name].split()) == 10, name
    assert "self_training.pooled=true" in segmenter["settings"]
    labelled, unlabelled = (int(setting.split("=")[1]) for setting in segmenter["quarter_unlabelled"].split())
    assert unlabelled / labelled == 0.25
    for row, stage in read_yaml("dvc.yaml")["stages"].items():
        command = str(stage.get("cmd"))
        if row.startswith("row_") and "train_segmenter" in command:
            assert "${segmenter.settings}" in command, row
            assert "${segmenter.validation}" in command, row
            start = "continued" if "network.start_checkpoint" in command else "from_scratch"
            assert [name for name in ("continued", "from_scratch") if f"${{segmenter.{name}}}" in command] == [start], (
                row
            )
            assert sum(f"${{segmenter.{name}}}" in command for name in shares) == 1, row


# Parent, translation, pseudo-labels, loss of the trained rows, typed off the thesis's tables and text; 4.3 is its
# future work.
THESIS_SETUP = """
1.1 -   day               -             cross_entropy
1.2 -   day               1_1_day       cross_entropy
1.3 1.1 day               1_1_day       cross_entropy
2.1 -   day+plain         -             cross_entropy
2.2 2.1 day+plain         2_1_all       cross_entropy
3.1 -   day+perceptual    -             cross_entropy
3.2 3.1 day+perceptual    3_1_all       cross_entropy
4.1 3.1 day+perceptual    3_1_histogram cross_entropy
4.3 3.1 day+perceptual    3_1_histogram_sure cross_entropy
5.1 -   perceptual        -             cross_entropy
5.2 3.1 perceptual        -             cross_entropy
5.3 5.1 perceptual        5_1_histogram cross_entropy
5.4 5.2 perceptual        5_2_histogram cross_entropy
6.1 -   day+perceptual    -             focal
6.2 6.1 day+perceptual    6_1_histogram focal
7.1 3.1 day+perceptual    3_1_fid       cross_entropy
7.2 3.1 day+perceptual    3_1_fid       combined
7.3 3.1 day+perceptual    3_1_histogram combined
8.1 5.2 day+perceptual    5_2_histogram cross_entropy
8.2 8.1 day+perceptual    8_1_fid       cross_entropy
8.3 8.1 day+perceptual    8_1_fid       combined
"""


@pytest.mark.parametrize("line", THESIS_SETUP.strip().splitlines(), ids=lambda line: line.split()[0])
def test_a_row_is_set_up_as_in_the_thesis(line: str) -> None:
    row, parent, sources, pseudo_labels, loss = line.split()
    stage = read_yaml("dvc.yaml")["stages"][f"row_{row.replace('.', '_')}"]
    settings = dict(part.split("=", 1) for part in stage["cmd"][0].split() if "=" in part)
    folder = {"day": "${data.day_train}", "plain": "${runs}/night_plain_train"}
    folder["perceptual"] = "${runs}/night_perceptual_train"
    wanted_sources = [folder[name] for name in sources.split("+")]
    checkpoint = f"${{runs}}/row_{parent.replace('.', '_')}/checkpoints/last.pt"
    labels = f"${{runs}}/pseudo_labels/{pseudo_labels}"
    assert settings["data.source"] == f"[{','.join(wanted_sources)}]"
    assert settings["loss.kind"] == loss
    assert settings.get("network.start_checkpoint", "-") == (checkpoint if parent != "-" else "-")
    assert settings.get("data.pseudo_labels", "-") == (labels if pseudo_labels != "-" else "-")
    if "day" in sources:
        wanted_sources[0] = "${figures}/data/day_train.json"
    assert set(wanted_sources) <= set(stage["deps"])
    assert (checkpoint in stage["deps"]) == (parent != "-")
    assert (labels in stage["deps"]) == (pseudo_labels != "-")


@pytest.mark.parametrize(
    ("row", "evaluated", "test_set"),
    [
        ("2_3", "2_1", "day_plain_test"),
        ("2_4", "2_2", "day_plain_test"),
        ("3_3", "3_1", "day_perceptual_test"),
        ("3_4", "3_2", "day_perceptual_test"),
        ("4_2", "4_1", "day_perceptual_test"),
    ],
)
def test_rows_on_the_converted_test_set_train_nothing(row: str, evaluated: str, test_set: str) -> None:
    stage = read_yaml("dvc.yaml")["stages"][f"row_{row}"]
    assert stage["deps"] == [f"${{runs}}/row_{evaluated}/checkpoints/last.pt", f"${{runs}}/{test_set}"]
    assert "evaluate_checkpoint" in stage["cmd"][0]
