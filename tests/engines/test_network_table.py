from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from darkseg_ros.errors import InputError
from engines.network_table import NetworkFigures, main, measure, measure_once, page, read_measured
from training.networks.config import NETWORKS
from training.study.results import RunFigures

SIZE_HW = (64, 64)


def figures(name: str) -> NetworkFigures:
    return NetworkFigures(name, "resnet18", 2_500_000, 3_000_000_000, 40.0, 5.0, 20.0, SIZE_HW, "2026-11-28", 3.0)


def test_a_network_is_measured_against_the_reference_in_the_same_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    short = replace(NETWORKS["panoptic_fpn"], encoder="tu-test_resnet")  # its export is quick
    monkeypatch.setitem(NETWORKS, "panoptic_fpn", short)
    measured = measure("panoptic_fpn", SIZE_HW, rounds=1)
    assert measured.parameters > 1_000_000
    assert measured.multiplications > 1_000_000
    assert min(measured.torch_ms, measured.int8_ms, measured.reference_ms) > 0


def test_what_was_measured_is_not_measured_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("engines.network_table.measure", lambda name, _size_hw: figures(name))
    measure_once("unet", SIZE_HW, tmp_path)
    monkeypatch.setattr("engines.network_table.measure", None)
    measure_once("unet", SIZE_HW, tmp_path)
    assert read_measured("unet", SIZE_HW, tmp_path) == figures("unet")
    assert read_measured("unet", (32, 32), tmp_path) is None
    (tmp_path / "unet_64x64.json").write_text("{}")
    with pytest.raises(InputError, match=r"unet_64x64\.json holds no figures of a network .*; delete it"):
        read_measured("unet", SIZE_HW, tmp_path)


def test_the_page_has_ratios_and_accuracy_where_there_is_one() -> None:
    ends = {"day": 31.0, "night": 12.0, "other_weather": 20.0}
    text = page([figures("unet"), figures("vit")], SIZE_HW, {"unet": RunFigures(ends, ends, ends, 150, 1, 2.0)})
    assert "| unet | U-Net | mobilenet_v2 | 2.5 | 3.0 | 40 | 2.00 | 5.0 | 0.25 | 31.0 | 12.0 |" in text
    vit = "| vit | Vision Transformer | tu-vit_tiny_patch16_224 |"
    assert f"{vit} 2.5 | 3.0 | 40 | 2.00 | 5.0 | 0.25 | not trained | not trained |" in text
    assert "| fcn | FCN | mobilenet_v2 | not measured |  |  |  |  |  | not trained | not trained |" in text
    assert "load was 3.0 to 3.0 meanwhile" in text


def test_only_some_are_measured_and_every_network_has_a_row(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("engines.network_table.measure", lambda name, _size_hw: figures(name))
    paths = ["--out", str(tmp_path / "networks.md"), "--measured", str(tmp_path / "measured")]
    main(["--only", "unet", "--input-hw", "64", "64", *paths])
    text = (tmp_path / "networks.md").read_text(encoding="utf-8")
    assert [path.name for path in (tmp_path / "measured").iterdir()] == ["unet_64x64.json"]
    assert all(f"| {name} | {row.title} |" in text for name, row in NETWORKS.items())
    main(paths)
    assert "not measured" not in (tmp_path / "networks.md").read_text(encoding="utf-8")
