"""Evaluate the averaged weights of a checkpoint on any labelled folder.

python -m training.evaluate_checkpoint --checkpoint FILE --labelled FOLDER --name night --out metrics.json
"""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

from omegaconf import OmegaConf

from darkseg_ros.evaluation.metrics import ABSENT_CLASSES
from training.adaptation.teacher import load_teacher
from training.data.class_table import classes_of
from training.data.pairs import find_labelled_images
from training.networks.config import exposure_of, input_hw_of
from training.runs.fabric import add_accelerator, pick_device
from training.runs.results import one_line_errors
from training.validation import describe, evaluate_network, write_metrics


def main(arguments: list[str] | None = None) -> None:
    """Run the stage from the command line."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, help="checkpoint of training.train_segmenter")
    parser.add_argument("--labelled", type=Path, required=True, help="folder with image/ and label/")
    parser.add_argument("--name", required=True, help="of the set in the result")
    parser.add_argument("--out", type=Path, required=True, help="JSON file, as training.train_segmenter writes it")
    add_accelerator(parser)
    parsed = parser.parse_args(arguments)
    with one_line_errors("evaluate_checkpoint"):
        evaluate(parsed.checkpoint, parsed.labelled, name=parsed.name, out=parsed.out, accelerator=parsed.accelerator)


def evaluate(checkpoint: Path, labelled: Path, *, name: str, out: Path, accelerator: str) -> None:
    """Write the figures of a checkpoint on a folder, and print them.

    Args:
        checkpoint: of `training.train_segmenter`.
        labelled: folder with image/ and label/.
        name: of the set in the result.
        out: JSON file.
        accelerator: auto, cpu or gpu.

    Raises:
        InputError: if the checkpoint or a file of the folder cannot be used, or `out` cannot be written.
    """
    device = pick_device(accelerator)
    network, state = load_teacher(checkpoint)
    network.to(device)
    classes = classes_of(state["config"])
    settings = OmegaConf.create(state["config"]["network"])
    metrics = evaluate_network(
        network,
        {name: find_labelled_images(labelled, classes)},
        input_hw=input_hw_of(settings),
        exposure=exposure_of(settings),
        classes=classes,
    )
    write_metrics(out, metrics)
    print("\n".join([*describe(name, metrics[name]), f"absent classes: {ABSENT_CLASSES}"]))


if __name__ == "__main__":
    main()
