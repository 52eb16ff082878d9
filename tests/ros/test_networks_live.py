"""Each network of `training.networks.config.NETWORKS` behind the live node: a camera frame in, a class map out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from darkseg_ros.model.bundle import ANY_MATCH
from tests.ros.probe import image, pixels
from training.networks.config import NETWORKS, NetworkConfig, complete

if TYPE_CHECKING:
    from engines.fused_graph import FusedGraph
    from tests.ros.conftest import StartNode
    from tests.ros.probe import Probe

SIZE_HW = (64, 96)
CAMERA_HW = (100, 150)
QUICK = NetworkConfig(name="fcn", encoder="tu-test_resnet")
"""The one that every test run starts; `make soak` starts all, with their default encoders."""


def write_bundle_of(config: NetworkConfig, folder: Path) -> tuple[Path, FusedGraph]:
    """A bundle of a network with random weights, and the float graph that it was exported from."""
    # Here, since every worker of the tests imports this file, and torch takes seconds.
    import openvino
    import torch

    from engines.bundle_writer import BundleContent, write_bundle
    from engines.export import FUSED_MATCH, export_onnx, golden_answer
    from engines.fused_graph import FusedGraph, LogitsGraph, cut_at_logits
    from training.networks.build import build_network

    torch.manual_seed(0)
    network = build_network(complete(config)).eval()
    frame = np.random.default_rng(0).integers(0, 256, (1, *SIZE_HW, 3), np.uint8)
    fused = FusedGraph(LogitsGraph(network), temperature=1.0)
    export_onnx(fused, frame, folder / "fused.onnx", ["class_map", "confidence"])
    cut_at_logits(folder / "fused.onnx", folder / "logits.onnx")
    openvino.save_model(openvino.convert_model(str(folder / "logits.onnx")), str(folder / "cpu.xml"))
    content = BundleContent(
        name=config.name,
        network_hw=SIZE_HW,
        temperature=1.0,
        fused_onnx=folder / "fused.onnx",
        cpu_graph=folder / "cpu.xml",
        golden=golden_answer(folder / "fused.onnx", frame),
        fused_match=FUSED_MATCH,
        cpu_match=ANY_MATCH,
        model_card="",
    )
    return write_bundle(folder / "bundle", content), fused


@pytest.mark.filterwarnings("ignore")  # of torch's exporter, which differ by version
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "config",
    [QUICK, *(pytest.param(NetworkConfig(name=name), marks=pytest.mark.soak) for name in NETWORKS)],
    ids=lambda config: config.name,
)
def test_a_frame_becomes_the_networks_class_map_at_the_cameras_size(
    probe: Probe, start_node: StartNode, tmp_path: Path, config: NetworkConfig
) -> None:
    import torch

    bundle, fused = write_bundle_of(config, tmp_path)
    # of one colour in each quarter, so that resizing to the network's size changes next to nothing
    small = np.random.default_rng(1).integers(0, 256, (2, 2, 3), np.uint8)
    bgr = np.repeat(np.repeat(small, CAMERA_HW[0] // 2, 0), CAMERA_HW[1] // 2, 1)
    start_node("segmentation_node", parameters={"bundle": bundle, "backend": "openvino"})
    camera, class_maps = probe.connect()
    stamp = probe.next_stamp()
    camera.publish(image(bgr, stamp))
    class_map = pixels(class_maps.of_stamp(stamp))
    assert class_map.shape == CAMERA_HW
    squeezed = np.repeat(np.repeat(small, SIZE_HW[0] // 2, 0), SIZE_HW[1] // 2, 1)
    with torch.inference_mode():
        expected = fused(torch.from_numpy(squeezed[None]))[0][0].numpy()
    rows, columns = (np.arange(full) * size // full for full, size in zip(CAMERA_HW, SIZE_HW, strict=True))
    assert (class_map == expected[rows[:, None], columns]).mean() > 0.8
