"""The proof that an engine runs a bundle rightly, on engines whose answer is off by a known amount."""

from __future__ import annotations

import numpy as np
import pytest

from darkseg_ros.errors import BundleError
from darkseg_ros.model.backends.open import check_golden
from darkseg_ros.model.backends.protocol import EngineOutput
from darkseg_ros.model.bundle import ANY_MATCH, GoldenMatch, ModelBundle, load_bundle, load_golden
from tests.bundles import write_tiny_bundle


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    return load_bundle(write_tiny_bundle(tmp_path_factory.mktemp("bundle")))


class OffEngine:
    """The golden answer, with the class of one row and all confidences changed where several frames are asked for."""

    name = "off"
    batch_max = 2

    def __init__(self, bundle: ModelBundle) -> None:
        self._golden = load_golden(bundle)

    def __call__(self, frames: np.ndarray) -> EngineOutput:
        class_map = np.repeat(self._golden.class_map, len(frames), 0)
        confidence = np.repeat(self._golden.confidence, len(frames), 0).astype(np.int16)
        if len(frames) > 1:
            class_map[-1, 0] += 1
            confidence[-1] += np.where(confidence[-1] > 127, -40, 40)
        return EngineOutput(class_map, confidence.astype(np.uint8))

    def close(self) -> None:
        pass


def test_the_worst_of_all_batch_sizes_and_frames_is_told(tiny: ModelBundle) -> None:
    found = check_golden(OffEngine(tiny), tiny, ANY_MATCH)
    assert found == GoldenMatch(agreement=pytest.approx(63 / 64), confidence_difference=pytest.approx(40))


def test_an_engine_that_is_as_good_as_the_bundle_asks_is_taken(tiny: ModelBundle) -> None:
    found = check_golden(OffEngine(tiny), tiny, ANY_MATCH)
    assert check_golden(OffEngine(tiny), tiny, found) == found


@pytest.mark.parametrize(
    ("least", "told"),
    [
        (GoldenMatch(0.99, 255.0), r"98\.4% of the pixels, expected at least 99\.0%"),
        (GoldenMatch(0.9, 39.0), r"asked for 2 frames, .* confidence is 40\.0 of 255 off, expected at most 39\.0"),
    ],
)
def test_an_engine_that_is_worse_than_the_bundle_asks_is_refused(
    tiny: ModelBundle, least: GoldenMatch, told: str
) -> None:
    with pytest.raises(BundleError, match=told):
        check_golden(OffEngine(tiny), tiny, least)
