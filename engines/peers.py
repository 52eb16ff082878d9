"""The contestants of `python -m engines.bench`: the shipped model, and what a user would otherwise run.

Each is opened in a process of its own, whose memory and load time are measured. So libraries are imported inside the
functions that open a contestant, and none loads what it does not run on.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from darkseg_ros.benchmark.contestants import Contestant, Run, own_engine, own_segmenter
from darkseg_ros.installed_files import default_bundle
from darkseg_ros.model.bundle import BundleFile, load_bundle
from darkseg_ros.model.exposure import Exposure
from darkseg_ros.whole_files import sha256_of
from engines.int8_ceiling import CEILING, open_ceiling
from engines.peer_graphs import FLOAT_GRAPH, INT8_GRAPH, LOGITS_ONNX, PIPELINE_ONNX, GraphSet
from training.data.imagenet import IMAGENET_MEAN_RGB, IMAGENET_STD_RGB

SLIM_INT8 = "slim FPN int8"
SLIM_TORCH, SLIM_PIPELINE = "slim FPN torch", "slim FPN onnxruntime numpy"
DDRNET_INT8, DDRNET_PUBLISHED = "DDRNet-23-slim int8", "DDRNet-23-slim int8 as published"
RESNET101_INT8 = "FPN ResNet-101 int8"
RESNET101_OPENVINO, RESNET101_ONNXRUNTIME = "FPN ResNet-101 openvino fp32", "FPN ResNet-101 onnxruntime fp32"
RESNET101_TORCH = "FPN ResNet-101 torch"
RESNET18_TORCH, RESNET18_PIPELINE = "FPN ResNet-18 torch", "FPN ResNet-18 onnxruntime numpy"
LRASPP_TORCH = "LR-ASPP MobileNetV3-Large torch"
SEGFORMER_TORCH, SEGFORMER_PIPELINE = "Segformer-B0 torch", "Segformer-B0 onnxruntime numpy"

PUBLISHED_MIOU = {
    DDRNET_INT8: "77.8",
    DDRNET_PUBLISHED: "77.8",
    RESNET101_OPENVINO: "75.8–77.7",
    RESNET101_ONNXRUNTIME: "75.8–77.7",
    RESNET101_TORCH: "75.8–77.7",
    SEGFORMER_TORCH: "76.2",
    SEGFORMER_PIPELINE: "76.2",
}
"""Cityscapes val mIoU in per cent of trained float weights, by contestant's name.

Source: DDRNet-23-slim: Hong et al., "Deep Dual-resolution Networks", IEEE T-ITS 2023 (arXiv 2101.06085), at 1024×2048.
FPN: 75.8 MMSegmentation, configs/sem_fpn (512×1024, 80,000 steps); 77.7 Kirillov et al., "Panoptic Feature Pyramid
Networks", CVPR 2019 (arXiv 1901.02446). Segformer-B0: Xie et al., "SegFormer", NeurIPS 2021 (arXiv 2105.15203).
"""

_FORMAT_TRIALS = 2  # of each


@dataclass(frozen=True)
class Peer:
    """A contestant and the graphs that must be made before it can be opened; None where it needs none."""

    contestant: Contestant
    graphs: GraphSet | None = None


def peers_for(camera_hw: tuple[int, int], *, bundle: Path, cache: Path) -> tuple[Peer, ...]:
    """All contestants for camera frames of one size; every network but the shipped bundle's runs at that size.

    Args:
        camera_hw: multiples of 32.
        bundle: the model as it is shipped, on OpenVINO.
        cache: folder of `peer_graphs`.
    """
    shipped = GraphSet("shipped", "", camera_hw)
    ddrnet = GraphSet("quantised", "ddrnet_23_slim", camera_hw)
    published = GraphSet("published", "ddrnet_23_slim", camera_hw)
    resnet101 = GraphSet("quantised", "fpn_resnet101", camera_hw)
    graphs_101 = resnet101.folder(cache)

    def pipeline(name: str, network: str) -> Peer:
        graphs = GraphSet("pipeline", network, camera_hw)
        return Peer(_segmenter(name, partial(open_pipeline, graphs.folder(cache) / PIPELINE_ONNX)), graphs)

    return (
        Peer(own_engine(bundle, "openvino")),
        Peer(own_segmenter(bundle, "openvino")),
        Peer(
            _segmenter(
                SLIM_INT8,
                partial(
                    open_finished_openvino,
                    shipped.folder(cache) / INT8_GRAPH,
                    camera_hw,
                    exposure=load_bundle(bundle).exposure,
                ),
            ),
            shipped,
        ),
        Peer(_segmenter(SLIM_TORCH, partial(open_torch, "slim_fpn", camera_hw))),
        pipeline(SLIM_PIPELINE, "slim_fpn"),
        Peer(
            _segmenter(DDRNET_INT8, partial(open_finished_openvino, ddrnet.folder(cache) / INT8_GRAPH, camera_hw)),
            ddrnet,
        ),
        Peer(
            _segmenter(DDRNET_PUBLISHED, partial(open_class_map_openvino, published.folder(cache) / INT8_GRAPH)),
            published,
        ),
        Peer(
            _segmenter(RESNET101_INT8, partial(open_finished_openvino, graphs_101 / INT8_GRAPH, camera_hw)), resnet101
        ),
        Peer(
            _segmenter(RESNET101_OPENVINO, partial(open_finished_openvino, graphs_101 / FLOAT_GRAPH, camera_hw)),
            resnet101,
        ),
        Peer(
            _segmenter(RESNET101_ONNXRUNTIME, partial(open_finished_onnxruntime, graphs_101 / LOGITS_ONNX)), resnet101
        ),
        Peer(_segmenter(RESNET101_TORCH, partial(open_torch, "fpn_resnet101", camera_hw))),
        Peer(_segmenter(RESNET18_TORCH, partial(open_torch, "fpn_resnet18", camera_hw))),
        pipeline(RESNET18_PIPELINE, "fpn_resnet18"),
        Peer(_segmenter(LRASPP_TORCH, partial(open_torch, "lraspp", camera_hw))),
        Peer(_segmenter(SEGFORMER_TORCH, partial(open_torch, "segformer_b0", camera_hw))),
        pipeline(SEGFORMER_PIPELINE, "segformer_b0"),
        Peer(Contestant(CEILING, "ceiling", open_ceiling)),
    )


def open_finished_openvino(graph: Path, network_hw: tuple[int, int], *, exposure: Exposure | None = None) -> Run:
    """A graph that ends at quarter-size logits, in the place of the shipped bundle's: its engine, its finish.

    Args:
        graph: OpenVINO .xml with its .bin beside it.
        network_hw: its input size.
        exposure: what dark frames are brightened to before it; None for a graph that was not trained with it.
    """
    from darkseg_ros.model.backends.openvino import OpenVinoEngine
    from darkseg_ros.model.segmenter import Segmenter

    bundle = replace(
        load_bundle(default_bundle()),
        network_hw=network_hw,
        exposure=exposure,
        cpu_graph=_bundle_file(graph),
        cpu_weights=_bundle_file(graph.with_suffix(".bin")),
    )
    engine = OpenVinoEngine(bundle)
    segmenter = Segmenter(bundle, engine)
    precision = "fp32" if graph.name == FLOAT_GRAPH else "int8"
    return Run(
        call=lambda bgr: segmenter(bgr).class_map,
        description=f"{engine.name.replace('int8', precision)}, our finish, network at {_size(network_hw)}",
    )


def open_class_map_openvino(graph: Path) -> Run:
    """An int8 graph from uint8 frames to class maps, which has its finish inside."""
    from darkseg_ros.model.backends.openvino import OpenVinoGraph

    class_maps = OpenVinoGraph(graph, output="class_map", weights=graph.with_suffix(".bin"))
    return Run(
        call=lambda bgr: class_maps(bgr[None])[0].copy(),
        description=f"{class_maps.library} int8 CPU, {class_maps.threads} threads, finish in the graph",
    )


def open_finished_onnxruntime(logits_onnx: Path) -> Run:
    """A float graph from uint8 frames to quarter-size logits, and our finish."""
    import onnxruntime

    from darkseg_ros.model.backends.finish.logits_finish import fastest_finish, finish_logits

    fastest_finish()  # loaded before the first frame
    session = _session(logits_onnx)
    frame = session.get_inputs()[0]

    def call(bgr: np.ndarray) -> np.ndarray:
        (logits,) = session.run(["logits"], {frame.name: bgr[None]})
        return finish_logits(logits[0], temperature=1.0)[0]

    size = _size(tuple(frame.shape[1:3]))
    library = f"onnxruntime {onnxruntime.__version__}"
    return Run(call, f"{library} fp32 CPU, its choice of threads, our finish, at {size}")


def open_pipeline(pipeline_onnx: Path) -> Run:
    """What most nodes do: normalise in numpy, run a float graph with full-size logits, np.argmax."""
    import onnxruntime

    session = _session(pipeline_onnx)
    image = session.get_inputs()[0]
    mean, std = (np.array(values, np.float32) for values in (IMAGENET_MEAN_RGB, IMAGENET_STD_RGB))

    def call(bgr: np.ndarray) -> np.ndarray:
        rgb = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB).astype(np.float32) / 255
        normalised = ((rgb - mean) / std).transpose(2, 0, 1)[None]
        (logits,) = session.run(["logits"], {image.name: np.ascontiguousarray(normalised)})
        class_map: np.ndarray = np.argmax(logits, axis=1)[0].astype(np.uint8)
        return class_map

    size = _size(tuple(image.shape[2:4]))
    library = f"onnxruntime {onnxruntime.__version__}"
    return Run(call, f"{library} fp32 CPU, its choice of threads, numpy in and out, at {size}")


def open_torch(network_name: str, camera_hw: tuple[int, int]) -> Run:
    """A network of `peer_networks` in torch eager, in the faster of torch's two memory formats, which is tried here."""
    import torch

    from engines.peer_networks import build_peer

    network = build_peer(network_name)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN_RGB, IMAGENET_STD_RGB))

    def call(memory_format: Any, bgr: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            rgb = torch.from_numpy(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB))
            images = rgb.permute(2, 0, 1)[None].float() / 255
            images = ((images - mean) / std).contiguous(memory_format=memory_format)
            class_map: np.ndarray = network(images).argmax(1)[0].to(torch.uint8).numpy()
            return class_map

    def seconds(memory_format: Any) -> float:
        network.to(memory_format=memory_format)
        return second_call_s(partial(call, memory_format, np.zeros((*camera_hw, 3), np.uint8)))

    formats = (torch.contiguous_format, torch.channels_last)
    # in turns: the wrong one of them takes up to twice the time, and a machine's mood should not choose it
    times_s = [[seconds(memory_format) for memory_format in formats] for _ in range(_FORMAT_TRIALS)]
    fastest_s = [min(of_format) for of_format in zip(*times_s, strict=True)]
    memory_format = formats[fastest_s.index(min(fastest_s))]
    network.to(memory_format=memory_format)
    return Run(
        call=partial(call, memory_format),
        description=(
            f"torch {torch.__version__} eager fp32 CPU, {str(memory_format).removeprefix('torch.')}, "
            f"{torch.get_num_threads()} threads, network at {_size(camera_hw)}; the load tries both formats"
        ),
    )


def second_call_s(call: Callable[[], object]) -> float:
    """The first one allocates."""
    call()
    started_s = time.perf_counter()
    call()
    return time.perf_counter() - started_s


def _segmenter(name: str, open_run: Callable[[], Run]) -> Contestant:
    return Contestant(name, "segmenter", open_run)


def _bundle_file(path: Path) -> BundleFile:
    return BundleFile(path, sha256_of(path), path.stat().st_size)


def _session(onnx: Path) -> Any:
    import onnxruntime

    return onnxruntime.InferenceSession(str(onnx), providers=["CPUExecutionProvider"])


def _size(size_hw: tuple[int, ...]) -> str:
    height, width = size_hw
    return f"{height}×{width}"
