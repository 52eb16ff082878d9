from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from torch.nn import functional

from darkseg_ros.errors import InputError
from training.adaptation.teacher import load_teacher
from training.average_views import average_views, main
from training.networks.build import build_network
from training.networks.config import NetworkConfig, input_hw_of
from training.networks.views import MeanOfViews
from training.runs.checkpoints import save_checkpoint


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    config = NetworkConfig(options={"channels": 8}, input_px=64)
    state = build_network(config).state_dict()
    path = tmp_path / "trained.pt"
    save_checkpoint(path, {"step": 7, "config": {"network": asdict(config)}, "teacher": state})
    return path


def test_the_checkpoint_of_views_is_the_network_seen_several_times(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "views.pt"
    main(
        ["--checkpoint", str(checkpoint), "--input-px", "96", "--scales", "1", "0.6667", "--mirrored"]
        + ["--out", str(out)]
    )
    network, _ = load_teacher(checkpoint)
    views, state = load_teacher(out)
    images = torch.randn(1, 3, 96, 96)
    torch.testing.assert_close(
        views(images), MeanOfViews(network, scales=[1.0, 0.6667], mirrored=True)(images), rtol=0, atol=0
    )
    assert (state["step"], state["config"]["network"]["input_px"]) == (7, 96)


def test_a_rectangle_keeps_its_shape(tmp_path: Path) -> None:
    trained, out = tmp_path / "trained.pt", tmp_path / "views.pt"
    config = NetworkConfig(options={"channels": 8}, input_px=64, width_over_height=2)
    save_checkpoint(
        trained, {"step": 7, "config": {"network": asdict(config)}, "teacher": build_network(config).state_dict()}
    )
    average_views(trained, input_px=96, scales=[1.0, 0.6667], mirrored=False, out=out)
    views, state = load_teacher(out)
    height, width = input_hw_of(OmegaConf.create(state["config"]["network"]))
    assert (height, width) == (96, 192)
    network, images = load_teacher(trained)[0], torch.randn(1, 3, height, width)
    of_smaller = torch.softmax(network(functional.interpolate(images, size=(64, 128), mode="bilinear")), 1)
    of_both = torch.softmax(network(images), 1), functional.interpolate(of_smaller, size=(24, 48), mode="bilinear")
    torch.testing.assert_close(torch.softmax(views(images), 1), sum(of_both) / 2, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"scales": [1.5]}, "expected values above 0 and up to 1"),
        ({"scales": []}, "expected values above 0 and up to 1"),
        ({"input_px": 100}, "expected a multiple of 32"),
    ],
)
def test_what_cannot_be_seen_is_refused(checkpoint: Path, tmp_path: Path, wrong: dict[str, object], told: str) -> None:
    given = {"input_px": None, "scales": [1.0], "mirrored": True, **wrong}
    with pytest.raises(InputError, match=told):
        average_views(checkpoint, out=tmp_path / "views.pt", **given)  # type: ignore[arg-type]
    assert not (tmp_path / "views.pt").exists()


def test_views_of_views_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "views.pt"
    average_views(checkpoint, input_px=None, scales=[1.0], mirrored=True, out=out)
    with pytest.raises(InputError, match="sees several views already"):
        average_views(out, input_px=None, scales=[1.0], mirrored=True, out=tmp_path / "again.pt")
