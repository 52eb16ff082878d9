from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from darkseg_ros.errors import InputError
from training import ablation
from training.ablation import folder_of, frequent_miou, main, run_rows, table_of
from training.ablation_config import AblationConfig, refuse_unusable
from training.runs.config import load_config

CONFIGS = sorted((Path(__file__).parents[2] / "training/configs/ablation").glob("*.yaml"))


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.yaml"
    path.write_text(
        json.dumps(
            {
                "output": str(tmp_path / "out"),
                "sets": {"night": {"source": "somewhere"}},
                "rows": [
                    {"name": "day", "stage": "train_segmenter", "config": "a.yaml", "settings": ["x=1"]},
                    {"name": "+ night", "stage": "train_segmenter", "config": "a.yaml", "settings": ["y={seed}/labels"],
                     "prepare": [["training.pseudo_label", "--out", "{seed}/labels"]]},
                    {"name": "+ teacher", "stage": "adapt_segmenter", "config": "b.yaml"},
                ],
            }
        )
    )  # fmt: skip
    return path


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What would be run; every row is judged with the number of the row as its count of right pixels."""
    run: list[list[str]] = []
    monkeypatch.setattr(ablation, "_run", lambda row, command: run.append(command))

    def judge(checkpoint: Path, config: object, *, out: Path) -> None:
        out.parent.mkdir(parents=True)
        confusions = np.zeros((4, 19, 20), np.int64)
        confusions[:, 0, 0], confusions[:, 0, 1] = int(out.parent.name), 3
        np.savez(out, night=confusions)

    monkeypatch.setattr(ablation, "judge", judge)
    return run


def test_settings_of_one_file_add_up_and_commands_come_before_their_row(
    rows: Path, commands: list[list[str]], tmp_path: Path
) -> None:
    run_rows(load_config(AblationConfig, rows, []), seed=3, only=[])
    seed = tmp_path / "out/seed_3"
    assert commands == [
        ["training.train_segmenter", "--config", "a.yaml", "x=1", "seed=3", f"output={seed / '01'}"],
        ["training.pseudo_label", "--out", f"{seed}/labels"],
        [
            "training.train_segmenter",
            "--config",
            "a.yaml",
            "x=1",
            f"y={seed}/labels",
            "seed=3",
            f"output={seed / '02'}",
        ],
        ["training.adapt_segmenter", "--config", "b.yaml", "seed=3", f"output={seed / '03'}"],
    ]


def test_finished_rows_are_not_run_again_and_rows_can_be_chosen(rows: Path, commands: list[list[str]]) -> None:
    config = load_config(AblationConfig, rows, [])
    run_rows(config, seed=0, only=["+ teacher"])
    assert [command[0] for command in commands] == ["training.adapt_segmenter"]
    commands.clear()
    run_rows(config, seed=0, only=[])
    assert [command[0] for command in commands] == [
        "training.train_segmenter", "training.pseudo_label", "training.train_segmenter",
    ]  # fmt: skip


def test_a_row_that_was_killed_is_not_prepared_again(
    rows: Path, commands: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(AblationConfig, rows, [])

    def killed(row: str, command: list[str]) -> None:
        commands.append(command)
        if row == "+ night" and command[0] == "training.train_segmenter":
            raise InputError("killed")

    with monkeypatch.context() as patched:
        patched.setattr(ablation, "_run", killed)
        with pytest.raises(InputError, match="killed"):
            run_rows(config, seed=0, only=[])
    commands.clear()
    run_rows(config, seed=0, only=["+ night"])
    assert [command[0] for command in commands] == ["training.train_segmenter"]


def test_no_row_builds_on_one_that_stands_aside_nor_is_compared_with_it(
    rows: Path, commands: list[list[str]], tmp_path: Path
) -> None:
    content = json.loads(rows.read_text())
    content["rows"][1]["aside"], content["rows"][2]["config"] = True, "a.yaml"
    rows.write_text(json.dumps(content))
    config = load_config(AblationConfig, rows, [])
    run_rows(config, seed=0, only=[])
    assert commands[-1] == [
        "training.adapt_segmenter", "--config", "a.yaml", "x=1", "seed=0", f"output={tmp_path / 'out/seed_0/03'}"
    ]  # fmt: skip
    table = list(table_of(config, [0]))
    assert table[-2] == "| + night | 0 | 0.400 (0.400) | +0.150 (+0.150 to +0.150) | – |"
    assert table[-1] == "| + teacher | 0 | 0.500 (0.500) | +0.250 (+0.250 to +0.250) | – |"


def test_the_table_tells_every_change_and_what_was_not_run(
    rows: Path, commands: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    main(["--config", str(rows), "--rows", "day", "+ night"])
    table = capsys.readouterr().out.splitlines()
    assert table[-3] == "| day | 0 | 0.250 (0.250) |  | – |"
    assert table[-2] == "| + night | 0 | 0.400 (0.400) | +0.150 (+0.150 to +0.150) | – |"
    assert table[-1].startswith("| + teacher | 0 | not run |")
    config = load_config(AblationConfig, rows, [])
    assert (folder_of(config, "day", 0).parents[1] / "table.md").read_text().splitlines() == list(table_of(config, [0]))


def test_classes_of_a_handful_of_pixels_do_not_count_among_the_frequent() -> None:
    confusion = np.zeros((19, 20), np.int64)
    confusion[0, 0], confusion[0, 1], confusion[1, 1] = 3000, 1000, 5
    assert frequent_miou(confusion) == 0.75


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (["--rows", "+ nothing"], "there is no row \\+ nothing; rows: day, \\+ night, \\+ teacher"),
        (["--config", "nowhere.yaml"], "there is no config"),
    ],
)
def test_wrong_rows_are_refused_before_the_first_is_run(
    rows: Path, commands: list[list[str]], wrong: list[str], told: str
) -> None:
    with pytest.raises(SystemExit, match=told):
        main(["--config", str(rows), *wrong])
    assert not commands


def test_a_row_that_fails_names_its_command(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match=r"row one failed at python -m training\.nothing"):
        ablation._run("one", ["training.nothing"])
    capfd.readouterr()


@pytest.mark.parametrize(
    "path", [path for path in CONFIGS if path.stem in ("rows", "distillation", "inputs")], ids=lambda p: p.stem
)
def test_the_rows_that_are_published_can_be_run(path: Path) -> None:
    config = load_config(AblationConfig, path, [])
    refuse_unusable(config, [])
    assert all((path.parents[3] / row.config).is_file() for row in config.rows)
