from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darkseg_ros.engine.logits_finish import finish_logits, finish_logits_numpy
from darkseg_ros.errors import EngineError

finish_logits_numba = pytest.importorskip("darkseg_ros.engine.numba_finish").finish_logits_numba
torch = pytest.importorskip("torch")


def finish_with_torch(logits: np.ndarray, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """The definition, by an independent implementation."""
    batch = torch.from_numpy(logits)[None]
    size = (logits.shape[1] * 4, logits.shape[2] * 4)
    full = torch.nn.functional.interpolate(batch, size=size, mode="bilinear", align_corners=False)
    quarter = torch.softmax(batch / temperature, 1).amax(1, keepdim=True)
    confidence = torch.nn.functional.interpolate(quarter, size=size, mode="bilinear", align_corners=False)
    return full[0].argmax(0).numpy().astype(np.uint8), confidence[0, 0].numpy() * 255


@settings(max_examples=30, deadline=None)
@given(
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    seed=st.integers(0, 2**32 - 1),
    temperature=st.floats(0.3, 3.0),
    scale=st.floats(0.1, 30),
)
def test_both_finishes_give_the_definition(
    height: int, width: int, seed: int, temperature: float, scale: float
) -> None:
    logits = np.random.default_rng(seed).normal(0, scale, (19, height, width)).astype(np.float32)
    expected_class, expected_confidence = finish_with_torch(logits, temperature)
    for finish in (finish_logits_numba, finish_logits_numpy):
        class_map, confidence = finish(logits, temperature)
        # a pixel may differ only where two classes tie to the last bit of float32
        assert (class_map == expected_class).mean() > 0.998
        assert np.abs(confidence - expected_confidence).max() <= 0.51


def test_ties_go_to_the_lower_train_id() -> None:
    logits = np.zeros((19, 3, 3), np.float32)
    for finish in (finish_logits_numba, finish_logits_numpy):
        class_map, confidence = finish(logits, 1.0)
        assert (class_map == 0).all()
        assert (confidence == round(255 / 19)).all()


def test_a_step_between_two_classes_falls_half_way_between_their_centres() -> None:
    logits = np.zeros((19, 1, 2), np.float32)
    logits[4, 0, 0] = 1.0
    logits[6, 0, 1] = 1.0
    class_map, _ = finish_logits(logits, temperature=1.0)
    assert class_map.tolist() == [[4, 4, 4, 4, 6, 6, 6, 6]] * 4


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_logits_that_are_no_numbers_are_no_answer(value: float) -> None:
    logits = np.zeros((19, 4, 4), np.float32)
    logits[7, 2, 3] = value
    with pytest.raises(EngineError, match="NaN or infinity"):
        finish_logits(logits, temperature=1.0)


def test_opposite_infinities_do_not_cancel() -> None:
    logits = np.zeros((19, 4, 4), np.float32)
    logits[7, 2, 3], logits[8, 2, 3] = np.inf, -np.inf
    with pytest.raises(EngineError, match="NaN or infinity"), np.errstate(invalid="ignore"):
        finish_logits(logits, temperature=1.0)
