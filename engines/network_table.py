"""Measure every network of `training.networks.config.NETWORKS` and write the table of docs/networks.md.

    python -m engines.network_table [--input-hw 256 512] [--out docs/networks.md]

Weights are random: accuracy is not told here. Each network runs alone, with its default encoder and options; torch and
int8 take turns, so that a ratio holds on a busy machine too.
"""

from __future__ import annotations

import os
import platform
import statistics
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from darkseg_ros.model.backends.openvino import OpenVinoGraph
from darkseg_ros.synthetic_drive import SyntheticDrive
from darkseg_ros.whole_files import write_whole
from engines.export import export_onnx
from engines.fused_graph import LogitsGraph
from engines.peer_networks import settle
from engines.quantisation import quantise
from training.networks.build import build_network
from training.networks.config import NETWORKS, NetworkConfig, complete
from training.runs.results import one_line_errors

_CALIBRATION_FRAMES = 2  # of random weights: what int8 does to their accuracy is nobody's loss
_ROUNDS = 5


@dataclass(frozen=True)
class NetworkFigures:
    """What a network costs.

    Attributes:
        name: a key of `NETWORKS`.
        encoder: its default.
        parameters: of the whole network.
        multiplications: with their additions, of one frame.
        torch_ms: median latency of the float network in torch.
        int8_ms: median latency of the int8 graph in OpenVINO; both end at quarter-size logits.
    """

    name: str
    encoder: str
    parameters: int
    multiplications: int
    torch_ms: float
    int8_ms: float


def main(arguments: list[str] | None = None) -> None:
    """Run the measurement from the command line."""
    root = Path(__file__).parent.parent
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--input-hw", type=int, nargs=2, default=(256, 512), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--out", type=Path, default=root / "docs" / "networks.md", help="page to write")
    parsed = parser.parse_args(arguments)
    size_hw = (parsed.input_hw[0], parsed.input_hw[1])
    with one_line_errors("network_table"):
        figures = [measure(name, size_hw) for name in tqdm(NETWORKS, unit="network")]
        write_whole(parsed.out, page(figures, size_hw).encode())
    print(f"wrote {parsed.out}")


def measure(name: str, size_hw: tuple[int, int], *, rounds: int = _ROUNDS) -> NetworkFigures:
    """Build a network with random weights, export it, quantise it, and time both.

    Args:
        name: a key of `NETWORKS`.
        size_hw: of the frames, multiples of 32.
        rounds: in each of which both run once.
    """
    torch.manual_seed(0)
    config = complete(NetworkConfig(name=name))
    network = settle(build_network(config))
    graph = LogitsGraph(network).eval()
    drive = SyntheticDrive(seed=0, size_hw=size_hw, night=True)
    frames = [drive.frame(10 * index).bgr[None] for index in range(_CALIBRATION_FRAMES)]
    tensor = torch.from_numpy(frames[0])
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        graph(tensor)
    with tempfile.TemporaryDirectory() as temporary:
        logits_onnx, int8 = Path(temporary) / "logits.onnx", Path(temporary) / "int8.xml"
        export_onnx(graph, frames[0], logits_onnx, ["logits"])
        quantise(logits_onnx, frames, int8)
        compiled = OpenVinoGraph(int8, output="logits", weights=int8.with_suffix(".bin"))

        def in_torch() -> None:
            with torch.inference_mode():
                graph(tensor)

        torch_ms, int8_ms = _medians_ms([in_torch, lambda: compiled(frames[0])], rounds)
    return NetworkFigures(
        name=name,
        encoder=config.encoder,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        multiplications=counter.get_total_flops() // 2,  # torch counts a multiplication with its addition as two
        torch_ms=torch_ms,
        int8_ms=int8_ms,
    )


def _medians_ms(calls: list[Callable[[], object]], rounds: int) -> list[float]:
    times_ms: list[list[float]] = [[] for _ in calls]
    for call in calls:
        call()  # the first one allocates
    for _ in range(rounds):
        for times, call in zip(times_ms, calls, strict=True):
            started = time.perf_counter()
            call()
            times.append(1000 * (time.perf_counter() - started))
    return [statistics.median(times) for times in times_ms]


def page(figures: list[NetworkFigures], size_hw: tuple[int, int]) -> str:
    """The whole page, Markdown."""
    date = datetime.now(timezone.utc).strftime("%Y-%m-%d")
    rows = [
        f"| {each.name} | {NETWORKS[each.name].title} | {each.encoder} | {each.parameters / 1e6:.1f} | "
        f"{each.multiplications / 1e9:.1f} | {each.torch_ms:.0f} | {each.int8_ms:.1f} | not yet trained |"
        for each in figures
    ]
    table = "\n".join(rows)
    return f"""# Networks

All are trained, exported and deployed by the same commands. `network.name` chooses one, `network.encoder` another
encoder, `network.options` what is its own; `training/networks/config.py` lists and explains every option.

    python -m training.train_segmenter --config training/configs/segmenter_slim.yaml network.name=unet …

A network of your own is a row of `NETWORKS` in `training/networks/config.py` and the file that builds it.

Written by `python -m engines.network_table --input-hw {size_hw[0]} {size_hw[1]}` on {date}, {_machine()}.
Median of {_ROUNDS} rounds in which torch and int8 take turns, from camera bytes to quarter-size logits, random weights.
On a machine that others use, compare the rows by ratio only.

| `network.name` | network | encoder | parameters (M) | GMAC | torch (ms) | int8 (ms) | mIoU |
|---|---|---|---|---|---|---|---|
{table}
"""


def _machine() -> str:
    libraries = f"PyTorch {version('torch').split('+')[0]}, OpenVINO {version('openvino')}"
    return f"{torch.get_num_threads()} threads of {platform.machine()}, load {os.getloadavg()[0]:.0f}, {libraries}"


if __name__ == "__main__":
    main()
