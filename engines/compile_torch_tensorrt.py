"""Compile a checkpoint's network with Torch-TensorRT, for PyTorch programs that want TensorRT inside.

    python -m engines.compile_torch_tensorrt --checkpoint runs/segmenter_slim/checkpoints/last.pt --out network.pt2

The node does not read the result: it runs plans, which `build_plan` makes from a bundle. Needs an NVIDIA GPU and
torch_tensorrt of the same minor version as torch. Not yet run: on 2026-11-22 there was none for torch 2.15.
"""

from __future__ import annotations

import importlib
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import torch

from darkseg_ros.errors import DarksegError, EngineError
from darkseg_ros.model.segmenter import preprocess
from darkseg_ros.synthetic_drive import SyntheticDrive
from darkseg_ros.whole_files import whole_file
from engines.fused_graph import LogitsGraph
from training.adaptation.teacher import load_teacher
from training.networks.config import complete, input_hw_of


def main(arguments: list[str] | None = None) -> None:
    """Run the compilation from the command line."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, help="checkpoint of training.train_segmenter")
    parser.add_argument("--out", type=Path, required=True, help="file for the exported program")
    parsed = parser.parse_args(arguments)
    try:
        agreement = compile_checkpoint(parsed.checkpoint, out=parsed.out)
    except DarksegError as error:
        sys.exit(f"compile_torch_tensorrt: {error}")
    print(f"wrote {parsed.out}; it agrees with the checkpoint on {agreement:.2%} of a generated night scene's pixels")


def compile_checkpoint(checkpoint: Path, *, out: Path) -> float:
    """Write the compiled `LogitsGraph` of a checkpoint.

    Args:
        checkpoint: of `training.train_segmenter`; its averaged weights are compiled.
        out: exported program, for torch.export.load after ``import torch_tensorrt``.

    Returns:
        Share of a generated night scene's quarter-resolution pixels on which both give the same class.

    Raises:
        EngineError: if torch_tensorrt or a GPU is missing.
        InputError: if the checkpoint is none.
    """
    torch_tensorrt = _torch_tensorrt()
    network, state = load_teacher(checkpoint)
    input_hw = input_hw_of(complete(state["config"]["network"]))
    scene = SyntheticDrive(seed=0, size_hw=(512, 1024), night=True).frame(0)
    frames = torch.from_numpy(preprocess(scene.bgr, input_hw)).cuda()
    graph = LogitsGraph(network).eval().cuda()
    with torch.no_grad():
        compiled = torch_tensorrt.dynamo.compile(torch.export.export(graph, (frames,)), arg_inputs=[frames])
        agreement = (compiled(frames).argmax(1) == graph(frames).argmax(1)).float().mean().item()
        with whole_file(out) as unfinished:
            torch_tensorrt.save(compiled, str(unfinished), arg_inputs=[frames])
    return agreement


def _torch_tensorrt() -> Any:
    try:
        torch_tensorrt = importlib.import_module("torch_tensorrt")
    except (ImportError, OSError) as error:
        raise EngineError(
            f"torch_tensorrt does not import ({error}); install the version made for torch {torch.__version__} "
            "(its newest may be for an older torch), or build a plan of the exported bundle: "
            "`ros2 run darkseg_ros build_plan`"
        ) from error
    if not torch.cuda.is_available():
        raise EngineError("Torch-TensorRT needs an NVIDIA GPU that torch can use, torch.cuda finds none")
    return torch_tensorrt


if __name__ == "__main__":
    main()
