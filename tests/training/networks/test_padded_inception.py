from __future__ import annotations

import pytest
import timm
import torch

from training.networks.build import build_network
from training.networks.config import NetworkConfig
from training.networks.padded_inception import ENCODER_NAME, padded_inception_v3


def test_features_have_the_strides_of_a_pyramid() -> None:
    encoder = padded_inception_v3().eval()
    with torch.no_grad():
        features = encoder(torch.zeros(1, 3, 64, 96))
    assert [feature.shape[1:] for feature in features] == [(192, 16, 24), (288, 8, 12), (768, 4, 6), (2048, 2, 3)]
    assert encoder.out_channels == (192, 288, 768, 2048)


def test_parameters_are_timm_s() -> None:
    plain = timm.create_model("inception_v3", pretrained=False, features_only=True, out_indices=(1, 2, 3, 4))
    expected = {name: value.shape for name, value in plain.state_dict().items()}
    assert {name: value.shape for name, value in padded_inception_v3().state_dict().items()} == expected


@pytest.mark.parametrize(("level", "stride"), [(0, 4), (1, 8)])
def test_features_lie_where_their_pixels_lie(level: int, stride: int) -> None:
    torch.manual_seed(0)
    encoder = padded_inception_v3().eval()
    image = torch.randn(1, 3, 160, 160)
    changed = image.clone()
    changed[:, :, 80:84, 100:104] += 3
    with torch.no_grad():
        change = (encoder(changed)[level] - encoder(image)[level]).abs().sum((0, 1))
    rows, columns = torch.meshgrid(*map(torch.arange, change.shape), indexing="ij")
    middle = [(change * one).sum().item() / change.sum().item() for one in (rows, columns)]
    # the middle of feature i is pixel stride · i
    assert middle == pytest.approx([81.5 / stride, 101.5 / stride], abs=0.3)


def test_a_teacher_is_built_on_it() -> None:
    network = build_network(NetworkConfig(encoder=ENCODER_NAME, options={"channels": 8, "finest_stride": 8})).eval()
    with torch.no_grad():
        assert network(torch.zeros(1, 3, 64, 64)).shape == (1, 19, 16, 16)
