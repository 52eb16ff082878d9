from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("segmentation_models_pytorch")

from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from darkseg_ros.errors import InputError  # noqa: E402
from engines.peer_networks import build_quarter_peer  # noqa: E402
from training.networks.build import build_network  # noqa: E402
from training.networks.config import NetworkConfig  # noqa: E402
from training.networks.ddrnet import BilateralFusion, DdrNet23Slim, DeepAggregationPyramid  # noqa: E402


def on_paper() -> DdrNet23Slim:
    """Shapes without values: nothing is computed."""
    with torch.device("meta"):
        return DdrNet23Slim().eval()


def test_it_has_the_parameters_that_its_authors_state() -> None:
    assert sum(weight.numel() for weight in on_paper().parameters()) == pytest.approx(5.7e6, abs=0.05e6)


@pytest.mark.parametrize(("size_hw", "operations"), [((1024, 2048), 36.3e9), ((512, 1024), 36.3e9 / 4)])
def test_it_costs_what_its_authors_state(size_hw: tuple[int, int], operations: float) -> None:
    with FlopCounterMode(display=False) as counter:
        on_paper().native_logits(torch.empty(1, 3, *size_hw, device="meta"))
    # torch counts a multiplication with its addition as two
    assert counter.get_total_flops() / 2 == pytest.approx(operations, rel=0.005)


@pytest.mark.parametrize("size_hw", [(64, 128), (96, 160), (512, 1024), (1024, 2048)])
def test_its_own_logits_have_an_eighth_of_the_size(size_hw: tuple[int, int]) -> None:
    height, width = size_hw
    logits = on_paper().native_logits(torch.empty(2, 3, height, width, device="meta"))
    assert logits.shape == (2, 19, height // 8, width // 8)


def test_another_encoder_is_refused() -> None:
    with pytest.raises(InputError, match=r"network\.encoder is resnet18; ddrnet has its own alone"):
        build_network(NetworkConfig(name="ddrnet", encoder="resnet18"))


def test_both_branches_get_the_others_features() -> None:
    torch.manual_seed(0)
    fusion = BilateralFusion(8, 32, halvings=2).eval()
    high, low = torch.randn(1, 8, 16, 32), torch.randn(1, 32, 4, 8)
    with torch.inference_mode():
        fused = fusion(high, low)
        other_low, other_high = fusion(high, low + 1), fusion(high + 1, low)
    assert [part.shape for part in fused] == [high.shape, low.shape]
    assert min(part.min() for part in fused) == 0  # the ReLU comes after the sums
    assert not torch.equal(fused[0], other_low[0])
    assert not torch.equal(fused[1], other_high[1])


def test_the_context_of_a_pixel_is_the_whole_image() -> None:
    torch.manual_seed(0)
    pyramid = DeepAggregationPyramid(16, 8, 12).eval()
    features = torch.randn(1, 16, 40, 40)
    changed = features.clone()
    changed[..., -1, -1] += 10
    with torch.inference_mode():
        before, after = pyramid(features), pyramid(changed)
    assert before.shape == (1, 12, 40, 40)
    assert not torch.equal(before[..., 0, 0], after[..., 0, 0])


def test_the_benchmarks_peer_ends_at_a_quarter_of_the_size_with_doubled_logits() -> None:
    peer = build_quarter_peer("ddrnet_23_slim")
    images = torch.randn(1, 3, 64, 128)
    with torch.inference_mode():
        logits, eighth = peer(images), peer.native_logits(images)
    assert logits.shape == (1, 19, 16, 32)
    # half-pixel centres: the 2×2 pixels around a corner of four lie a quarter of the way from each
    weights = torch.tensor([0.75, 0.25])
    expected = (weights[:, None] * weights * eighth[0, :, 2:4, 4:6]).sum((1, 2))
    torch.testing.assert_close(logits[0, :, 5, 9], expected)
