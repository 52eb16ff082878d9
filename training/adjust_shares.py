"""Take back some of a trained network's push to rare classes, and set the exposure that it sees; no training.

    python -m training.adjust_shares --checkpoint FILE --source FOLDER [--source …] --strength 0.2 --out FILE.pt

Class weights, rare-class draws and pasted objects make a network answer rare classes more often than they stand in the
world. The adjustment is a constant for each class, added to the last layer's bias: the graphs cost what they did.
"""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import nn

from darkseg_ros.errors import InputError
from training.adaptation.teacher import load_teacher
from training.data.class_balance import class_shares, class_weights
from training.data.pairs import find_labelled_pool
from training.networks.config import NetworkConfig
from training.runs.checkpoints import save_checkpoint
from training.runs.results import one_line_errors


def main(arguments: list[str] | None = None) -> None:
    """Run the stage from the command line."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, help="of a training run")
    parser.add_argument("--source", type=Path, action="append", required=True, help="its labelled folder; repeatable")
    parser.add_argument("--strength", type=float, required=True, help="0 … the exponent of the run's class weights")
    parser.add_argument("--exposure-mean", type=float, help="as network.exposure_mean; default: the checkpoint's")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.pt", help="checkpoint to write")
    parsed = parser.parse_args(arguments)
    with one_line_errors("adjust_shares"):
        adjust_shares(
            parsed.checkpoint,
            parsed.source,
            strength=parsed.strength,
            exposure_mean=parsed.exposure_mean,
            out=parsed.out,
        )
    print(f"wrote {parsed.out}")


def adjust_shares(
    checkpoint: Path, source: list[Path], *, strength: float, exposure_mean: float | None, out: Path
) -> None:
    """Write a checkpoint that answers rare classes less often.

    Args:
        checkpoint: of `training.train_segmenter` or `training.adapt_segmenter`.
        source: the labelled folders that the shares of the classes are counted in.
        strength: of the adjustment, see `training.adaptation.pseudo_labels.adjust_to_shares`.
        exposure_mean: 1…254; None leaves the checkpoint's.
        out: checkpoint to write; it holds the averaged weights alone.

    Raises:
        InputError: on an unusable checkpoint or folder, or a value outside its range.
    """
    if not 0 <= strength <= 1 or (exposure_mean is not None and not 1 <= exposure_mean <= 254):
        raise InputError(f"--strength is {strength}, --exposure-mean {exposure_mean}; expected 0…1, and 1…254")
    network, state = load_teacher(checkpoint)
    shares = class_shares(find_labelled_pool(source))
    log_weights = np.log(class_weights(shares, exponent=1.0))
    last_layer = cast(nn.Conv2d, cast(nn.Sequential, network.head)[-1])
    assert last_layer.bias is not None
    with torch.no_grad():
        last_layer.bias -= strength * torch.from_numpy(log_weights).to(last_layer.bias)
    config = state["config"]
    if exposure_mean is not None:
        gamma_min = config["network"].get("exposure_gamma_min", NetworkConfig.exposure_gamma_min)
        config["network"].update(exposure_mean=exposure_mean, exposure_gamma_min=gamma_min)
    save_checkpoint(out, {"step": state["step"], "config": config, "teacher": network.state_dict()})


if __name__ == "__main__":
    main()
