from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from darkseg_ros.bundle import load_bundle
from darkseg_ros.errors import InputError
from darkseg_ros.segmenter import Segmenter
from engines import export as export_module
from engines.export import export
from engines.temperature import fit_temperature
from training.checkpoints import save_checkpoint
from training.slim_fpn import SlimFpn, upsample_bilinear

NETWORK_PX = 64


@pytest.fixture(scope="module")
def checkpoint(generated_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = SlimFpn(channels=8).train()
    with torch.no_grad():
        for _ in range(20):  # running statistics that fit the network: with the initial ones, answers are flat
            network(torch.randn(4, 3, NETWORK_PX, NETWORK_PX))
    config = {
        "network": {"encoder": "mobilenet_v2", "channels": 8, "input_px": NETWORK_PX},
        "data": {
            "source": str(generated_data / "source"),
            "night": str(generated_data / "night"),
            "day_validation": str(generated_data / "validation"),
            "night_validation": str(generated_data / "night_validation"),
        },
    }
    path = tmp_path_factory.mktemp("run") / "last.pt"
    save_checkpoint(path, {"step": 7, "config": config, "teacher": network.state_dict()})
    return path


@pytest.fixture(scope="module")
def bundle_folder(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export_module, "MIOU_LOSS_MAX", 1.0)  # an untrained network's answers are noise
        patch.setattr(export_module, "_CALIBRATION_IMAGES", 6)
        return export(checkpoint, name="small", out=tmp_path_factory.mktemp("engines"))


def test_the_fused_graph_answers_as_the_network_in_torch(bundle_folder: Path, checkpoint: Path) -> None:
    network = SlimFpn(channels=8)
    network.load_state_dict(torch.load(checkpoint, weights_only=True)["teacher"])
    network.eval()
    bgr = np.random.default_rng(0).integers(0, 255, (NETWORK_PX, NETWORK_PX, 3)).astype(np.uint8)
    rgb = torch.from_numpy(bgr[:, :, ::-1].copy()).permute(2, 0, 1)[None] / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        logits = network((rgb - mean[:, None, None]) / std[:, None, None])
    expected = upsample_bilinear(logits, (NETWORK_PX, NETWORK_PX)).argmax(1)[0].numpy()
    answer = Segmenter.open(bundle_folder, backend="onnxruntime")(bgr)
    assert (answer.class_map == expected).mean() > 0.999
    temperature = load_bundle(bundle_folder).temperature
    probability = upsample_bilinear(torch.softmax(logits / temperature, 1).amax(1, keepdim=True), (NETWORK_PX,) * 2)
    assert np.abs(answer.confidence - probability[0, 0].numpy() * 255).max() <= 1


def test_the_int8_graph_stays_close_to_the_float_graph(bundle_folder: Path, generated_data: Path) -> None:
    from darkseg_ros.synthetic_drive import SyntheticDrive

    bgr = SyntheticDrive(seed=9, size_hw=(64, 128), night=True).frame(3).bgr
    first, second = (Segmenter.open(bundle_folder, backend=name)(bgr) for name in ("onnxruntime", "openvino"))
    assert (first.class_map == second.class_map).mean() > 0.8
    assert b"FakeQuantize" in (bundle_folder / "cpu_int8.xml").read_bytes()


def test_the_model_card_states_data_terms_figures_and_recipe(bundle_folder: Path) -> None:
    card = (bundle_folder / "MODEL_CARD.md").read_text()
    for text in ("non-commercial", "| day | int8 | 2 |", "| night | float | 2 |", "7 steps", "input_px: 64"):
        assert text in card


def test_the_manifest_records_what_the_engines_need(bundle_folder: Path) -> None:
    manifest = json.loads((bundle_folder / "model.json").read_text())
    assert manifest["schema_version"] == 1
    assert manifest["input"]["height"] == manifest["input"]["width"] == NETWORK_PX
    assert set(manifest["files"]) == {"fused_onnx", "cpu_graph", "cpu_weights", "golden"}


def test_an_int8_graph_that_loses_accuracy_is_not_written(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_module, "MIOU_LOSS_MAX", -2.0)
    monkeypatch.setattr(export_module, "_CALIBRATION_IMAGES", 2)
    with pytest.raises(InputError, match="int8 loses"):
        export(checkpoint, name="small", out=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_no_bundle_is_not_replaced(tmp_path: Path, bundle_folder: Path) -> None:
    from darkseg_ros.bundle import load_golden
    from engines.bundle_writer import BundleContent, write_bundle

    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "thesis.txt").write_text("precious")
    content = BundleContent(
        name="small",
        network_hw=(NETWORK_PX, NETWORK_PX),
        temperature=1.0,
        fused_onnx=bundle_folder / "model.onnx",
        cpu_graph=bundle_folder / "cpu_int8.xml",
        golden=load_golden(load_bundle(bundle_folder)),
        fused_agreement_min=0.9,
        cpu_agreement_min=0.9,
        model_card="",
    )
    with pytest.raises(InputError, match="is no model bundle"):
        write_bundle(tmp_path, content)
    assert (tmp_path / "small" / "thesis.txt").read_text() == "precious"


def test_temperature_of_overconfident_logits_is_their_excess() -> None:
    """Logits drawn so that softmax is right, then tripled: the best temperature is 3."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(20_000, 19, generator=generator)
    labels = torch.multinomial(torch.softmax(logits, 1), 1, generator=generator)[:, 0]
    assert fit_temperature(3 * logits, labels) == pytest.approx(3, rel=0.05)
