"""Measure every network of `training.networks.config.NETWORKS` and write the table of docs/networks.md.

    python -m engines.network_table [--input-hw 256 512] [--only unet …] [--out docs/networks.md]

Weights are random, each network has its default encoder and options. Torch and int8 take turns with one reference
network, so that ratios hold on a busy machine too. A network that was measured at this size is not measured again:
delete its file in --measured for that. mIoU is that of the study of `training.network_study`, where it has the network.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from darkseg_ros.errors import InputError
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
from training.study.results import RunFigures, read_results
from training.study.settings import AS_IS, read_study, runs_of

_CALIBRATION_FRAMES = 2  # of random weights: what int8 does to their accuracy is nobody's loss
_ROUNDS = 5
_REFERENCE = "slim_fpn"


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
        reference_ms: median latency of the reference network in torch, in the same rounds.
        size_hw: of the frames.
        date: when.
        load: of the machine then, processes that wanted to run.
    """

    name: str
    encoder: str
    parameters: int
    multiplications: int
    torch_ms: float
    int8_ms: float
    reference_ms: float
    size_hw: tuple[int, int]
    date: str
    load: float


def main(arguments: list[str] | None = None) -> None:
    """Run the measurement from the command line."""
    root = Path(__file__).parent.parent
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--input-hw", type=int, nargs=2, default=(256, 512), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--only", nargs="*", choices=NETWORKS, default=NETWORKS, metavar="NAME", help="measure these")
    parser.add_argument("--out", type=Path, default=root / "docs" / "networks.md", help="page to write")
    parser.add_argument(
        "--measured", type=Path, default=root / "out" / "networks", help="folder of one JSON file a network"
    )
    parser.add_argument(
        "--study", type=Path, default=root / "training" / "configs" / "study_mini.yaml", help="tells the mIoU"
    )
    parsed = parser.parse_args(arguments)
    size_hw = (parsed.input_hw[0], parsed.input_hw[1])
    with one_line_errors("network_table"):
        accuracies = trained(parsed.study)
        for name in tqdm(parsed.only, unit="network"):
            measure_once(name, size_hw, parsed.measured)
        figures = [measured for name in NETWORKS if (measured := read_measured(name, size_hw, parsed.measured))]
        write_whole(parsed.out, page(figures, size_hw, accuracies).encode())
    print(f"wrote {parsed.out}")


def trained(study_file: Path) -> dict[str, RunFigures]:
    """Figures of the networks that a study trained as they are, by name."""
    study = read_study(study_file)
    results = read_results(study, runs_of(study))
    return {run.network: figures for run, figures in results.items() if run.group == AS_IS}


def measure_once(name: str, size_hw: tuple[int, int], folder: Path) -> None:
    """Write what `measure` finds into the folder, unless it has been measured at this size before."""
    path = _file_of(name, size_hw, folder)
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(asdict(measure(name, size_hw)), indent=2).encode())


def read_measured(name: str, size_hw: tuple[int, int], folder: Path) -> NetworkFigures | None:
    """What `measure_once` wrote; None where a network was not measured.

    Raises:
        InputError: if the file holds something else.
    """
    path = _file_of(name, size_hw, folder)
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return NetworkFigures(**{**content, "size_hw": tuple(content["size_hw"])})
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise InputError(f"{path} holds no figures of a network ({error}); delete it to measure again") from error


def _file_of(name: str, size_hw: tuple[int, int], folder: Path) -> Path:
    return folder / f"{name}_{size_hw[0]}x{size_hw[1]}.json"


def measure(name: str, size_hw: tuple[int, int], *, rounds: int = _ROUNDS) -> NetworkFigures:
    """Build a network with random weights, export it, quantise it, and time both.

    Args:
        name: a key of `NETWORKS`.
        size_hw: of the frames, multiples of 32.
        rounds: in each of which both run once.
    """
    config = complete(NetworkConfig(name=name))
    network, graph = _graph_of(name)
    _, reference = _graph_of(_REFERENCE)
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

        def in_torch(which: torch.nn.Module) -> None:
            with torch.inference_mode():
                which(tensor)

        torch_ms, int8_ms, reference_ms = _medians_ms(
            [lambda: in_torch(graph), lambda: compiled(frames[0]), lambda: in_torch(reference)], rounds
        )
    return NetworkFigures(
        name=name,
        encoder=config.encoder,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        multiplications=counter.get_total_flops() // 2,  # torch counts a multiplication with its addition as two
        torch_ms=torch_ms,
        int8_ms=int8_ms,
        reference_ms=reference_ms,
        size_hw=size_hw,
        date=datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        load=os.getloadavg()[0],
    )


def _graph_of(name: str) -> tuple[torch.nn.Module, torch.nn.Module]:
    """A network with random weights, and its graph from camera bytes to logits."""
    torch.manual_seed(0)
    network = settle(build_network(complete(NetworkConfig(name=name))))
    return network, LogitsGraph(network).eval()


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


def page(figures: list[NetworkFigures], size_hw: tuple[int, int], accuracies: dict[str, RunFigures]) -> str:
    """The whole page, Markdown.

    Args:
        figures: of the networks that were measured.
        size_hw: of the frames.
        accuracies: of the networks that a study trained.
    """
    dates = sorted({each.date for each in figures}) or ["not yet"]
    loads = [each.load for each in figures] or [0.0]
    measured = {each.name: each for each in figures}
    rows = []
    for name, network in NETWORKS.items():
        cells = [name, network.title, network.encoder, *_cost_cells(measured.get(name))]
        trained_to = accuracies[name].miou if name in accuracies else {}
        cells += [f"{trained_to[end]:.1f}" if end in trained_to else "not trained" for end in ("day", "night")]
        rows.append(f"| {' | '.join(cells)} |")
    table = "\n".join(rows)
    return f"""# Networks

All are trained, exported and deployed by the same commands. `network.name` chooses one, `network.encoder` another
encoder, `network.options` what is its own; `training/networks/config.py` lists and explains every option.

    python -m training.train_segmenter --config training/configs/segmenter_slim.yaml network.name=unet …

A network of your own is a row of `NETWORKS` in `training/networks/config.py` and the file that builds it.

Written by `python -m engines.network_table --input-hw {size_hw[0]} {size_hw[1]}`, measured {" to ".join(dates)},
{_machine()}.
Medians of {_ROUNDS} rounds in which torch, int8 and {_REFERENCE} in torch take turns, from camera bytes to quarter-size
logits, random weights. The machine's load was {min(loads):.1f} to {max(loads):.1f} meanwhile; where that is beyond its
{os.cpu_count()} cores, milliseconds are too high. Ratios are to {_REFERENCE} in torch in the same rounds. mIoU in
percent is that of networks with light encoders after a few steps from random weights: see [the study](study.md).

| `network.name` | network | encoder | parameters (M) | GMAC | torch (ms) | ratio | int8 (ms) | ratio | day | night |
|---|---|---|---|---|---|---|---|---|---|---|
{table}
"""


def _cost_cells(each: NetworkFigures | None) -> list[str]:
    if each is None:
        return ["not measured", "", "", "", "", ""]
    return [
        f"{each.parameters / 1e6:.1f}",
        f"{each.multiplications / 1e9:.1f}",
        f"{each.torch_ms:.0f}",
        f"{each.torch_ms / each.reference_ms:.2f}",
        f"{each.int8_ms:.1f}",
        f"{each.int8_ms / each.reference_ms:.2f}",
    ]


def _machine() -> str:
    libraries = f"PyTorch {version('torch').split('+')[0]}, OpenVINO {version('openvino')}"
    return f"{torch.get_num_threads()} threads of {platform.machine()}, {libraries}"


if __name__ == "__main__":
    main()
