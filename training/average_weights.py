"""Average the weights of two networks, one trained on from the other: what is gained is kept, less is forgotten.

    python -m training.average_weights --checkpoint BEFORE --checkpoint AFTER --share 0.75 --out FILE.pt

Source: Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022 (arXiv 2109.01903). The statistics of
BatchNorm are averaged as the weights are: exact where the second run left them alone (``network.freeze_batch_norm``).
"""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

from darkseg_ros.errors import InputError
from training.adaptation.teacher import load_teacher
from training.data.class_table import classes_of
from training.runs.checkpoints import save_checkpoint
from training.runs.results import one_line_errors


def main(arguments: list[str] | None = None) -> None:
    """Run the stage from the command line."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument(
        "--checkpoint", type=Path, action="append", required=True, help="of training runs: before, then after"
    )
    parser.add_argument("--share", type=float, required=True, help="of the second one's weights, 0…1")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.pt", help="checkpoint to write")
    parsed = parser.parse_args(arguments)
    with one_line_errors("average_weights"):
        if len(parsed.checkpoint) != 2:
            raise InputError(f"--checkpoint is given {len(parsed.checkpoint)} times; expected two, before and after")
        before, after = parsed.checkpoint
        average_weights(before, after, share=parsed.share, out=parsed.out)
    print(f"wrote {parsed.out}")


def average_weights(before: Path, after: Path, *, share: float, out: Path) -> None:
    """Write a checkpoint of ``(1 - share) · before + share · after``, of their averaged weights.

    Args:
        before: checkpoint of `training.train_segmenter` or `training.adapt_segmenter`.
        after: of the same network, trained on; the new one has its settings.
        share: 0…1.
        out: checkpoint to write; it holds the averaged weights alone.

    Raises:
        InputError: on an unusable checkpoint, two of different networks or classes, or a share outside its range.
    """
    if not 0 <= share <= 1:
        raise InputError(f"--share is {share}; expected 0…1")
    (old, old_state), (new, state) = load_teacher(before), load_teacher(after)
    of_old, of_new = old.state_dict(), new.state_dict()
    shapes = [{name: value.shape for name, value in weights.items()} for weights in (of_old, of_new)]
    if shapes[0] != shapes[1] or classes_of(old_state["config"]) != classes_of(state["config"]):
        raise InputError(f"{before} and {after} are of different networks or classes; name two states of one network")
    averaged = {
        name: of_old[name].lerp(value, share) if value.is_floating_point() else value for name, value in of_new.items()
    }
    kept = {name: value for name, value in state.items() if name in ("step", "config", "views", "ancestors")}
    save_checkpoint(out, {**kept, "teacher": averaged})


if __name__ == "__main__":
    main()
