from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino
import pytest
import torch
from torch import nn

from darkseg_ros.frames.source import image_files, read_image
from darkseg_ros.model.bundle import GoldenMatch, load_bundle
from darkseg_ros.model.exposure import Exposure
from engines.bundle_writer import BundleContent, write_bundle
from engines.export import FUSED_MATCH, export_onnx, golden_frames
from engines.fused_graph import FusedGraph, LogitsGraph, cut_at_logits
from engines.restore_checkpoint import main
from tests.bundles import golden_answer
from training.adaptation.teacher import load_teacher
from training.data.network_input import network_input
from training.networks.build import build_network
from training.networks.config import NetworkConfig

NETWORK_HW = (64, 64)
OF_MOBILENET_V2 = NetworkConfig(options={"channels": 8, "finest_stride": 8})
OF_PIXELS = NetworkConfig(
    encoder="mobilenet_v2_dense_stem", options={"channels": 8, "finest_stride": 8, "finest_channels": 4}
)


def trained(config: NetworkConfig = OF_MOBILENET_V2) -> nn.Module:
    """A network whose BatchNorm layers have statistics, scales and shifts of all sorts."""
    torch.manual_seed(0)
    network = build_network(config)
    with torch.no_grad():
        for _ in range(5):
            network.train()(torch.randn(4, 3, *NETWORK_HW))
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 2)
                module.bias.uniform_(-0.5, 0.5)
    return network.eval()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle_of(trained(), tmp_path_factory.mktemp("bundle"))


def write_bundle_of(
    network: nn.Module, work: Path, exposure: Exposure | None = None, network_hw: tuple[int, int] = NETWORK_HW
) -> Path:
    frames = golden_frames(network_hw)
    graph = FusedGraph(LogitsGraph(network), temperature=1.5)
    export_onnx(graph, frames, work / "fused.onnx", ["class_map", "confidence"])
    cut_at_logits(work / "fused.onnx", work / "logits.onnx")
    openvino.save_model(openvino.convert_model(str(work / "logits.onnx")), str(work / "cpu.xml"))
    return write_bundle(
        work,
        BundleContent(
            name="folded",
            network_hw=network_hw,
            temperature=1.5,
            fused_onnx=work / "fused.onnx",
            cpu_graph=work / "cpu.xml",
            golden=golden_answer(work / "fused.onnx", frames),
            fused_match=FUSED_MATCH,
            cpu_match=GoldenMatch(0.9, 16.0),
            model_card="# folded\n\nMade by the tests.\n",
            exposure=exposure,
        ),
    )


def command(bundle: Path, data: Path, out: Path, *overrides: str, config: str = "segmenter_slim_fast") -> list[str]:
    repository = Path(__file__).parents[2]
    return [
        *("--bundle", str(bundle), "--config", str(repository / f"training/configs/{config}.yaml")),
        *("--out", str(out), f"data.source=[{data / 'source'}]", f"data.night={data / 'night'}"),
        *(
            "augmentation.view_px=64",
            "augmentation.crop_px=64",
            "network.input_px=64",
            "network.options.channels=8",
            *overrides,
        ),
    ]


def test_a_restored_network_answers_as_the_one_that_was_exported(
    bundle: Path, generated_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "restored" / "last.pt"
    main(command(bundle, generated_data, out))
    assert capsys.readouterr().out == f"wrote {out}\n"
    restored, state = load_teacher(out)
    assert state["config"]["network"]["options"]["channels"] == 8
    images = torch.randn(2, 3, *NETWORK_HW)
    with torch.no_grad():
        expected, answer = trained()(images), restored(images)
    torch.testing.assert_close(answer, expected, rtol=1e-3, atol=1e-3)
    assert expected.std() > 0.1


def test_so_does_one_that_reads_pixels(generated_data: Path, tmp_path: Path) -> None:
    network, out = trained(OF_PIXELS), tmp_path / "last.pt"
    (tmp_path / "work").mkdir()
    bundle = write_bundle_of(network, tmp_path / "work", Exposure(target_mean=60, gamma_min=0.4))
    overrides = ("network.options.finest_channels=4",)
    main(command(bundle, generated_data, out, *overrides, config="segmenter_slim_pixels"))
    restored, state = load_teacher(out)
    assert state["config"]["network"]["exposure_mean"] == 60
    assert state["config"]["network"]["exposure_gamma_min"] == 0.4
    images = torch.randn(2, 3, *NETWORK_HW)
    with torch.no_grad():
        torch.testing.assert_close(restored(images), network(images), rtol=1e-3, atol=1e-3)


def test_so_does_one_of_a_rectangle(generated_data: Path, tmp_path: Path) -> None:
    network, out = trained(), tmp_path / "last.pt"
    (tmp_path / "work").mkdir()
    bundle = write_bundle_of(network, tmp_path / "work", network_hw=(64, 128))
    main(command(bundle, generated_data, out, "network.width_over_height=2", "augmentation.width_over_height=2"))
    restored, state = load_teacher(out)
    assert state["config"]["network"]["width_over_height"] == 2
    images = torch.randn(1, 3, 64, 128)
    with torch.no_grad():
        torch.testing.assert_close(restored(images), network(images), rtol=1e-3, atol=1e-3)


def test_in_training_mode_too_it_answers_much_as_before(bundle: Path, generated_data: Path, tmp_path: Path) -> None:
    """With BatchNorms that only add the folded bias, training mode would undo every scale of the network."""
    out = tmp_path / "last.pt"
    main(command(bundle, generated_data, out))
    restored, _ = load_teacher(out)
    images = torch.stack([network_input(read_image(path)) for path in image_files(generated_data / "source" / "image")])
    with torch.no_grad():
        evaluated = restored(images)
        trained_mode = restored.train()(images)
    correlation = np.corrcoef(evaluated.flatten().numpy(), trained_mode.flatten().numpy())[0, 1]
    assert correlation > 0.8


def test_filters_have_length_one(bundle: Path, generated_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "last.pt"
    main(command(bundle, generated_data, out))
    restored, _ = load_teacher(out)
    head: nn.Module = restored.head[0][0]  # type: ignore[index, assignment]
    torch.testing.assert_close(head.weight.flatten(1).norm(dim=1), torch.ones(8))


def test_a_config_of_another_network_is_refused_with_the_parameter_and_nothing_is_written(
    bundle: Path, generated_data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "last.pt"
    for override, named in (
        (
            "network.options.channels=16",
            r"has \(8,\) for decoder\.smooth3\.0\.weight_bias.* \(16,\).*name the config of the run",
        ),
        ("network.options.finest_stride=4", r"model\.onnx lacks decoder\.smooth2\.0\.weight_bias"),
        ("network.encoder=resnet18", r"model\.onnx lacks encoder"),
    ):
        with pytest.raises(SystemExit, match=named):
            main(command(bundle, generated_data, out, override))
    assert not out.exists()
    assert load_bundle(bundle).name == "folded"
