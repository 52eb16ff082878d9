"""The graphs that contestants of the benchmark run, made once and kept.

A set of graphs lies in a folder of its own, named after all that it depends on: the input size, the libraries'
versions, the sources that write it, the shipped graph. The folder appears when it is whole.

What writes graphs is imported inside the functions: who only asks for a path must not load torch.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import numpy as np

from darkseg_ros.errors import InputError
from darkseg_ros.installed_files import default_bundle
from darkseg_ros.model.backends.openvino import openvino_core
from darkseg_ros.model.bundle import load_bundle
from darkseg_ros.synthetic_drive import SyntheticDrive
from darkseg_ros.whole_files import sha256_of

INT8_GRAPH, FLOAT_GRAPH, LOGITS_ONNX, PIPELINE_ONNX = "int8.xml", "float.xml", "logits.onnx", "pipeline.onnx"

_CALIBRATION_FRAMES = 4  # of random weights: what they do to the accuracy is nobody's loss
_LIBRARIES = ("torch", "segmentation-models-pytorch", "timm", "onnx", "onnxscript", "openvino", "nncf")
_SOURCES = (
    *("engines/peer_graphs.py", "engines/peer_networks.py", "engines/fused_graph.py", "engines/export.py"),
    *("engines/quantisation.py", "training/networks/*.py"),
)


@dataclass(frozen=True)
class GraphSet:
    """Graphs of one network.

    Attributes:
        form: "shipped": INT8_GRAPH, the shipped CPU graph at another input size, with its trained weights.
            "quantised": LOGITS_ONNX, FLOAT_GRAPH and INT8_GRAPH of `peer_networks.build_quarter_peer`, all from uint8
            frames to quarter-size logits.
            "published": INT8_GRAPH of `peer_networks.build_published_ddrnet`, from uint8 frames to class maps.
            "pipeline": PIPELINE_ONNX of `peer_networks.build_peer`, from normalised float images to full-size logits.
        network: the name for `build_quarter_peer` or `build_peer`; else only a part of the folder's name.
        size_hw: of the input; multiples of 32.
    """

    form: Literal["shipped", "quantised", "published", "pipeline"]
    network: str
    size_hw: tuple[int, int]

    def __str__(self) -> str:
        height, width = self.size_hw
        return f"{self.form} {self.network or 'graph'} at {height}×{width}"

    def folder(self, cache: Path) -> Path:
        """Where its graphs lie, or would; raises InputError if a library that makes them is not installed."""
        return cache / f"{self._stem}-{self._digest()}"

    @property
    def _stem(self) -> str:
        height, width = self.size_hw
        return "_".join(filter(None, (self.form, self.network, f"{height}x{width}")))

    def _digest(self) -> str:
        root = Path(__file__).parent.parent
        facts: dict[str, Any] = {
            **asdict(self),
            "libraries": {library: _version_of(library) for library in _LIBRARIES},
            "sources": [sha256_of(path) for pattern in _SOURCES for path in sorted(root.glob(pattern))],
        }
        if self.form == "shipped":
            bundle = load_bundle(default_bundle())
            facts["shipped"] = [bundle.cpu_graph.sha256, bundle.cpu_weights.sha256]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def _version_of(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError as error:
        raise InputError(
            f"the benchmark beside peers needs {library}, which is not installed; run `make bench`, which installs it, "
            "or `darkseg bench`, which goes without peers"
        ) from error


def prepare(graphs: GraphSet, cache: Path) -> Path:
    """Make the graphs, unless they are there; those made for other versions or sources are removed.

    Returns:
        Their folder.
    """
    folder = graphs.folder(cache)
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix=".unfinished-") as temporary:
        staging = Path(temporary) / "graphs"
        staging.mkdir()
        if graphs.form == "shipped":
            _resize_shipped(graphs.size_hw, staging)
        elif graphs.form == "quantised":
            _quantise(graphs, staging)
        elif graphs.form == "published":
            _quantise_published(graphs, staging)
        else:
            _export_pipeline(graphs, staging)
        for outdated in cache.glob(f"{graphs._stem}-*"):
            shutil.rmtree(outdated)
        staging.rename(folder)
    return folder


def _resize_shipped(size_hw: tuple[int, int], folder: Path) -> None:
    """The network is fully convolutional; only its upsampling layers name sizes, which grow with the input's."""
    import openvino

    bundle = load_bundle(default_bundle())
    graph = openvino_core().read_model(str(bundle.cpu_graph.path), str(bundle.cpu_weights.path))
    for layer in graph.get_ops():
        if layer.get_type_name() == "Interpolate":
            sizes = np.array(layer.input_value(1).get_node().data)  # N, C, h, w
            sizes[2:] = sizes[2:] * size_hw // np.array(bundle.network_hw)
            layer.input(1).replace_source_output(openvino.op.Constant(sizes).output(0))
    graph.get_parameters()[0].set_partial_shape(openvino.PartialShape([1, *size_hw, 3]))
    graph.validate_nodes_and_infer_types()
    openvino.save_model(graph, str(folder / INT8_GRAPH), compress_to_fp16=False)


def _quantise(graphs: GraphSet, folder: Path) -> None:
    import openvino

    from engines.export import export_onnx
    from engines.fused_graph import LogitsGraph
    from engines.peer_networks import build_quarter_peer
    from engines.quantisation import quantise

    network = LogitsGraph(build_quarter_peer(graphs.network)).eval()
    frames = _calibration_frames(graphs.size_hw)
    export_onnx(network, frames[0], folder / LOGITS_ONNX, ["logits"])
    openvino.save_model(
        openvino.convert_model(str(folder / LOGITS_ONNX)), str(folder / FLOAT_GRAPH), compress_to_fp16=False
    )
    quantise(folder / LOGITS_ONNX, frames, folder / INT8_GRAPH)


def _quantise_published(graphs: GraphSet, folder: Path) -> None:
    from engines.export import export_onnx
    from engines.peer_networks import build_published_ddrnet
    from engines.quantisation import quantise

    frames = _calibration_frames(graphs.size_hw)
    export_onnx(build_published_ddrnet(), frames[0], folder / "class_map.onnx", ["class_map"])
    quantise(folder / "class_map.onnx", frames, folder / INT8_GRAPH)


def _calibration_frames(size_hw: tuple[int, int]) -> list[np.ndarray]:
    drive = SyntheticDrive(seed=0, size_hw=size_hw, night=True)
    return [drive.frame(10 * index).bgr[None] for index in range(_CALIBRATION_FRAMES)]


def _export_pipeline(graphs: GraphSet, folder: Path) -> None:
    from engines.export import export_onnx
    from engines.peer_networks import build_peer

    images = np.zeros((1, 3, *graphs.size_hw), np.float32)
    export_onnx(build_peer(graphs.network), images, folder / PIPELINE_ONNX, ["logits"])
