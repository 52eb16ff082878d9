from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from omegaconf import DictConfig, OmegaConf

from darkseg_ros.errors import InputError
from training.adaptation.teacher import load_teacher
from training.networks.build import build_network
from training.networks.config import NETWORKS, NetworkConfig, complete, from_flat
from training.runs.checkpoints import load_checkpoint, save_checkpoint
from training.runs.config import load_config, refuse_other_run
from training.segmenter_config import SegmenterConfig

CONFIGS = Path(__file__).parents[3] / "training" / "configs"

FLAT = {
    "architecture": "panoptic_fpn",
    "encoder": "resnet18",
    "encoder_weights": None,
    "channels": 64,
    "finest_stride": 4,
    "finest_channels": None,
    "pyramid_channels": 16,
    "segmentation_channels": 32,
    "dropout": 0.2,
    "freeze_batch_norm": True,
    "input_px": 64,
    "start_checkpoint": None,
}
"""As a run of 2026-11-27 saved them."""


def test_options_have_the_defaults_of_their_network() -> None:
    assert complete(NetworkConfig()) == {
        **asdict(NetworkConfig()),
        "encoder": "mobilenet_v2",
        "options": {"channels": 64, "finest_stride": 4, "finest_channels": None, "dropout": 0.1},
    }
    assert complete({"name": "segformer"}).encoder == "mit_b0"


@pytest.mark.parametrize("name", NETWORKS)
def test_every_networks_defaults_are_complete_and_stay_so(name: str) -> None:
    once = complete(NetworkConfig(name=name))
    assert complete(once) == once


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "unet5"}, r"network\.name is unet5; expected one of slim_fpn, panoptic_fpn, "),
        (
            {"name": "panoptic_fpn", "options": {"channels": 999, "finest_stride": 5}},
            r"network\.options\.channels is no option of panoptic_fpn; its options are pyramid_channels, segm",
        ),
        ({"name": "ddrnet", "options": {"channels": 9}}, r"network\.options\.channels is no option of ddrnet; it has "),
        ({"options": {"channels": "wide"}}, r"network\.options: Value 'wide'.* could not be converted to Integer"),
        ({"options": {"finest_stride": 16}}, r"network\.options\.finest_stride is 16; expected 4 or 8"),
        ({"options": {"finest_channels": 8}}, r"network\.options\.finest_channels is 8; expected 64, or finest_str"),
        (
            {"name": "panoptic_fpn", "options": {"segmentation_channels": 48}},
            r"network\.options\.segmentation_channels is 48; expected a multiple of 32",
        ),
        ({"width": 3}, "network: Key 'width' not in 'NetworkConfig'"),
    ],
)
def test_what_does_not_fit_is_named_with_its_cure(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        complete(settings)


def test_yaml_and_overrides_set_options(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    data = {"source": ["s"], "night": "n", "day_validation": "d", "night_validation": "e"}
    network = {"name": "panoptic_fpn", "encoder_weights": "${oc.env:PWD}/w.pth", "options": {"pyramid_channels": 16}}
    path.write_text(yaml.safe_dump({"output": "o", "data": data, "network": network}))
    config = load_config(SegmenterConfig, path, ["network.options.dropout=0.5"])
    assert config.network.options == {"pyramid_channels": 16, "segmentation_channels": 128, "dropout": 0.5}
    assert "$" not in config.network.encoder_weights
    with pytest.raises(InputError, match=r"network\.options\.channels is no option of panoptic_fpn"):
        load_config(SegmenterConfig, path, ["network.options.channels=999"])


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("segmenter_*.yaml")), ids=lambda path: path.stem)
def test_every_config_of_the_repository_says_which_network(path: Path) -> None:
    assert load_config(SegmenterConfig, path, []).network.name in NETWORKS


def test_flat_settings_keep_what_had_an_effect() -> None:
    assert complete(from_flat(FLAT)) == {
        "name": "panoptic_fpn",
        "encoder": "resnet18",
        "encoder_weights": None,
        "start_checkpoint": None,
        "freeze_batch_norm": True,
        "input_px": 64,
        "width_over_height": 1.0,
        "exposure_mean": None,
        "exposure_gamma_min": 0.3,
        "options": {"pyramid_channels": 16, "segmentation_channels": 32, "dropout": 0.2},
    }
    today = asdict(NetworkConfig(name="ddrnet"))
    assert from_flat(today) == today


def test_a_setting_of_the_command_line_leaves_the_network_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    data = {"source": ["s"], "night": "n"}
    path.write_text(yaml.safe_dump({"output": "o", "data": data, "network": {"name": "unet", "options": {}}}))
    assert load_config(SegmenterConfig, path, ["network.input_px=128"]).network.name == "unet"
    path.write_text(yaml.safe_dump({"output": "o", "data": data, "network": FLAT}))
    network = load_config(SegmenterConfig, path, ["network.pyramid_channels=32"]).network
    assert (network.name, network.options.pyramid_channels) == ("panoptic_fpn", 32)


def test_a_checkpoint_with_flat_settings_loads_and_resumes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    asked = complete(from_flat(FLAT))
    network = build_network(asked).eval()
    save_checkpoint(tmp_path / "last.pt", {"step": 3, "config": {"network": FLAT}, "teacher": network.state_dict()})
    teacher, state = load_teacher(tmp_path / "last.pt")
    images = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(teacher(images), network(images))
    assert state["config"]["network"] == asked
    saved = load_checkpoint(tmp_path / "last.pt")
    config = OmegaConf.merge(OmegaConf.structured(SegmenterConfig), {"network": asked})
    assert isinstance(config, DictConfig)
    refuse_other_run(tmp_path / "last.pt", saved, config, {})
    config.network.options.dropout = 0.3
    with pytest.raises(InputError, match=r"other settings of network\.options\.dropout"):
        refuse_other_run(tmp_path / "last.pt", saved, config, {})


def test_a_flat_yaml_of_an_earlier_run_is_read(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    data = {"source": ["s"], "night": "n", "day_validation": "d", "night_validation": "e"}
    path.write_text(yaml.safe_dump({"output": "o", "data": data, "network": FLAT}))
    config = load_config(SegmenterConfig, path, [])
    assert config.network == complete(from_flat(FLAT))
    assert config.data.validation == {"day": "d", "night": "e"}


def test_settings_are_checked_without_torch() -> None:
    code = "import sys, training.networks.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
