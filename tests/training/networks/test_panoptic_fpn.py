from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from darkseg_ros.classes import NUM_CLASSES
from darkseg_ros.errors import InputError
from training.losses import LossConfig, segmentation_loss
from training.networks.build import NetworkConfig, batch_norm_layers, build_network, set_to_training
from training.networks.panoptic_fpn import PanopticFpn
from training.runs.checkpoints import save_checkpoint

SMALL = NetworkConfig(
    architecture="panoptic_fpn", encoder="resnet18", pyramid_channels=16, segmentation_channels=32, dropout=0.0
)


@pytest.mark.parametrize("encoder", ["resnet18", "mobilenet_v2"])
def test_logits_have_a_quarter_of_the_images_size(encoder: str) -> None:
    network = build_network(replace(SMALL, encoder=encoder)).eval()
    assert network(torch.zeros(1, 3, 64, 96)).shape == (1, NUM_CLASSES, 16, 24)


def test_the_pyramid_goes_down_to_a_quarter_in_as_many_steps_as_the_paper_draws() -> None:
    """Figure 3 of arXiv 1901.02446: 3, 2, 1 times upsampling from p5, p4, p3, and one convolution at p2."""
    network = build_network(SMALL)
    assert isinstance(network, PanopticFpn)
    convolutions = [
        sum(isinstance(layer, nn.Conv2d) for layer in branch.modules()) for branch in network.decoder.seg_blocks
    ]
    assert convolutions == [3, 2, 1, 1]
    assert all(isinstance(layer, nn.GroupNorm) for layer in network.decoder.modules() if "Norm" in type(layer).__name__)


@pytest.mark.parametrize("architecture", ["panoptic_fpn", "slim_fpn"])
def test_a_size_that_is_no_multiple_of_32_is_refused(architecture: str) -> None:
    with pytest.raises(ValueError, match=r"48×64.*multiples of 32"):
        build_network(replace(SMALL, architecture=architecture, channels=8))(torch.zeros(1, 3, 48, 64))


def test_the_network_can_learn_one_batch_by_heart() -> None:
    torch.manual_seed(0)
    network = build_network(SMALL).train()
    images, labels = torch.randn(2, 3, 64, 64), torch.zeros(2, 64, 64, dtype=torch.int64)
    images[:, :, :32] += 2.0  # the upper half is brighter, and sky
    labels[:, :32] = 10
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3)
    losses = []
    for _ in range(30):
        summed = segmentation_loss(network(images), labels, config=LossConfig(), class_weights=torch.ones(NUM_CLASSES))
        loss = summed.total / summed.weight
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]


def test_frozen_batch_norm_stays_as_it_started() -> None:
    config = replace(SMALL, freeze_batch_norm=True)
    network = build_network(config)
    set_to_training(network, config)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-2)
    network(torch.randn(2, 3, 64, 64)).square().mean().backward()
    optimiser.step()
    after = network.state_dict()
    frozen = {
        f"{name}.{part}"
        for name, layer in network.named_modules()
        if isinstance(layer, nn.BatchNorm2d)
        for part in layer.state_dict()
    }
    assert len(batch_norm_layers(network)) == 20  # ResNet-18's
    assert {name for name in before if not torch.equal(before[name], after[name])} == before.keys() - frozen


def test_encoder_weights_are_those_of_the_file(tmp_path: Path) -> None:
    state = {name: torch.full_like(value, 2) for name, value in build_network(SMALL).encoder.state_dict().items()}
    torch.save({**state, "fc.weight": torch.zeros(1000, 512)}, tmp_path / "weights.pth")
    network = build_network(replace(SMALL, encoder_weights=str(tmp_path / "weights.pth")))
    assert all((value == 2).all() for value in network.encoder.state_dict().values())


def test_a_segmenters_checkpoint_gives_its_averaged_encoder(tmp_path: Path) -> None:
    other = build_network(replace(SMALL, segmentation_channels=64))
    averaged = {name: torch.full_like(value, 3) for name, value in other.state_dict().items()}
    save_checkpoint(tmp_path / "last.pt", {"step": 1, "teacher": averaged, "student": other.state_dict()})
    network = build_network(replace(SMALL, encoder_weights=str(tmp_path / "last.pt")))
    assert all((value == 3).all() for value in network.encoder.state_dict().values())
    assert not any((value == 3).all() for value in network.head.state_dict().values())


def test_what_cannot_be_built_is_named_with_its_cure(tmp_path: Path) -> None:
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "other.pth")
    (tmp_path / "half.pth").write_bytes((tmp_path / "other.pth").read_bytes()[:200])
    for wrong, named in (
        ({"architecture": "unet"}, "unet; expected slim_fpn or panoptic_fpn"),
        ({"encoder": "resnet17"}, "resnet17; expected a name of segmentation_models_pytorch"),
        ({"segmentation_channels": 48}, "48; expected a multiple of 32"),
        ({"encoder_weights": str(tmp_path / "none.pth")}, "no encoder weights"),
        ({"encoder_weights": str(tmp_path / "other.pth")}, "other.pth lacks"),
        ({"encoder_weights": str(tmp_path / "half.pth")}, "half.pth is no whole state dict"),
    ):
        with pytest.raises(InputError, match=named):
            build_network(replace(SMALL, **wrong))  # type: ignore[arg-type]
