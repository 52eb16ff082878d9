"""Train rows that each add one part to the row before, at one budget, and tell what the part changed.

    python -m training.ablation --config training/configs/ablation/rows.yaml [--seeds 0 1] [--rows NAME …]

A row is a run of a training stage, whose settings are those of the rows before it and its own; no other builds on a row
that stands aside. What is finished, row or preparation of a row, is not run again, so that a killed ablation goes on
where it stopped. The table, in OUTPUT/table.md and on the screen, has the mIoU of the classes that occur in each set,
in brackets the pixel accuracy, and the change against the row before with its 95 % interval of a paired bootstrap over
images.
"""

from __future__ import annotations

import json
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from darkseg_ros.errors import InputError
from darkseg_ros.evaluation.metrics import iou_per_class, mean_iou_of_present, paired_interval, pixel_accuracy
from darkseg_ros.whole_files import write_whole
from training.ablation_config import AblationConfig, refuse_unusable
from training.runs.config import load_config
from training.runs.results import one_line_errors, write_result

_RARE_PIXELS = 1000
"""Classes of at most so many pixels in a whole set are left out of the table's second mIoU."""


def main(arguments: list[str] | None = None) -> None:
    """Run the stage from the command line."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="YAML file of the rows")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="each row is run once for each (default 0)")
    parser.add_argument("--rows", nargs="+", default=[], metavar="NAME", help="run these only; the table has all")
    parsed = parser.parse_args(arguments)
    with one_line_errors("ablation"):
        config = load_config(AblationConfig, parsed.config, [])
        refuse_unusable(config, parsed.rows)
        for seed in parsed.seeds:
            run_rows(config, seed, only=parsed.rows)
        table = "\n".join(table_of(config, parsed.seeds))
        write_result(Path(config.output) / "table.md", f"{table}\n")
        print(table)


def run_rows(config: DictConfig, seed: int, *, only: Sequence[str]) -> None:
    """Train and judge every row that is not finished yet.

    Raises:
        InputError: naming row and command, if one fails.
    """
    added: dict[str, list[str]] = {}
    for row in config.rows:
        settings = [*added.get(row.config, []), *row.settings]
        if not row.aside:
            added[row.config] = settings
        folder = folder_of(config, row.name, seed)
        if (folder / "confusions.npz").exists() or (only and row.name not in only):
            continue
        seed_folder = str(folder.parent)
        commands = [[word.replace("{seed}", seed_folder) for word in command] for command in row.prepare]
        _prepare(row.name, commands, folder)
        overrides = [setting.replace("{seed}", seed_folder) for setting in settings]
        _run(
            row.name,
            [f"training.{row.stage}", "--config", row.config, *overrides, f"seed={seed}", f"output={folder}"],
        )
        judge(folder / "checkpoints" / "last.pt", config, out=folder / "confusions.npz")


def folder_of(config: DictConfig, row: str, seed: int) -> Path:
    """Of a row's run."""
    position = [one.name for one in config.rows].index(row)
    return Path(config.output) / f"seed_{seed}" / f"{position + 1:02d}"


def _prepare(row: str, commands: list[list[str]], folder: Path) -> None:
    """Run the commands that have not run for this folder yet: most of them refuse to write their results again."""
    record = folder.with_name(f"{folder.name}_prepared.json")
    done: list[list[str]] = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else []
    for command in commands:
        if command not in done:
            _run(row, command)
            done.append(command)
            write_whole(record, json.dumps(done, indent=2).encode())


def _run(row: str, command: list[str]) -> None:
    print(f"{row}: python -m {' '.join(command)}", flush=True)
    if subprocess.run([sys.executable, "-m", *command], check=False).returncode:
        raise InputError(f"row {row} failed at python -m {command[0]}; see above, mend it and start again")


def judge(checkpoint: Path, config: DictConfig, *, out: Path) -> None:
    """Write the confusion matrices of a checkpoint's averaged weights, one an image, (N, K, K + 1) by set.

    Raises:
        InputError: on an unusable checkpoint or set.
    """
    import torch
    from omegaconf import OmegaConf

    from training.adaptation.teacher import load_teacher
    from training.data.pairs import find_source
    from training.networks.config import exposure_of, input_hw_of
    from training.validation import confusions_of

    torch.set_num_threads(1)
    network, state = load_teacher(checkpoint)
    settings = OmegaConf.create(state["config"]["network"])
    confusions: dict[str, Any] = {}
    for name, judged in config.sets.items():
        source: Any = OmegaConf.to_container(judged.source) if isinstance(judged.source, DictConfig) else judged.source
        confusions[name] = confusions_of(
            network,
            find_source(source)[:: judged.every],
            input_hw=input_hw_of(settings),
            exposure=exposure_of(settings),
            merged=judged.merged,
        )
    np.savez_compressed(out, **confusions)


def table_of(config: DictConfig, seeds: Sequence[int]) -> Iterator[str]:
    """Lines of Markdown: a row a run, several seeds below each other."""
    names = list(config.sets)
    yield "| row | seed | " + " | ".join(f"{name} | change" for name in names) + " | night, frequent classes |"
    yield "|---|---|" + "---|---|" * len(names) + "---|"
    for seed in seeds:
        before = None
        for row in config.rows:
            path = folder_of(config, row.name, seed) / "confusions.npz"
            if not path.exists():
                yield f"| {row.name} | {seed} | " + "not run | | " * len(names) + "|"
                continue
            now = dict(np.load(path))
            cells = []
            for name in names:
                miou, accuracy = mean_iou_of_present(now[name].sum(0)), pixel_accuracy(now[name].sum(0))
                cells.append(f"{miou:.3f} ({accuracy:.3f})")
                if before is None:
                    cells.append("")
                else:
                    low, high = paired_interval(now[name], before[name])
                    change = miou - mean_iou_of_present(before[name].sum(0))
                    cells.append(f"{change:+.3f} ({low:+.3f} to {high:+.3f})")
            frequent = frequent_miou(now["night"].sum(0)) if "night" in now else float("nan")
            yield (
                f"| {row.name} | {seed} | "
                + " | ".join(cells)
                + (" | – |" if np.isnan(frequent) else f" | {frequent:.3f} |")
            )
            before = before if row.aside else now


def frequent_miou(confusion: np.ndarray) -> float:
    """Mean IoU of the classes with over 1000 labelled pixels: what a handful of pixels cannot move."""
    frequent = confusion.sum(1) > _RARE_PIXELS
    return float(np.mean(iou_per_class(confusion)[frequent])) if frequent.any() else float("nan")


if __name__ == "__main__":
    main()
