"""Let a trained network see each frame several times: larger and smaller, as it is and mirrored; no training.

    python -m training.average_views --checkpoint FILE --input-px 512 --scales 1 0.75 --mirrored --out FILE.pt

The checkpoint that it writes is exported and evaluated as any other (``--help`` of engines.export); its graphs take as
much longer as they see more pixels: the views are the test-time augmentation of papers, inside the graph.
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from darkseg_ros.errors import InputError
from training.adaptation.teacher import load_teacher
from training.networks.input_size import SIDE_MULTIPLE
from training.runs.checkpoints import save_checkpoint
from training.runs.results import one_line_errors


def main(arguments: list[str] | None = None) -> None:
    """Run the stage from the command line."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, help="of a training run")
    parser.add_argument(
        "--input-px", type=int, help="height of its input, of the same shape; default: the checkpoint's"
    )
    parser.add_argument("--scales", type=float, nargs="+", default=[1.0], help="of its sides, 0…1 (1)")
    parser.add_argument("--mirrored", action="store_true", help="each scale is seen mirrored too")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.pt", help="checkpoint to write")
    parsed = parser.parse_args(arguments)
    with one_line_errors("average_views"):
        average_views(
            parsed.checkpoint,
            input_px=parsed.input_px,
            scales=parsed.scales,
            mirrored=parsed.mirrored,
            out=parsed.out,
        )
    print(f"wrote {parsed.out}")


def average_views(
    checkpoint: Path, *, input_px: int | None, scales: Sequence[float], mirrored: bool, out: Path
) -> None:
    """Write a checkpoint whose network is `training.networks.views.MeanOfViews`.

    Args:
        checkpoint: of `training.train_segmenter` or `training.adapt_segmenter`; its averaged weights are taken.
        input_px: height of the input, a multiple of 32, whose shape stays; None leaves the checkpoint's.
        scales: of its sides, in (0, 1].
        mirrored: each scale is seen mirrored too.
        out: checkpoint to write; it holds the averaged weights alone.

    Raises:
        InputError: on an unusable checkpoint, one that has views already, or a value outside its range.
    """
    if not scales or not all(0 < scale <= 1 for scale in scales):
        raise InputError(f"--scales are {' '.join(map(str, scales))}; expected values above 0 and up to 1")
    if input_px is not None and (input_px < SIDE_MULTIPLE or input_px % SIDE_MULTIPLE):
        raise InputError(f"--input-px is {input_px}; expected a multiple of {SIDE_MULTIPLE}")
    network, state = load_teacher(checkpoint)
    if "views" in state:
        raise InputError(f"{checkpoint} sees several views already; take the checkpoint that it was made from")
    config = state["config"]
    if input_px is not None:
        config["network"]["input_px"] = input_px
    save_checkpoint(
        out,
        {
            "step": state["step"],
            "config": config,
            "teacher": network.state_dict(),
            "views": {"scales": list(scales), "mirrored": mirrored},
            "ancestors": state.get("ancestors", []),
        },
    )


if __name__ == "__main__":
    main()
