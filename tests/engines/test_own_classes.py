"""CamVid's 11 classes from generated label files through training, export, both CPU backends and evaluation."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from darkseg_ros.classes import CITYSCAPES
from darkseg_ros.commands.cli import main as darkseg
from darkseg_ros.errors import InputError
from darkseg_ros.model.bundle import load_golden
from darkseg_ros.model.segmenter import Segmenter
from engines import export as export_module
from engines.export import export
from engines.parity import ParityReport
from tests.bundles import CAMVID
from training.data.class_table import classes_of
from training.runs.checkpoints import load_checkpoint
from training.train_segmenter import main as train

CONFIG = "training/configs/segmenter_slim.yaml"
VALUES = {"road": 3, "sky": 0, "building": 1, "sidewalk": 4, "vegetation": 5, "car": 8, "person": 9, "pole": 2}
"""The value in a label file of CamVid of some of Cityscapes' classes; the others are void, 11."""


@pytest.fixture(scope="module")
def camvid_data(generated_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The generated scenes, labelled as CamVid's files are: 0…10, 11 = void."""
    root = tmp_path_factory.mktemp("camvid")
    value_of = np.full(256, 11, np.uint8)
    for name, value in VALUES.items():
        value_of[CITYSCAPES.train_ids[name]] = value
    for name in ("source", "validation"):
        (root / name / "label").mkdir(parents=True)
        (root / name / "image").symlink_to(generated_data / name / "image", target_is_directory=True)
        for path in (generated_data / name / "label").iterdir():
            label_map = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            cv2.imwrite(str(root / name / "label" / path.name), value_of[label_map])
    return root


def settings(generated_data: Path, camvid_data: Path, output: Path) -> list[str]:
    mapping = json.dumps({value: CAMVID.names[value] for value in range(11)} | {11: ""})
    return [
        "--config",
        CONFIG,
        f"output={output}",
        f"data.classes={json.dumps(CAMVID.to_json())}",
        f"data.source=[{{folder: {camvid_data / 'source'}, mapping: {mapping}}}]",
        f"data.night={generated_data / 'night'}",
        f"data.validation={{day: {{folder: {camvid_data / 'validation'}, mapping: {mapping}}}, night: null}}",
        "steps=2",
        "batch_size=2",
        "loader_workers=0",
        "accelerator=cpu",
        "network.encoder=tu-test_resnet",
        "network.encoder_weights=null",
        "network.options.channels=8",
        "network.input_px=64",
        "augmentation.view_px=64",
        "augmentation.crop_px=64",
        "loss.class_weight_exponent=0.5",
    ]


@pytest.fixture(scope="module")
def run(generated_data: Path, camvid_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("run")
    train(settings(generated_data, camvid_data, output))
    return output


@pytest.fixture(scope="module")
def bundle_folder(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export_module, "MIOU_LOSS_MAX", 1.0)  # two steps teach nothing
        patch.setattr(ParityReport, "failures", lambda _: [])
        patch.setattr(export_module, "_CALIBRATION_IMAGES", 3)
        patch.setattr(
            export_module, "_with_int8_for_tensorrt", lambda content, *_: (content, None)
        )  # test_export has it
        return export(run / "checkpoints" / "last.pt", name="eleven", out=tmp_path_factory.mktemp("engines"))


def test_a_run_learns_and_reports_the_classes_of_its_table(run: Path) -> None:
    state = load_checkpoint(run / "checkpoints" / "last.pt")
    assert state["teacher"]["head.2.weight"].shape[0] == 11
    assert classes_of(state["config"]) == CAMVID
    metrics = json.loads((run / "metrics.json").read_text())
    assert list(metrics["day"]["iou"]) == list(CAMVID.names)


def test_a_run_does_not_go_on_with_another_table(run: Path, generated_data: Path, camvid_data: Path) -> None:
    renamed = [{**row, "name": "street"} if row["name"] == "sky" else row for row in CAMVID.to_json()]
    given = settings(generated_data, camvid_data, run)
    given = [each.replace('"sky"', '"street"') for each in given if not each.startswith("data.classes")]
    with pytest.raises(SystemExit, match=r"other settings of the content of data\.classes; choose another output"):
        train([*given, f"data.classes={json.dumps(renamed)}"])


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_the_bundle_answers_with_its_classes(bundle_folder: Path, backend: str) -> None:
    segmenter = Segmenter.open(bundle_folder, backend=backend)
    try:
        assert segmenter.bundle.classes == CAMVID
        answer = segmenter(load_golden(segmenter.bundle).frames[0])
    finally:
        segmenter.close()
    assert answer.class_map.max() < 11
    assert answer.confidence.min() >= 255 // 11
    card = (bundle_folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "into 11 classes: sky, building" in card
    assert "| sign symbol |" in card


def test_darkseg_evaluates_it_by_its_names_and_draws_it_in_its_colours(
    bundle_folder: Path, generated_data: Path, camvid_data: Path, tmp_path: Path
) -> None:
    (tmp_path / "label").mkdir()
    for path in (camvid_data / "validation" / "label").iterdir():
        label_map = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(tmp_path / "label" / path.name), np.where(label_map == 11, np.uint8(255), label_map))
    images, out = str(generated_data / "validation" / "image"), str(tmp_path / "out")
    model = ["--bundle", str(bundle_folder), "--backend", "onnxruntime", "--out", out]
    labels = ["--labels", str(tmp_path / "label"), "--at-least", "iou.bicyclist=0.5"]
    assert darkseg(["evaluate", "--images", images, *labels, *model]) == 3  # no bicyclist there
    figures = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert list(figures["iou"]) == list(CAMVID.names)
    assert np.shape(figures["confusion"]) == (11, 12)
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "sign symbol" in page
    assert "traffic sign" not in page
    with pytest.raises(SystemExit) as refused:
        darkseg(["evaluate", "--images", images, *labels[:2], "--at-least", "iou.rider=0.1", *model])
    assert refused.value.code == 2


def test_a_data_set_that_is_read_into_cityscapes_classes_needs_a_mapping(generated_data: Path, tmp_path: Path) -> None:
    from training.data.pairs import source_of

    entry = {"folder": str(tmp_path), "data_set": "camvid_11"}
    with pytest.raises(InputError, match=r"is read into Cityscapes' classes.*add a mapping"):
        source_of(entry, CAMVID)
    source_of({**entry, "mapping": {3: "road"}}, CAMVID)


@pytest.mark.parametrize("given", ["road", [], [{"name": "road"}]])
def test_what_is_no_class_table_is_told_with_an_example(given: object) -> None:
    with pytest.raises(InputError, match=r"data\.classes: .*segmenter_camvid\.yaml"):
        classes_of({"data": {"classes": given}})


def test_the_loss_of_a_run_is_that_of_its_classes() -> None:
    from training.losses import segmentation_loss
    from training.segmenter_config import LossConfig

    labels = torch.zeros(1, 8, 8, dtype=torch.int64)
    labels[0, 0] = 255
    loss = segmentation_loss(
        torch.zeros(1, 11, 2, 2), labels, config=LossConfig(stride=1), class_weights=torch.ones(11)
    )
    assert float(loss.total / loss.weight) == pytest.approx(np.log(11))
    assert float(loss.weight) == 56
