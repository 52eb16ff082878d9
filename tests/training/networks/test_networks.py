"""What every network of `NETWORKS` can do, each small and on two images: learn, become a bundle, segment in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch

from darkseg_ros.classes import CITYSCAPES
from darkseg_ros.evaluation.metrics import confusion_matrix, mean_iou_of_present
from darkseg_ros.frames.labelled import pair_files
from darkseg_ros.model.bundle import ANY_MATCH, load_bundle
from darkseg_ros.model.segmenter import Segmenter
from engines.bundle_writer import BundleContent, write_bundle
from engines.export import FUSED_MATCH, MIOU_LOSS_MAX, export_onnx, golden_answer, least_match_of, match_on_golden
from engines.fused_graph import FusedGraph, LogitsGraph, cut_at_logits
from engines.quantisation import quantise, quantise_within
from training.data.network_input import network_input
from training.losses import LossConfig, segmentation_loss
from training.networks import ddrnet
from training.networks.build import batch_norm_layers, build_network
from training.networks.config import NETWORKS, NetworkConfig
from training.networks.layers import EncoderDecoder

SIZE_HW = (64, 96)
SHORT_ENCODERS = {
    "slim_fpn": "tu-test_resnet",
    "panoptic_fpn": "tu-test_resnet",
    "fcn": "tu-test_resnet",
    "deconvnet": "vgg_short_bn",
    "unet": "tu-test_resnet",
    "pspnet": "tu-test_resnet",
    "refinenet": "tu-test_resnet",
    "deeplabv2": "tu-test_resnet",
    "deeplabv3": "tu-test_resnet",
    "deeplabv3plus": "tu-test_resnet",
    "vit": "tu-test_vit",
    "segformer": "mit_short",
}
"""Shorter than any that one would train, so that their export is quick and more steps cost little."""

OPTIONS: dict[str, dict[str, Any]] = {
    "slim_fpn": {"channels": 32, "dropout": 0.0},
    "panoptic_fpn": {"pyramid_channels": 16, "segmentation_channels": 32},
    "deconvnet": {"channels": 16},
    "unet": {"channels": 32},
    "pspnet": {"channels": 32},
    "refinenet": {"channels": 16},
    "deeplabv3": {"channels": 32},
    "deeplabv3plus": {"channels": 32},
    "vit": {"channels": 16},
    "segformer": {"channels": 32},
}
ROAD, SKY = 0, 10
STEPS, STEPS_OF_SHORT = 15, 40
FUSED_AGREEMENT_MIN = 0.999
pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # of torch's exporter, which differ by version
    pytest.mark.usefixtures("no_trials"),
]


@dataclass(frozen=True)
class Trained:
    """A network that was shown two images some times."""

    name: str
    network: EncoderDecoder
    losses: list[float]
    silent: list[str]


def frames_and_labels() -> tuple[np.ndarray, np.ndarray]:
    """Two noisy frames, dark road below, bright sky above; the horizons differ."""
    height, width = SIZE_HW
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 90, (2, height, width, 3), np.uint8)
    label_maps = np.full((2, height, width), ROAD, np.uint8)
    for frame, label_map, horizon in zip(frames, label_maps, (24, 40), strict=True):
        frame[:horizon] += 150
        label_map[:horizon] = SKY
    return frames, label_maps


@pytest.fixture(scope="module")
def short_encoders() -> Iterator[None]:
    """A narrow VGG of one convolution before each pooling, a MiT of one narrow block at each size, and a DDRNet of one
    basic block where it has two.
    """
    encoders = smp.encoders.encoders
    vgg = encoders["vgg11_bn"]
    vgg_params = {"out_channels": [16, 32, 64, 64, 64, 64], "batch_norm": True}
    vgg_params["config"] = [16, "M", 32, "M", 64, "M", 64, "M", 64, "M"]
    mit = encoders["mit_b0"]
    mit_params = mit["params"] | {
        "out_channels": [3, 0, 16, 32, 48, 64],
        "embed_dims": [16, 32, 48, 64],
        "num_heads": [1, 1, 2, 2],
        "depths": [1, 1, 1, 1],
        "drop_path_rate": 0.0,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(encoders, "vgg_short_bn", {**vgg, "params": vgg_params})
        patch.setitem(encoders, "mit_short", {**mit, "params": mit_params})
        patch.setattr(ddrnet, "stage", ddrnet.basic_block)
        yield


@pytest.fixture(scope="module", params=NETWORKS)
def trained(request: pytest.FixtureRequest, short_encoders: None) -> Trained:
    name = request.param
    torch.manual_seed(0)
    usual = "resnet18" if NETWORKS[name].encoder == "mobilenet_v2" else None
    encoder = SHORT_ENCODERS.get(name, usual)
    network = build_network(NetworkConfig(name=name, encoder=encoder, options=OPTIONS.get(name, {}))).train()
    frames, label_maps = frames_and_labels()
    images = torch.stack([network_input(frame) for frame in frames])
    labels = torch.from_numpy(label_maps).long()
    optimiser = torch.optim.AdamW(network.parameters(), lr=5e-3)
    losses: list[float] = []
    silent: list[str] = []
    for _ in range(STEPS_OF_SHORT if name in SHORT_ENCODERS else STEPS):
        summed = segmentation_loss(
            network(images), labels, config=LossConfig(), class_weights=torch.ones(len(CITYSCAPES))
        )
        loss = summed.total / summed.weight
        optimiser.zero_grad()
        loss.backward()
        silent = [key for key, parameter in network.named_parameters() if parameter.grad is None]
        optimiser.step()
        losses.append(loss.item())
    for layer in batch_norm_layers(network):  # so few steps leave the running statistics behind the weights
        layer.reset_running_stats()
        layer.momentum = None
    with torch.no_grad():
        network(images)
    return Trained(name, network.eval(), losses, silent)


@pytest.fixture(scope="module")
def bundle_folder(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `engines.export` makes it, with the two frames for calibration."""
    work = tmp_path_factory.mktemp(trained.name)
    frames, _ = frames_and_labels()
    fused_onnx, logits_onnx = work / "fused.onnx", work / "logits.onnx"
    graph = FusedGraph(LogitsGraph(trained.network), temperature=1.0)
    export_onnx(graph, frames[:1], fused_onnx, ["class_map", "confidence"])
    cut_at_logits(fused_onnx, logits_onnx)
    return _write(work, trained.name, quantise(logits_onnx, [frames[:1], frames[1:]], work / "cpu_int8.xml"))


def _write(work: Path, name: str, cpu_graph: Path) -> Path:
    fused_onnx = work / "fused.onnx"
    content = BundleContent(
        name=name,
        network_hw=SIZE_HW,
        temperature=1.0,
        fused_onnx=fused_onnx,
        cpu_graph=cpu_graph,
        golden=golden_answer(fused_onnx, frames_and_labels()[0][:1]),
        fused_match=FUSED_MATCH,
        cpu_match=ANY_MATCH,
        model_card="",
    )
    measured = match_on_golden(load_bundle(write_bundle(work / cpu_graph.stem, content)), "openvino")
    return write_bundle(work / cpu_graph.stem, replace(content, cpu_match=least_match_of(measured)))


def _with_float_layers(folder: Path) -> Path:
    """The bundle whose CPU graph keeps layers in float, as the export makes it where plain int8 loses too much."""
    work = folder.parents[1]
    frames, label_maps = frames_and_labels()
    for kind, pictures in (("image", frames), ("label", label_maps)):
        (work / kind).mkdir()
        for index, picture in enumerate(pictures):
            cv2.imwrite(str(work / kind / f"{index}.png"), picture)
    graph = quantise_within(
        work / "logits.onnx",
        [frames[:1], frames[1:]],
        work / "cpu_within.xml",
        validation=pair_files(work / "image", work / "label"),
        miou_loss_max=MIOU_LOSS_MAX,
    )
    return _write(work, folder.name, graph)


def miou(folder: Path, backend: str) -> float:
    """Of the two frames, as the vehicle answers."""
    frames, label_maps = frames_and_labels()
    segmenter = Segmenter.open(folder, backend=backend)
    confusion = sum(
        confusion_matrix(label_map, segmenter(frame).class_map)
        for frame, label_map in zip(frames, label_maps, strict=True)
    )
    segmenter.close()
    return float(mean_iou_of_present(np.asarray(confusion)))


def test_it_learns_two_images_by_heart(trained: Trained) -> None:
    assert trained.silent == []
    assert trained.losses[-1] < 0.5 * trained.losses[0]


def test_logits_have_a_quarter_of_the_images_size(trained: Trained) -> None:
    with torch.inference_mode():
        assert trained.network(torch.zeros(1, 3, 64, 96)).shape == (1, len(CITYSCAPES), 16, 24)
        assert trained.network(torch.zeros(2, 3, 96, 64)).shape == (2, len(CITYSCAPES), 24, 16)


def test_the_fused_graph_answers_as_the_network_does(trained: Trained, bundle_folder: Path) -> None:
    frames, _ = frames_and_labels()
    noise = np.random.default_rng(1).integers(0, 256, frames[:1].shape, np.uint8)
    for frame in (frames[:1], frames[1:], noise):
        with torch.inference_mode():
            expected, _ = FusedGraph(LogitsGraph(trained.network), temperature=1.0)(torch.from_numpy(frame))
        answer = golden_answer(load_bundle(bundle_folder).fused_onnx.path, frame)
        assert (answer.class_map == expected.numpy()).mean() >= FUSED_AGREEMENT_MIN


def test_int8_on_the_vehicle_keeps_to_the_exports_gate(bundle_folder: Path) -> None:
    assert b"FakeQuantize" in (bundle_folder / "cpu_int8.xml").read_bytes()
    in_float = miou(bundle_folder, "onnxruntime")
    assert in_float > 0.8
    loss = in_float - miou(bundle_folder, "openvino")
    if loss > MIOU_LOSS_MAX:
        loss = in_float - miou(_with_float_layers(bundle_folder), "openvino")
    assert loss <= MIOU_LOSS_MAX


def test_the_vehicle_gives_a_class_map_of_the_cameras_size(bundle_folder: Path) -> None:
    segmenter = Segmenter.open(bundle_folder, backend="openvino")
    bgr = np.repeat(np.repeat(frames_and_labels()[0][0], 2, 0), 2, 1)
    answer = segmenter(bgr)
    segmenter.close()
    assert answer.class_map.shape == bgr.shape[:2]
    assert answer.class_map[2, 5] == SKY
    assert answer.class_map[-3, 5] == ROAD
