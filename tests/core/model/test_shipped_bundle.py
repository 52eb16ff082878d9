"""The bundle in engines/darkseg_slim: what a fresh clone runs."""

from __future__ import annotations

import re

import numpy as np
import pytest

from darkseg_ros.classes import CITYSCAPES
from darkseg_ros.installed_files import default_bundle
from darkseg_ros.model.bundle import load_bundle
from darkseg_ros.model.segmenter import Segmenter
from darkseg_ros.synthetic_drive import SyntheticDrive

SIZE_BYTES_MAX = 25_000_000


def test_it_is_whole_and_small_enough_for_the_repository() -> None:
    bundle = load_bundle(default_bundle())
    assert bundle.name == "darkseg_slim"
    assert sum(path.stat().st_size for path in bundle.directory.iterdir()) <= SIZE_BYTES_MAX


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("night", [False, True])
def test_it_sees_the_road_ahead_in_a_generated_street(backend: str, night: bool) -> None:
    scene = SyntheticDrive(seed=1, size_hw=(256, 512), night=night).frame(20)
    class_map = Segmenter.open(default_bundle(), backend=backend)(scene.bgr).class_map
    road = CITYSCAPES.train_ids["road"]
    ahead = class_map[-60:, 200:312]
    assert (ahead == road).mean() > 0.8


def test_int8_and_float_agree_on_a_generated_night_street() -> None:
    bgr = SyntheticDrive(seed=2, size_hw=(512, 1024), night=True).frame(40).bgr
    int8, full = (Segmenter.open(default_bundle(), backend=backend)(bgr) for backend in ("openvino", "onnxruntime"))
    assert np.mean(int8.class_map == full.class_map) > 0.9


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_several_frames_get_the_answers_they_get_alone(backend: str) -> None:
    engine = Segmenter.open(default_bundle(), backend=backend).engine
    frames = np.random.default_rng(0).integers(0, 255, (2, 384, 384, 3)).astype(np.uint8)
    together, alone = engine(frames), engine(frames[1:])
    assert together.class_map.shape == together.confidence.shape == (2, 384, 384)
    np.testing.assert_array_equal(together.class_map[1:], alone.class_map)


def test_its_model_card_names_terms_recipe_and_figures_at_least_as_good_as_the_first_goal() -> None:
    card = (default_bundle() / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "non-commercial research" in card
    assert "training.pseudo_label" in card
    rows = dict(re.findall(r"^\| (day|night) \| int8 \| \d+ \| (?:[\d.]+) \| ([\d.]+) \|", card, re.MULTILINE))
    assert float(rows["day"]) >= 0.45
    assert float(rows["night"]) >= 0.22
