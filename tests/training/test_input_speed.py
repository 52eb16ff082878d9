from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import DictConfig

from darkseg_ros.errors import InputError
from training.input_speed import measure
from training.runs.config import load_config
from training.segmenter_config import SegmenterConfig

CONFIG = Path(__file__).parents[2] / "training/configs/segmenter_slim.yaml"


def config_of(settings: list[str], *more: str) -> DictConfig:
    return load_config(SegmenterConfig, CONFIG, [*settings, *more])


def test_every_cache_is_measured_at_the_crops_of_the_run(small_settings: list[str]) -> None:
    rectangle = ("augmentation.crop_px=32", "augmentation.width_over_height=2", "network.width_over_height=2")
    lines = measure(config_of(small_settings, *rectangle), seconds=0.01).splitlines()
    assert "crops of 32×64, loader_workers=" in lines[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[4:]]
    assert [row[0].split(",")[0] for row in cells] == ["none", "memory", "disk", "training alone"]
    for _, filling, loading, beside in cells[:3]:
        assert float(filling) >= 0
        assert min(float(loading), float(beside)) > 0
    assert float(cells[3][-1]) > 0


def test_missing_images_are_told_as_the_training_tells_them(small_settings: list[str], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        measure(config_of(small_settings, f"data.night={tmp_path / 'nowhere'}"), seconds=0.01)
