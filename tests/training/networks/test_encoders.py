from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from darkseg_ros.errors import InputError
from training.networks.build import build_network
from training.networks.config import NetworkConfig
from training.networks.encoders import build_encoder, load_encoder_weights
from training.runs.checkpoints import save_checkpoint

SMALL = NetworkConfig(
    name="panoptic_fpn", encoder="resnet18", options={"pyramid_channels": 16, "segmentation_channels": 32}
)


def test_weights_are_those_of_torchvisions_file(tmp_path: Path) -> None:
    state = {name: torch.full_like(value, 2) for name, value in build_encoder("resnet18").state_dict().items()}
    torch.save({**state, "fc.weight": torch.zeros(1000, 512)}, tmp_path / "weights.pth")
    network = build_network(replace(SMALL, encoder_weights=str(tmp_path / "weights.pth")))
    assert all((value == 2).all() for value in network.encoder.state_dict().values())


def test_a_segmenters_checkpoint_gives_its_averaged_encoder(tmp_path: Path) -> None:
    other = build_network(replace(SMALL, options={"pyramid_channels": 8, "segmentation_channels": 64}))
    averaged = {name: torch.full_like(value, 3) for name, value in other.state_dict().items()}
    save_checkpoint(tmp_path / "last.pt", {"step": 1, "teacher": averaged, "student": other.state_dict()})
    network = build_network(replace(SMALL, encoder_weights=str(tmp_path / "last.pt")))
    assert all((value == 3).all() for value in network.encoder.state_dict().values())
    assert not any((value == 3).all() for value in network.head.state_dict().values())


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("name", ["mobilenetv4_conv_small_050", "resnet10t", "convnext_atto"])
def test_an_encoder_of_timm_answers_with_timms_weights_as_timms_classifier_does(
    name: str, suffix: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    classifier = timm.create_model(name).eval()
    weights = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save(classifier.state_dict(), weights)
    else:
        save_file(classifier.state_dict(), weights)
    torch.manual_seed(1)
    encoder = build_encoder(f"tu-{name}").eval()
    load_encoder_weights(encoder, weights)
    images = torch.randn(1, 3, 64, 64)
    seen: list[torch.Tensor] = []
    *_, last_stage = _stages(classifier)
    last_stage.register_forward_hook(lambda _, __, output: seen.append(output))
    with torch.no_grad():
        classifier.forward_features(images)
        torch.testing.assert_close(encoder(images)[-1], seen[-1])


def _stages(classifier: nn.Module) -> list[nn.Module]:
    for names in (("blocks",), ("stages",)):
        if hasattr(classifier, names[0]):
            return list(classifier.get_submodule(names[0]).children())
    return [classifier.get_submodule("layer4")]


def test_weights_of_another_timm_model_are_refused(tmp_path: Path) -> None:
    torch.save(timm.create_model("resnet10t").state_dict(), tmp_path / "resnet10t.pth")
    with pytest.raises(InputError, match=r"resnet10t\.pth are no weights of timm's mobilenetv4_conv_small_050"):
        load_encoder_weights(build_encoder("tu-mobilenetv4_conv_small_050"), tmp_path / "resnet10t.pth")


def test_what_cannot_be_built_or_loaded_is_named_with_its_cure(tmp_path: Path) -> None:
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "other.pth")
    (tmp_path / "half.pth").write_bytes((tmp_path / "other.pth").read_bytes()[:200])
    for wrong, named in (
        ({"encoder": "resnet17"}, "resnet17; expected a name of segmentation_models_pytorch"),
        ({"encoder": "tu-resnet17"}, "tu-resnet17, which cannot be built"),
        ({"encoder_weights": str(tmp_path / "none.pth")}, "no encoder weights"),
        ({"encoder_weights": str(tmp_path / "other.pth")}, "other.pth lacks"),
        ({"encoder_weights": str(tmp_path / "half.pth")}, "half.pth is no whole state dict"),
    ):
        with pytest.raises(InputError, match=named):
            build_network(replace(SMALL, **wrong))  # type: ignore[arg-type]
