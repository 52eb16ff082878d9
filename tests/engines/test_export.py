from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from darkseg_ros.bundle import load_bundle
from darkseg_ros.errors import InputError
from darkseg_ros.segmenter import Segmenter
from engines import export as export_module
from engines.export import export
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
def reference(checkpoint: Path) -> Path:
    torch.manual_seed(1)
    path = checkpoint.with_name("reference.pt")
    state = torch.load(checkpoint, weights_only=True)
    save_checkpoint(path, {**state, "teacher": SlimFpn(channels=8).state_dict()})
    return path


@pytest.fixture(scope="module")
def bundle_folder(checkpoint: Path, reference: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export_module, "MIOU_LOSS_MAX", 1.0)  # an untrained network's answers are noise
        patch.setattr(export_module, "_CALIBRATION_IMAGES", 6)
        return export(checkpoint, name="small", out=tmp_path_factory.mktemp("engines"), reference=reference)


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


def test_the_graphs_do_not_tell_where_they_were_made(bundle_folder: Path) -> None:
    checkout = Path(__file__).parents[2]
    for path in bundle_folder.iterdir():
        content = path.read_bytes()
        assert str(checkout).encode() not in content, path.name
        assert b"fused_graph.py" not in content, path.name


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


def test_a_reference_of_another_input_size_and_a_missing_recipe_are_named_before_any_work(
    checkpoint: Path, tmp_path: Path
) -> None:
    state = torch.load(checkpoint, weights_only=True)
    state["config"]["network"]["input_px"] = 96
    save_checkpoint(tmp_path / "large.pt", state)
    with pytest.raises(InputError, match=r"large\.pt sees 96×96 pixels, the checkpoint to export 64×64"):
        export(checkpoint, name="small", out=tmp_path / "out", reference=tmp_path / "large.pt")
    with pytest.raises(InputError, match=r"recipe .*absent\.md cannot be read"):
        export(checkpoint, name="small", out=tmp_path / "out", recipe=tmp_path / "absent.md")


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


def test_the_temperature_lies_between_that_of_the_day_and_that_of_the_night(bundle_folder: Path) -> None:
    card = (bundle_folder / "MODEL_CARD.md").read_text()
    found = re.search(r"geometric mean of ([\d.]+), fitted .*, and ([\d.]+), at which .* pixels, ([\d.]+), on", card)
    assert found, card
    day, night, agreement = map(float, found.groups())
    assert load_bundle(bundle_folder).temperature == pytest.approx((day * night) ** 0.5, rel=1e-2)
    assert 0 <= agreement < 0.9  # two networks of random weights
