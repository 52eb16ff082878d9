"""The data and terms of model cards, from the settings of runs and the catalogue."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
from omegaconf import OmegaConf

from engines.model_card import DataRow, data_rows, told_views
from training.runs.config import load_config
from training.segmenter_config import SegmenterConfig

CONFIGS = Path(__file__).parents[2] / "training" / "configs"
COUNTS = {"source": 2975, "night": 1000, "validation.day": 500, "validation.night": 17}


def settings_of(name: str) -> dict[str, Any]:
    config = load_config(SegmenterConfig, CONFIGS / f"{name}.yaml", [])
    return cast(dict[str, Any], OmegaConf.to_container(config))


def test_the_shipped_model_learned_from_cityscapes_and_bdd100k(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARKSEG_DATA", "/data")
    lineage = [settings_of(f"segmenter_slim{run}") for run in ("", "_night", "_balanced", "_fast", "_pixels")]
    rows = data_rows([*lineage, settings_of("segmenter_slim_pixels_distilled")], COUNTS)
    assert (
        DataRow("Cityscapes (source_day_cityscapes/train), 2975 labelled images", "training", "non-commercial research")
        in rows
    )
    assert (
        DataRow(
            "BDD100K (target_night_unlabelled), 1000 unlabelled images",
            "night light, pseudo-labels, int8 calibration",
            "research",
        )
        in rows
    )
    assert (
        DataRow("ImageNet weights of torchvision, mobilenet_v2-b0353104.pth", "start of the encoder", "BSD-3") in rows
    )
    judged = {row.data: row.terms for row in rows if "never trained on" in row.used_for}
    assert judged == {
        "Cityscapes (source_day_cityscapes/val), 500 labelled images": "non-commercial research",
        "ACDC (acdc_night_dev), 17 labelled images": "non-commercial research",
    }


def test_a_card_of_other_data_names_neither_cityscapes_nor_bdd100k() -> None:
    settings = settings_of("segmenter_slim") | {
        "data": {
            "source": ["/mine/streets", {"folder": "/sets/camvid", "data_set": "camvid"}],
            "night": "/mine/night",
            "validation": {"tunnel": "/mine/tunnel"},
        },
    }
    settings["network"]["encoder_weights"] = None
    rows = data_rows([settings], {"source": 9, "night": 4, "validation.tunnel": 2})
    assert [row.data for row in rows] == [
        "folder streets (streets), labelled images",
        "CamVid, 32 colours (camvid), labelled images",
        "folder night (night), 4 unlabelled images",
        "folder tunnel (tunnel), 2 labelled images",
    ]
    assert {row.terms for row in rows if "folder" in row.data} == {"those of its owner"}


def test_a_card_tells_how_often_a_frame_is_seen() -> None:
    assert told_views(None, 384) == ""
    assert told_views({"scales": [1.0, 0.75], "mirrored": True}, 512) == (
        "\nEach frame is seen 512 and 384 pixels high, as it is and mirrored; the answer is their mean."
    )
