from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from training.evaluate_checkpoint import main
from training.networks.build import build_network
from training.networks.config import NetworkConfig
from training.runs.checkpoints import save_checkpoint

ROAD = 0


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A Panoptic FPN that sees nothing but road, as training.train_segmenter writes it."""
    config = NetworkConfig(
        name="panoptic_fpn",
        encoder="resnet18",
        input_px=64,
        options={"pyramid_channels": 8, "segmentation_channels": 32},
    )
    network = build_network(config)
    with torch.no_grad():
        network.head[0].weight.zero_()
        network.head[0].bias.zero_()
        network.head[0].bias[ROAD] = 5.0
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"step": 1, "config": {"network": asdict(config)}, "teacher": network.state_dict()})
    return path


def labelled_folder(folder: Path, label_maps: list[np.ndarray]) -> Path:
    for part in ("image", "label"):
        (folder / part).mkdir(parents=True)
    for index, label_map in enumerate(label_maps):
        cv2.imwrite(str(folder / "image" / f"{index}.png"), np.zeros((*label_map.shape, 3), np.uint8))
        cv2.imwrite(str(folder / "label" / f"{index}.png"), label_map)
    return folder


def test_the_figures_of_a_network_that_sees_only_road_are_worked_by_hand(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quarter_sky = np.full((40, 80), ROAD, np.uint8)
    quarter_sky[:10] = 10
    folder = labelled_folder(tmp_path / "set", [quarter_sky, quarter_sky])
    out = tmp_path / "metrics.json"
    main(["--checkpoint", str(checkpoint), "--labelled", str(folder), "--name", "night", "--out", str(out)])
    figures = json.loads(out.read_text())["night"]
    assert figures["images"] == 2
    assert {name: iou for name, iou in figures["iou"].items() if iou is not None} == {"road": 0.75, "sky": 0.0}
    expected = {
        "miou": 0.375,  # (3/4 + 0) / 2
        "miou_present": 0.375,
        "pixel_accuracy": 0.75,
        "class_accuracy": 0.5,  # (1 + 0) / 2
        "fwiou": 0.5625,  # 3/4 · 3/4
    }
    for name, value in expected.items():
        assert figures[name] == pytest.approx(value)
        assert figures["ci95"][name] == pytest.approx([value, value])  # two equal images
    printed = capsys.readouterr().out
    assert "fwiou 0.5625 [0.5625, 0.5625]" in printed
    assert "counts in no mean" in printed
    assert "counts in no mean" in figures["absent_classes"]


def test_what_cannot_be_evaluated_is_named(checkpoint: Path, tmp_path: Path) -> None:
    unlabelled = labelled_folder(tmp_path / "set", [np.full((8, 8), 255, np.uint8)])
    save_checkpoint(tmp_path / "unit.pt", {"step": 1, "config": {"batch_size": 1}})
    (tmp_path / "file").touch()
    arguments = ["--checkpoint", str(checkpoint), "--labelled", str(unlabelled), "--name", "dusk"]
    out = ["--out", str(tmp_path / "metrics.json")]
    with pytest.raises(SystemExit, match="validation set dusk: no pixel has ground truth"):
        main([*arguments, *out])
    with pytest.raises(SystemExit, match="nowhere"):
        main([*arguments, *out, "--labelled", str(tmp_path / "nowhere")])
    with pytest.raises(SystemExit, match=r"unit\.pt holds no segmenter"):
        main([*arguments, *out, "--checkpoint", str(tmp_path / "unit.pt")])
    assert not (tmp_path / "metrics.json").exists()
    labelled = labelled_folder(tmp_path / "whole", [np.zeros((8, 8), np.uint8)])
    with pytest.raises(SystemExit, match="cannot be written"):
        main([*arguments, "--labelled", str(labelled), "--out", str(tmp_path / "file" / "metrics.json")])
